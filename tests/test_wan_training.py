"""Tuning Wan weights on stored clips: LoRA and all weights."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file

from dreamontage import DreaMontagePipeline, Keyframe, media
from dreamontage.models import bundled
from dreamontage.training.datasets.pairs import Pair, write_pairs
from dreamontage.training.datasets.prompt_cache import PromptCache
from dreamontage.training.loop.recipe import Recipe, Setting
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.objectives.wan import StoredObjective, WanStudy
from dreamontage.training.recipes import RECIPES
from dreamontage.training.runs import latest, train
from dreamontage.training.synthetic import worlds
from tests.support.tiny import Z
from tests.support.training_data import SIDE, store_clips


def film(pipe: DreaMontagePipeline) -> torch.Tensor:
    still = worlds.clips(9, 1, frames=1, height=SIDE, width=SIDE)[0][0, :, 0]
    return pipe(
        "the camera pans left",
        conditions=[Keyframe(image=still, frame=8)],
        height=SIDE,
        width=SIDE,
        num_frames=9,
        num_inference_steps=2,
        guidance_scale=1.0,
        conditioning="interm",
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
    ).frames


def low_expert() -> Recipe:
    study = WanStudy(rank=2, latents=3, length=16, expert="transformer_2")
    return replace(RECIPES["wan_lora_smoke"], build=partial(StoredObjective, study=study))


def test_a_lora_is_what_diffusers_loads(tiny_i2v: Path, tiny_clips: Path, tmp_path: Path) -> None:
    folder = train("wan_lora_smoke", tmp_path, steps=3, init=tiny_i2v, data=tiny_clips)
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    before = film(pipe)
    pipe.load_lora_weights(folder)
    after = film(pipe)
    assert not torch.allclose(before, after)
    held = load_file(folder / "pytorch_lora_weights.safetensors")
    assert any("patch_embedding" in name for name in held), "the condition channels learn as well"
    pipe.unload_lora_weights()
    assert torch.equal(film(pipe), before), "the weights below are as they were"


def test_a_lora_takes_small_steps_beside_bfloat16_weights(
    tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    """At 1e-5 nine in ten weights of a LoRA in bfloat16 would never change."""
    study = WanStudy(rank=4, latents=3, length=16)
    setting = Setting(
        folder=tmp_path,
        device=torch.device("cpu"),
        seed=0,
        init=tiny_i2v,
        data=tiny_clips,
        bfloat16=True,
    )
    objective = StoredObjective(setting, study)
    trained = {n: p for n, p in objective.model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert objective.model.blocks[0].attn1.to_q.base_layer.weight.dtype == torch.bfloat16
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimiser = torch.optim.AdamW(trained.values(), lr=1e-5)
    for step in range(2):  # a LoRA's first half has no gradient before the second has moved
        optimiser.zero_grad()
        with setting.autocast():
            loss, _ = objective.loss(objective.model, objective.source.draw(step, 0, 1), seed=step)
        loss.backward()
        optimiser.step()
    moved = [float((p != before[name]).float().mean()) for name, p in trained.items()]
    assert min(moved) > 0.9


def test_all_weights_of_a_grown_text_to_video_model(
    tiny_t2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    folder = train("wan_full_smoke", tmp_path, steps=3, init=tiny_t2v, data=tiny_clips)
    pipe = DreaMontagePipeline.from_pretrained(folder)
    assert pipe.transformer.config.in_channels == 2 * Z + 4
    assert (pipe.config.conditioning, pipe.config.window_latents) == ("interm", 3)
    held = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert "vae/config.json" in held, "what determines its films is in its revision"
    assert film(pipe).isfinite().all()
    stock = WanTransformer3DModel.from_pretrained(tiny_t2v / "transformer")
    old, new = stock.patch_embedding.weight, pipe.transformer.patch_embedding.weight
    assert not torch.equal(old.bfloat16(), new[:, : old.shape[1]].bfloat16())
    assert new[:, old.shape[1] :].abs().max() > 0, "the new channels have left their zeros"


def test_the_low_noise_expert_is_trained_on_its_own_times(
    tiny_a14b: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    run = Trainer(low_expert(), tmp_path, init=tiny_a14b, data=tiny_clips, steps=2)
    objective: Any = run.objective
    assert objective.between == (0.0, 0.9)
    run.run()
    pipe = DreaMontagePipeline.from_pretrained(tiny_a14b)
    before = film(pipe)
    pipe.load_lora_weights(latest(tmp_path), load_into_transformer_2=True)
    assert not torch.allclose(film(pipe), before)
    assert not getattr(pipe.transformer, "peft_config", None)


def test_clips_curated_for_the_shipped_model_are_trained_on(tmp_path: Path) -> None:
    """`curate` encodes by its codec, which is no class of diffusers'."""
    model = bundled.weights("nano")
    train(
        "wan_lora_smoke", tmp_path, steps=1, init=model, data=store_clips(tmp_path / "set", model)
    )
    assert list((tmp_path / "sheets").iterdir())


