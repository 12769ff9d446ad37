"""A shot longer than the window: segment after segment, one seamless film."""

from __future__ import annotations

import subprocess
import sys
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from dreamontage.pipeline.sar import fuse, tail_of
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import Segment, ShotPlan, plan_shot
from dreamontage.sampling.conditioning.model_inputs import Conditioning
from dreamontage.sampling.state import DenoiseState, state_from_bytes, state_to_bytes
from dreamontage.storyboard.placement import Placed
from tests.support.alignment import aligned_loads
from tests.support.tiny import Z

HEIGHT, WIDTH, FRAMES = 32, 48, 35  # padded to 37 frames: 10 latents


def plan(frames: int, conditions: list[Placed], geometry: Geometry) -> ShotPlan:
    return plan_shot(
        frames=frames,
        fps=Fraction(16),
        prompts=[],
        conditions=conditions,
        seed=0,
        geometry=geometry,
    )


@st.composite
def plans(draw: st.DrawFn) -> ShotPlan:
    frames = draw(st.integers(1, 2000))
    tail = draw(st.integers(1, 8))
    geometry = Geometry(tail_latents=tail, window_latents=tail + draw(st.integers(1, 40)))
    stills = draw(st.lists(st.integers(0, frames - 1), max_size=12))
    conditions = [
        Placed(index=index, kind="keyframe", frame=frame, frames=1)
        for index, frame in enumerate(stills)
    ]
    return plan(frames, conditions, geometry)


