"""Training the DiT: conditions as at inference, a loss that falls, and runs that survive a kill."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dreamontage.models import autoencoder
from dreamontage.models.text import embed
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe, Placement
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of
from dreamontage.training.datasets import windows
from dreamontage.training.datasets.windows import WindowConditions
from dreamontage.training.loop.muon import Muon
from dreamontage.training.loop.recipe import Recipe
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.objectives import flow_matching, nano
from dreamontage.training.objectives.adaptive import Shape, Study, WindowsObjective
from dreamontage.training.runs import latest
from dreamontage.training.synthetic import worlds

WEIGHTS = "diffusion_pytorch_model.safetensors"
SIZE = nano.Size(heads=1, layers=1, ffn=64, z_dim=8)
STUDY = Study(
    shapes=(
        Shape(weight=1, latents=3, height=16, width=32, batch=2),
        Shape(weight=1, latents=4, height=32, width=16, batch=2, closes=0.9),
    ),
    size=SIZE,
    codec_batches=1,
    held_out=2,
    sampling=False,
)


def tiny(study: Study = STUDY, **overrides: Any) -> Recipe:
    build = partial(WindowsObjective, study=study)
    options: dict[str, Any] = {"name": "tiny", "build": build, "warmup": 1}
    return Recipe(**options | overrides)


@pytest.fixture(scope="module")
def frozen() -> nano.Frozen:
    return nano.build_frozen(seed=0, z_dim=8, batches=1, size=32)


def _guides() -> list[tuple[WindowConditions, bool]]:
    return [
        (WindowConditions(stills=(0, 6, 16)), False),
        (WindowConditions(stills=(13,), clips=((0, 7),)), False),
        (WindowConditions(stills=(3,), clips=((8, 9),)), False),
        (WindowConditions(clips=((4, 3),)), False),
        (WindowConditions(tail=2), True),
        (WindowConditions(tail=1, stills=(6, 12, 20)), True),
        (WindowConditions(tail=1, clips=((8, 6),), stills=(17,)), True),
        (WindowConditions(clips=((0, 6), (12, 5))), False),
    ]


@pytest.mark.parametrize(("guide", "middle"), _guides())
def test_conditions_are_those_of_inference(
    frozen: nano.Frozen, guide: WindowConditions, middle: bool
) -> None:
    """What training builds for a batch equals what `IntermTrack` builds for one shot.

    A middle window is the latents from 1 on of a longer shot. A clip's later latents are drawn from
    the posterior in training; with its variance at nothing they are inference's.
    """
    vae = frozen.vae
    certain = type(vae).from_config(vae.config, noise_logvar=-30.0)
    certain.load_state_dict(vae.state_dict())
    latents, skip = 5, int(middle)
    frames = 1 + TEMPORAL_STRIDE * (latents - 1 + skip)
    video_BCTHW, prompts, _ = worlds.clips(2, 1, frames=frames, height=16, width=24)
    built = windows.build(
        certain, video_BCTHW, [guide], prompts, middle=middle, generator=torch.Generator()
    )

    def encode(video: torch.Tensor) -> torch.Tensor:
        return autoencoder.encode(vae, video)

    conditions: list[Keyframe | Clip] = [
        Keyframe(image=video_BCTHW[0, :, frame], frame=frame) for frame in guide.stills
    ]
    for start, count in guide.clips:
        run = [video_BCTHW[0, :, frame] for frame in range(start, start + count)]
        conditions.append(Clip(frames=run, frame=start))
    placed: list[Placement] = [condition.place(encode, 16, 24) for condition in conditions]
    whole = encode(video_BCTHW)[:, :, skip:]
    tail = whole[:, :, : guide.tail] if guide.tail else None
    expected = IntermTrack(placed).window(skip, skip + latents, tail, whole)
    assert torch.equal(built.condition_BCLHW[:, :4], expected[:, :4])
    assert torch.allclose(built.condition_BCLHW, expected, atol=1e-4)
    assert torch.equal(built.latents_BZLHW, whole)


def test_guides_stay_in_the_window_and_every_kind_is_drawn() -> None:
    rng = random.Random(0)
    seen = {"stills": 0, "clip": 0, "clips": 0, "nothing": 0, "long tail": 0}
    for turn in range(2000):
        middle = bool(turn % 2)
        latents = rng.randint(3, 13)
        guide = windows.draw_conditions(
            rng, latents=latents, middle=middle, tail=2, boundaries=[5, 9]
        )
        assert (guide.tail >= 1) == middle
        assert guide.tail < latents
        first = TEMPORAL_STRIDE * guide.tail + middle
        last = TEMPORAL_STRIDE * (latents - 1 + middle)
        assert all(first <= frame <= last for frame in guide.stills)
        spans: list[int] = []
        for start, frames in guide.clips:
            spans += range(latent_of(start), latent_of(start + frames - 1) + 1)
            assert start % TEMPORAL_STRIDE == 0
            assert frames >= 1
            assert first <= start
            assert start + frames - 1 <= last
        assert len(spans) == len(set(spans)), "clips stand apart"
        seen["clip"] += len(guide.clips) == 1
        seen["clips"] += len(guide.clips) == 2
        seen["stills"] += bool(guide.stills)
        seen["nothing"] += not guide.stills and not guide.clips
        seen["long tail"] += guide.tail > 2
    assert all(count > 40 for count in seen.values()), seen


def test_times_follow_the_samplers_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    times = flow_matching.draw_times(20000, shift=3.0, uniform=0.0, generator=generator)
    assert times.median() == pytest.approx(0.75, abs=0.01)
    even = flow_matching.draw_times(20000, shift=3.0, uniform=1.0, generator=generator)
    assert even.mean() == pytest.approx(0.5, abs=0.01)


def test_a_few_steps_lower_the_loss_on_a_fixed_batch(frozen: nano.Frozen) -> None:
    scenes = worlds.sample(1, 2, frames=21, height=16, width=32)
    batch = windows.draw(frozen.vae, scenes, latents=3, middle=False, tail=2, seed=1)
    prompts_BSD = embed(frozen.tokenizer, frozen.text_encoder, batch.prompts)
    generator = torch.Generator().manual_seed(0)
    clean = batch.latents_BZLHW
    noise = torch.randn(clean.shape, generator=generator)
    model = nano.build_transformer(SIZE)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = flow_matching.velocity_errors(
            model,
            clean,
            batch.condition_BCLHW,
            prompts_BSD,
            times_B=torch.tensor([0.4, 0.8]),
            noise_BZLHW=noise,
        ).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    velocity = noise - clean
    assert losses[0] == pytest.approx(float(velocity.square().mean()), rel=1e-4), "starts at zero"
    assert losses[-1] < 0.6 * losses[0]


def test_training_samples_as_the_pipeline_does(tmp_path: Path) -> None:
    """`flow_matching.sample` and the pipeline make the same latents from the same noise."""
    run = Trainer(tiny(), tmp_path, steps=9)
    for _ in range(2):
        run.train_step()
    pipe = DreaMontagePipeline.from_pretrained(run.export())
    pipe.register_to_config(initial_noise_scale=1.0)
    noise = torch.randn(1, 8, 3, 2, 4, generator=torch.Generator().manual_seed(3))
    film = pipe(
        "pan left",
        height=16,
        width=32,
        num_frames=9,
        num_inference_steps=nano.STEPS,
        generator=torch.Generator().manual_seed(3),
        output_type="latent",
    ).frames
    made = flow_matching.sample(
        pipe.transformer,
        torch.zeros(1, 12, 3, 2, 4),
        embed(pipe.tokenizer, pipe.text_encoder, ["pan left"]),
        noise_BZLHW=noise,
        steps=nano.STEPS,
        shift=nano.FLOW_SHIFT,
    )
    assert torch.allclose(made, film, atol=1e-5)


@pytest.mark.parametrize("muon", [True, False])
def test_a_run_resumed_after_a_kill_ends_with_the_same_bits(tmp_path: Path, muon: bool) -> None:
    recipe = tiny(muon=muon, decay=0.5, block=2, pool=2, uses=2 - int(muon), prefetch=int(muon))
    whole = Trainer(recipe, tmp_path / "whole", steps=6)
    whole.run()
    killed = Trainer(recipe, tmp_path / "killed", steps=6)
    for _ in range(3):
        killed.train_step()
    killed.save()
    killed.train_step()  # lost
    (tmp_path / "killed" / "checkpoints" / ".checkpoint-000000009.partial").mkdir()  # half written
    resumed = Trainer(recipe, tmp_path / "killed", steps=6)
    assert resumed.step == 3
    resumed.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert whole.state.ema is not None
    assert resumed.state.ema is not None
    for one, other in zip(
        whole.state.ema.shadow_params, resumed.state.ema.shadow_params, strict=True
    ):
        assert torch.equal(one, other)
    assert (whole.examples, whole.untrained) == (resumed.examples, resumed.untrained)
    names = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").glob("checkpoint-*"))
    assert names == ["checkpoint-000000003", "checkpoint-000000006"]
    with pytest.raises(ValueError, match="holds a run of tiny"):
        Trainer(replace(recipe, name="other"), tmp_path / "killed")


def test_a_run_started_from_other_weights_must_name_them_again(tmp_path: Path) -> None:
    """A recipe's own model may have another shape than the one that it was begun with."""
    first = Trainer(tiny(), tmp_path / "first", steps=1)
    first.run()
    wider = tiny(replace(STUDY, size=replace(SIZE, layers=2)))
    init = latest(tmp_path / "first")
    Trainer(wider, tmp_path / "run", init=init, steps=1).run()
    with pytest.raises(ValueError, match="of another shape; if it was begun with --init, that"):
        Trainer(wider, tmp_path / "run", steps=2)
    assert Trainer(wider, tmp_path / "run", init=init, steps=2).step == 1