def test_what_does_not_belong_together_is_refused(
    tiny_i2v: Path, tiny_clips: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ValueError, match="gone: there is no such folder"):
        train("wan_lora_smoke", tmp_path / "a", steps=1, init=tiny_i2v, data=tmp_path / "gone")
    with pytest.raises(ValueError, match="nano_smoke draws worlds of its own"):
        train("nano_smoke", tmp_path / "a", minutes=1, data=tiny_clips)
    with pytest.raises(ValueError, match="init and data: this recipe needs"):
        train("wan_lora_smoke", tmp_path / "a", steps=1, init=tiny_i2v)
    other = store_clips(tmp_path / "other", tiny_i2v, revision="another")
    with pytest.raises(ValueError, match="was encoded by another autoencoder"):
        train("wan_lora_smoke", tmp_path / "b", steps=1, init=tiny_i2v, data=other)
    with pytest.raises(ValueError, match="holds no transformer_2"):
        Trainer(low_expert(), tmp_path / "c", init=tiny_i2v, data=tiny_clips, steps=1)
    for name, kind, expected in (
        ("clip", "tiny_i2v_clip", "by an image encoder too"),
        ("clean", "tiny_ti2v", "as clean latents in place of the noise"),
    ):
        init: Path = request.getfixturevalue(kind)
        held = store_clips(tmp_path / name, init)
        with pytest.raises(ValueError, match=f"takes pictures {expected}"):
            train("wan_lora_smoke", tmp_path / f"{name} run", steps=1, init=init, data=held)
    few = store_clips(tmp_path / "few", tiny_i2v, clips=1)
    with pytest.raises(ValueError, match="no two clips of one size have 3 latents, 9 frames"):
        train("wan_lora_smoke", tmp_path / "d", steps=1, init=tiny_i2v, data=few)


def test_known_prompts_need_no_text_encoder(
    tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    train("wan_lora_smoke", tmp_path / "first", steps=2, init=tiny_i2v, data=tiny_clips)
    known = sorted((tiny_clips / "prompts").glob("*.safetensors"))
    assert known
    stamps = [file.stat().st_mtime_ns for file in known]
    train("wan_lora_smoke", tmp_path / "again", steps=2, init=tiny_i2v, data=tiny_clips)
    assert [file.stat().st_mtime_ns for file in known] == stamps


def test_of_a_prompt_no_more_is_kept_than_it_is_long(tiny_i2v: Path, tmp_path: Path) -> None:
    def cache() -> PromptCache:
        return PromptCache(
            tmp_path, model=tiny_i2v, length=64, device=torch.device("cpu"), dtype=torch.float32
        )

    prompts = ["a red star", "", "a red star jumps"]
    text = DreaMontagePipeline.from_pretrained(tiny_i2v)
    expected, _ = text.encode_prompt(prompts, "", False, max_sequence_length=64)
    encoded, read = cache()(prompts), cache()(prompts)
    assert torch.equal(encoded, read)
    assert torch.allclose(encoded, expected, atol=1e-5)
    lengths = sorted(len(load_file(file)["embedding"]) for file in tmp_path.iterdir())
    assert lengths[0] < lengths[1] < lengths[2] < 64


def film_file(path: Path, video_BCTHW: torch.Tensor) -> str:
    frames_THWC = ((video_BCTHW[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    with media.Encoder(
        path, width=SIDE, height=SIDE, fps=Fraction(16), profile=media.Profile.MEZZANINE
    ) as encoder:
        encoder.write(frames_THWC)
    return path.name


@pytest.fixture
def cut_pairs(tmp_path: Path) -> Path:
    """Films, and films with a hard cut: the form in which people's choices come."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    judged = []
    for number in range(4):
        whole = worlds.clips(number, 1, frames=11, height=SIDE, width=SIDE)[0]
        other = worlds.clips(50 + number, 1, frames=11, height=SIDE, width=SIDE)[0]
        torn = torch.cat((whole[:, :, :6], other[:, :, 6:]), 2)
        pair = Pair(
            prompt="the camera pans left",
            winner=film_file(folder / f"{number}a.mkv", whole),
            loser=film_file(folder / f"{number}b.mkv", torn),
            judge="a person",
            source="A",
        )
        judged.append(pair)
    write_pairs(folder / "pairs.jsonl", judged)
    return folder


def test_a_lora_learns_what_people_preferred(
    tiny_i2v: Path, cut_pairs: Path, tmp_path: Path
) -> None:
    recipe = RECIPES["wan_preference_smoke"]
    run = Trainer(recipe, tmp_path / "run", init=tiny_i2v, data=cut_pairs, steps=40)
    assert run.untrained["loss"] == pytest.approx(0.6931, abs=1e-4)
    losses = [float(run.train_step()) for _ in range(40)]
    assert losses[0] == pytest.approx(0.6931, abs=1e-4)
    assert sum(losses[-8:]) / 8 < 0.64
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    before = film(pipe)
    pipe.load_lora_weights(run.export())
    assert not torch.allclose(film(pipe), before)


def test_a_run_without_films_to_show_comes_to_its_end(
    tiny_i2v: Path, cut_pairs: Path, tmp_path: Path
) -> None:
    """Every recipe draws a sheet when it ends, and preferences have none to draw."""
    folder = train("wan_preference_smoke", tmp_path, steps=1, init=tiny_i2v, data=cut_pairs)
    assert (folder / "pytorch_lora_weights.safetensors").is_file()
    assert not (tmp_path / "sheets").exists()


def test_pairs_that_cannot_be_learnt_from(tiny_i2v: Path, cut_pairs: Path, tmp_path: Path) -> None:
    recipe = RECIPES["wan_preference_smoke"]
    short = worlds.clips(0, 1, frames=5, height=SIDE, width=SIDE)[0]
    film_file(cut_pairs / "0b.mkv", short)
    with pytest.raises(ValueError, match=r"'0a\.mkv' and loser = '0b\.mkv' are not of one size"):
        Trainer(recipe, tmp_path / "a", init=tiny_i2v, data=cut_pairs, steps=1)
    (cut_pairs / "1a.mkv").unlink()
    (cut_pairs / "2b.mkv").unlink()
    with pytest.raises(ValueError, match=r"(?s)line 2: winner .* line 3: loser"):
        Trainer(recipe, tmp_path / "b", init=tiny_i2v, data=cut_pairs, steps=1)