@given(plans(), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_fused_windows_cover_the_timeline_once_and_fade_over_the_tail(
    planned: ShotPlan, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    windows = [
        (segment, torch.randn(1, 2, segment.latents, 1, 1, generator=generator))
        for segment in planned.segments
    ]
    # The whole film at once: each window fades in over what is there already.
    film = torch.full((1, 2, planned.latents, 1, 1), torch.nan)
    for segment, latents in windows:
        for j in range(segment.latents):
            there, new = film[:, :, segment.start + j], latents[:, :, j]
            weight = (j + 1) / (segment.tail + 1)
            mixed = there + weight * (new - there)
            film[:, :, segment.start + j] = mixed if j < segment.tail else new
    fused = torch.cat(list(fuse(windows)), dim=2)
    assert fused.shape == film.shape
    torch.testing.assert_close(fused, film, rtol=1e-5, atol=1e-5)


@given(plans())
@settings(max_examples=100, deadline=None)
def test_windows_that_agree_are_joined_without_a_trace(planned: ShotPlan) -> None:
    film = torch.randn(1, 2, planned.latents, 1, 1)
    windows = ((each, film[:, :, each.start : each.stop]) for each in planned.segments)
    assert torch.equal(torch.cat(list(fuse(windows)), dim=2), film)


def test_fusing_holds_two_windows_however_long_the_film() -> None:
    planned = plan(1601, [], Geometry(window_latents=9, tail_latents=2))
    assert len(planned.segments) == 57
    alive: list[weakref.ref[Tensor]] = []
    pulled = joined = 0

    def windows() -> Iterator[tuple[Segment, Tensor]]:
        nonlocal pulled
        for segment in planned.segments:
            # The last window is still being joined; all before it are let go of and handed on.
            assert sum(each() is not None for each in alive) <= 1
            assert pulled - joined <= 9
            latents = torch.zeros(1, 1, segment.latents, 1, 1)
            alive.append(weakref.ref(latents))
            pulled += segment.new
            yield segment, latents
            del latents

    for run in fuse(windows()):
        joined += run.shape[2]
        del run
    assert joined == pulled == planned.latents


def test_the_tail_is_the_end_of_the_window_before_as_it_was_made() -> None:
    previous = torch.arange(5.0).view(1, 1, 5, 1, 1)
    first, second = plan(33, [], Geometry(window_latents=5, tail_latents=2)).segments[:2]
    tail = tail_of(second, previous)
    assert tail is not None
    assert tail.flatten().tolist() == [3.0, 4.0]
    assert tail_of(first, previous) is None


# A still in the first window's overlap with the second, a clip over the seam of the last two: its
# grid frames are 24 to 31, latents 6, 7 and three quarters of 8.
PICTURES = np.random.default_rng(0).integers(0, 255, (11, HEIGHT, WIDTH, 3), dtype=np.uint8)
CONDITIONS: list[Keyframe | Clip] = [
    Keyframe(image=PICTURES[10], frame=5),
    Clip(frames=list(PICTURES[:10]), frame=22),
]
STEPS, GUIDANCE = 3, 2.0


def plan_of(pipe: DreaMontagePipeline) -> ShotPlan:
    still = Placed(index=0, kind="keyframe", frame=5, frames=1)
    clip = Placed(index=1, kind="clip", frame=22, frames=10)
    return plan(FRAMES, [still, clip], pipe.geometry)


def film_of(pipe: DreaMontagePipeline, **overrides: Any) -> Tensor:
    call: dict[str, Any] = {
        "prompt": "",
        "conditions": CONDITIONS,
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "output_type": "pt",
    }
    return pipe(**call | overrides).frames


def encoded(pipe: DreaMontagePipeline, frames_THWC: np.ndarray) -> Tensor:
    video = torch.from_numpy(frames_THWC.astype(np.float32) / 255).permute(3, 0, 1, 2)
    return autoencoder.encode(pipe.vae, 2 * video[None] - 1)


@torch.no_grad()
def test_a_shot_of_many_segments_equals_the_loop_written_out(tiny_ours: Path) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segments = plan_of(pipe).segments
    assert [(each.start, each.stop) for each in segments] == [(0, 3), (2, 6), (5, 9), (8, 10)]

    # The channels of the whole shot: four of mask, then the latents.
    channels = torch.zeros(1, 4 + Z, 10, HEIGHT // 8, WIDTH // 8)
    channels[:, 0, 2] = 1
    channels[:, 4:, 2:3] = encoded(pipe, PICTURES[10:])
    channels[:, 3, 6] = channels[:, 0:4, 7] = channels[:, 0:3, 8] = 1
    channels[:, 4:, 6:9] = encoded(pipe, PICTURES[[2, 3, 4, 5, 6, 7, 8, 9, 9]])
    given, free = pipe.encode_prompt("", "", max_sequence_length=32)

    film = torch.zeros(1, Z, 10, HEIGHT // 8, WIDTH // 8)
    made = film
    for segment in segments:
        condition = channels[:, :, segment.start : segment.stop].clone()
        if segment.index:
            condition[:, :4, 0] = 1
            condition[:, 4:, 0] = made[:, :, -1]
        latents = torch.randn(
            (1, Z, *condition.shape[2:]), generator=torch.Generator().manual_seed(segment.seed)
        )
        scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
        scheduler.set_timesteps(STEPS)
        for t in scheduler.timesteps:
            with_prompt, without = (
                pipe.transformer(torch.cat([latents, condition], dim=1), t[None], text).sample
                for text in (given, free)
            )
            velocity = without + GUIDANCE * (with_prompt - without)
            latents = scheduler.step(velocity, t, latents).prev_sample
        made = latents
        if segment.index:  # one latent of overlap, half of each
            latents = latents.clone()
            latents[:, :, 0] = torch.lerp(film[:, :, segment.start], latents[:, :, 0], 0.5)
        film[:, :, segment.start : segment.stop] = latents
    assert torch.equal(film_of(pipe, output_type="latent"), film)
    video = pipe.vae.decode(autoencoder.denormalise(pipe.vae, film)).sample[:, :, :FRAMES]
    expected = pipe.video_processor.postprocess_video(video, output_type="pt")
    assert torch.equal(film_of(pipe), expected)


@pytest.mark.parametrize("conditioning", ["interm", "native"])
def test_a_window_depends_only_on_the_conditions_that_its_segment_names(
    tiny_ours: Path, conditioning: Conditioning
) -> None:
    """A farm's worker loads no others, and a segment's key holds no others."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    shot = pipe.track(CONDITIONS, HEIGHT, WIDTH, conditioning)
    for segment in plan_of(pipe).segments:
        named = [CONDITIONS[index] for index in segment.conditions]
        own = pipe.track(named, HEIGHT, WIDTH, conditioning)
        like = torch.zeros(1, Z, segment.latents, HEIGHT // 8, WIDTH // 8)
        tail = like[:, :, : segment.tail] if segment.tail else None
        assert torch.equal(own.channels(segment, tail, like), shot.channels(segment, tail, like))


def segment_states(
    pipe: DreaMontagePipeline, index: int, previous: Tensor | None, state: DenoiseState | None
) -> Iterator[DenoiseState]:
    return pipe.denoise_segment(
        plan_of(pipe).segments[index],
        track=pipe.track(CONDITIONS, HEIGHT, WIDTH),
        previous_BCLHW=previous,
        height=HEIGHT,
        width=WIDTH,
        sampler=pipe.sampler(STEPS, GUIDANCE),
        state=state,
    )


def finish(folder: Path, work: Path) -> None:
    """Render the rest of the shot from what ``work`` holds, as a new process does."""
    with aligned_loads():
        pipe = DreaMontagePipeline.from_pretrained(folder)
    windows = [load_file(work / "segment0")["latents"]]
    state: DenoiseState | None = state_from_bytes((work / "state").read_bytes())
    segments = plan_of(pipe).segments
    for segment in segments[1:]:
        states = segment_states(pipe, segment.index, windows[-1], state)
        windows.append(list(states)[-1].latents_BCLHW)
        state = None
    runs = fuse(zip(segments, windows, strict=True))
    video = torch.cat(list(autoencoder.decode(pipe.vae, runs)), dim=2)[:, :, :FRAMES]
    save_file({"video": video.contiguous()}, work / "film")


def test_stopped_in_the_second_segment_and_resumed_in_a_new_process(
    tiny_ours: Path, tmp_path: Path
) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    first = list(segment_states(pipe, 0, None, None))[-1].latents_BCLHW
    save_file({"latents": first}, tmp_path / "segment0")
    second = segment_states(pipe, 1, first, None)
    next(second)
    state = next(second)
    assert 0 < state.step < state.total
    (tmp_path / "state").write_bytes(state_to_bytes(state))
    script = (
        "import sys, pathlib; from tests.test_sar import finish\n"
        "finish(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    )
    subprocess.run(
        [sys.executable, "-c", script, tiny_ours, tmp_path],
        check=True,
        cwd=Path(__file__).parents[1],
    )
    resumed = load_file(tmp_path / "film")["video"]
    whole = film_of(pipe)
    assert torch.equal(pipe.video_processor.postprocess_video(resumed, output_type="pt"), whole)


def test_frames_beyond_a_whole_latent_are_rendered_and_cut_away(tiny_ours: Path) -> None:
    """A shot of any length begins as the shot padded to 1 + 4k frames does, and loses no frame."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    call = {"conditions": CONDITIONS[:1], "guidance_scale": 1.0, "num_inference_steps": 2}
    whole = film_of(pipe, num_frames=21, **call)
    for frames in (18, 19, 20):
        assert torch.equal(film_of(pipe, num_frames=frames, **call), whole[:, :frames])
    assert film_of(pipe, num_frames=1, **call | {"conditions": []}).shape[1] == 1


def test_a_generator_is_drawn_from_segment_after_segment(tiny_ours: Path) -> None:
    """As in diffusers: the same generator gives the same film, and goes on from where it was."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    call = {"conditions": [], "guidance_scale": 1.0, "num_inference_steps": 2, "num_frames": 21}
    generator = torch.Generator().manual_seed(4)
    one, two = (film_of(pipe, generator=generator, **call) for _ in range(2))
    assert not torch.equal(one, two)
    assert torch.equal(film_of(pipe, generator=generator.manual_seed(4), **call), one)
    assert not torch.equal(film_of(pipe, **call), one), "without one, the segments' own seeds"