def test_batches_drawn_ahead_are_those_drawn_at_once(tmp_path: Path) -> None:
    """A thread changes nothing: not even where a shape's time ends with the run's progress."""
    runs = {}
    for prefetch in (0, 2):
        run = Trainer(tiny(prefetch=prefetch, block=3), tmp_path / str(prefetch), steps=10)
        run.run()
        runs[prefetch] = run
    for one, other in zip(runs[0].model.parameters(), runs[2].model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_steps_as_torchs_own() -> None:
    torch.manual_seed(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5)]
    ours, theirs = (
        [
            torch.nn.Parameter(torch.randn(s, generator=torch.Generator().manual_seed(i)))
            for i, s in enumerate(shapes)
        ]
        for _ in range(2)
    )
    mine = Muon(ours, lr=1e-2, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape)
            other.grad = one.grad.clone()
        mine.step()
        reference.step()
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-3)  # its matrices are rounded to bfloat16


def test_the_rate_rises_holds_and_falls(tmp_path: Path) -> None:
    run = Trainer(tiny(warmup=10, decay=0.25, learning_rate=1e-3), tmp_path)
    assert run.learning_rate(0.0) == pytest.approx(1e-4)
    run.step = 100
    assert run.learning_rate(0.5) == run.learning_rate(0.75) == pytest.approx(1e-3)
    assert run.learning_rate(0.875) == pytest.approx(5e-4)
    assert run.learning_rate(1.0) == 0


