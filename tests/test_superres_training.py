"""Training of super-resolution: its inputs are those of the upscaling stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamontage.models import autoencoder
from dreamontage.models.codec import LinearCodec
from dreamontage.pipeline.upscale.enlarge import enlarge
from dreamontage.pipeline.upscale.model import SrModel
from dreamontage.pipeline.upscale.stage import appended_frames
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.training.datasets.windows import WindowConditions, build
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching, nano, remaking, superres
from dreamontage.training.objectives.adaptive import Shape, Study
from dreamontage.training.objectives.superres import SuperresObjective
from dreamontage.training.synthetic import worlds

SIDE, FRAMES = 48, 17


@pytest.fixture(scope="module")
def small_codec() -> LinearCodec:
    return LinearCodec.fit([worlds.clips(0, 16, frames=9, height=32, width=32)[0]], z_dim=8)


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return worlds.clips(3, 1, frames=FRAMES, height=SIDE, width=SIDE)[0]


def test_the_enlarged_film_is_the_stages(small_codec: LinearCodec, video: torch.Tensor) -> None:
    made = superres.enlarged(small_codec, video, scale=2.0, middle=False)
    small_NCHW = torch.nn.functional.interpolate(
        video[0].transpose(0, 1), (SIDE // 2, SIDE // 2), mode="bilinear", antialias=True
    )
    base = autoencoder.encode(small_codec, small_NCHW.transpose(0, 1)[None])
    stage = torch.cat(
        list(enlarge(small_codec, base.split(1, dim=2), (SIDE, SIDE), (SIDE, SIDE))), 2
    )
    assert torch.allclose(made, stage, atol=1e-4)
    generator = torch.Generator().manual_seed(0)

    def degrade(small: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        assert small.shape[-1] == SIDE // 2
        return remaking.noisy(latents, generator)

    spoilt = superres.enlarged(small_codec, video, scale=2.0, middle=False, degrade=degrade)
    assert not torch.allclose(spoilt, stage, atol=0.05)


def test_a_middle_window_leaves_its_past_away(
    small_codec: LinearCodec, video: torch.Tensor
) -> None:
    whole = superres.enlarged(small_codec, video, scale=2.0, middle=False)
    middle = superres.enlarged(small_codec, video, scale=2.0, middle=True)
    assert torch.equal(middle, whole[:, :, 1:])


def test_a_remade_film_stays_where_the_true_one_is() -> None:
    """With the true velocity, Euler's method ends at the clean film; without, at the noisy one."""
    clean = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    beside = (torch.zeros(2, 7, 4, 5, 5), torch.zeros(2, 1, 1))
    options: dict[str, Any] = {"noise_BZLHW": noise, "last": 2, "steps": 6, "shift": 3.0}

    def true_velocity(**_: object) -> tuple[torch.Tensor]:
        return (noise - clean,)

    def no_velocity(*, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor]:
        return (torch.zeros_like(hidden_states[:, :3]),)

    assert torch.allclose(
        flow_matching.resample_last_steps(true_velocity, clean, *beside, **options),
        clean,
        atol=1e-5,
    )
    sigmas = flow_matching.make_scheduler(6, 3.0).sigmas
    noisy = torch.lerp(clean, noise, float(sigmas[-3]))
    assert torch.allclose(
        flow_matching.resample_last_steps(no_velocity, clean, *beside, **options), noisy
    )


def test_what_is_appended_is_the_stages(small_codec: LinearCodec, video: torch.Tensor) -> None:
    window_conditions = WindowConditions(stills=(6,), clips=((12, 5),))
    built = build(
        small_codec, video, [window_conditions], [""], middle=False, generator=torch.Generator()
    )
    places = superres.shared_places(window_conditions, middle=False)
    mine = superres.shared_frames_of(built.condition_BCLHW, places)

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        return autoencoder.encode(small_codec, pixels)

    conditions: list[Keyframe | Clip] = [
        Keyframe(image=video[0, :, 6], frame=6),
        Clip(frames=list(video[0, :, 12:17].unbind(1)), frame=12),
    ]
    track = IntermTrack(each.place(encode, SIDE, SIDE) for each in conditions)
    stage, stage_places = appended_frames(track, 0, 5, built.latents_BZLHW)
    assert stage is not None
    assert places == stage_places == [2, 3]
    assert torch.allclose(mine, stage, atol=1e-5)


def test_sizes_that_come_from_the_codecs_grid() -> None:
    assert superres.scales_of(144, 144) == [1.5, 2.0, 2.25]
    assert superres.scales_of(160, 256) == [2.0]


def test_a_model_is_made_for_the_codec_that_it_starts_from(tmp_path: Path) -> None:
    frozen = nano.build_frozen(seed=0, z_dim=6, batches=1, size=32)
    nano.save_frozen(tmp_path / "init", frozen)
    size = nano.Size(heads=1, layers=1, ffn=64, z_dim=8, patch=(1, 2, 2))
    transformer = nano.build_transformer(replace(size, z_dim=6))
    transformer.save_pretrained(tmp_path / "init" / "transformer")
    study = Study(
        shapes=(Shape(weight=1, latents=2, height=32, width=32, batch=2),), size=size, held_out=2
    )
    setting = Setting(folder=tmp_path, device=torch.device("cpu"), seed=0, init=tmp_path / "init")
    objective = SuperresObjective(setting, study)
    assert objective.source.base_dit is not None, "what it starts from makes the small films"
    loss, _ = objective.loss(objective.model, objective.source.draw(0, 0.5, 1), seed=0)
    assert loss.isfinite()
    assert objective.model.config.out_channels == 6


def test_a_run_learns_with_the_tokens_and_without(tmp_path: Path) -> None:
    study = Study(
        shapes=(Shape(weight=1, latents=3, height=32, width=32, batch=2),),
        size=nano.Size(heads=1, layers=1, ffn=64, z_dim=8, patch=(1, 2, 2)),
        codec_batches=1,
        held_out=2,
    )
    objective = SuperresObjective(
        Setting(folder=tmp_path, device=torch.device("cpu"), seed=0), study
    )
    kinds = set()
    for seed in range(20):
        batch = objective.source.draw(seed, 0.5, 2)
        assert len(batch["latents"]) == 4
        assert len(batch["frames"]) == (batch["shared"].shape[2] if "shared" in batch else 0)
        kinds.add("shared" in batch)
        loss, count = objective.loss(objective.model, batch, seed=seed)
        loss.backward()
        assert count == 4
    assert kinds == {True, False}
    scores = objective.scores(objective.model)
    unchanged = pytest.approx(scores["enlarged_psnr"], abs=1)
    assert scores["psnr"] == unchanged, "what has learnt nothing changes nothing"
    facts = {"recipe": "r", "examples": 4, "step": 1, "hardware": "a CPU", "training_seconds": 1}
    facts |= {"scores": scores, "untrained": scores}
    state = {name: value.detach() for name, value in objective.model.state_dict().items()}
    objective.export(state, tmp_path / "exported", facts)
    upscaler = SrModel.from_folder(tmp_path / "exported").upscaler(1.5)
    assert upscaler.tile_latents == (4, 4), "as large as what was seen: 32 pixels"
    assert upscaler.spread == 0