def test_an_export_is_a_folder_that_the_pipeline_renders_with(tmp_path: Path) -> None:
    run = Trainer(tiny(replace(STUDY, sampling=True)), tmp_path, steps=9)
    run.train_step()
    run.export()
    folder = run.export()  # a second time over the first
    assert latest(tmp_path) == folder
    facts = json.loads((folder / "training.json").read_text())
    assert (facts["step"], facts["examples"]) == (1, 2)
    card = (folder / "README.md").read_text()
    assert "smoke: barely trained" in card
    for name in ("loss", "motion", "flicker", "sharpness"):
        now, then = facts["scores"][name], facts["untrained"][name]
        assert f"| {name} | {now:.4g} | {then:.4g} |" in card
    pipe = DreaMontagePipeline.from_pretrained(folder)
    assert (pipe.geometry.window_latents, pipe.geometry.tail_latents) == (13, 2)
    assert pipe.config.release_stage == "smoke"
    assert pipe.transformer.dtype == torch.float32
    stored = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    with run.state.averaged():
        averaged = run.state.whole()
    for name, value in pipe.transformer.named_parameters():
        assert torch.equal(value, averaged[name].half().float()), name
        assert stored[name].dtype == torch.float16
    clip_BCTHW = worlds.clips(0, 1, frames=1, height=16, width=32)[0]
    still = (clip_BCTHW[0, :, 0].movedim(0, -1) * 127.5 + 127.5).byte().numpy()
    film = pipe(
        "[0, 0.5] zoom in; [0.5, 1] the camera pans left",
        conditions=[Keyframe(image=still, frame=7)],
        height=16,
        width=32,
        num_frames=18,
        num_inference_steps=2,
    ).frames
    assert film.shape == (1, 18, 16, 32, 3)


def test_a_sheet_shows_original_conditions_and_sample(tmp_path: Path) -> None:
    Trainer(tiny(replace(STUDY, held_out=1)), tmp_path).sheet()
    (path,) = (tmp_path / "sheets").iterdir()
    assert path.stat().st_size > 1000
