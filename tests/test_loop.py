"""A loop moves on from its last frame to its first: the closing window is given the film's head."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from dreamontage import Clip, DreaMontagePipeline, Keyframe, storyboard, timeline
from dreamontage.models import autoencoder
from dreamontage.planning import keys, loops
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.rendering import local
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.storyboard import PromptSpan, variants
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.placement import Placed, clashes, on_loop_end
from tests.support.tiny import IMAGE_WIDTH, Z
from tests.test_plan import NINE, clip, spans, still

FPS = Fraction(16)


def plan(
    frames: int,
    *conditions: Placed,
    geometry: Geometry = NINE,
    prompts: list[PromptSpan] | None = None,
    fps: Fraction = FPS,
    loops: bool = True,
) -> ShotPlan:
    return plan_shot(
        frames=frames,
        fps=fps,
        prompts=prompts or [],
        conditions=conditions,
        seed=7,
        geometry=geometry,
        loop=loops,
    )


@st.composite
def loop_plans(draw: st.DrawFn) -> tuple[int, list[Placed], Geometry]:
    tail = draw(st.integers(1, 8))
    geometry = Geometry(tail_latents=tail, window_latents=tail + 2 + draw(st.integers(0, 40)))
    least = loops.shortest_loop(geometry)
    frames = 4 * draw(st.integers(least // 4, 500))
    conditions: list[Placed] = []
    # None begins on the last latent, where none can stand.
    for frame in draw(st.lists(st.integers(0, frames - 4), max_size=12)):
        length = draw(st.integers(0, frames - frame))
        index = len(conditions)
        conditions.append(clip(frame, length, index) if length else still(frame, index))
    return frames, conditions, geometry


@given(loop_plans())
@settings(max_examples=300, deadline=None)
def test_a_loops_windows_cover_it_once_and_the_closing_one_meets_its_head(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = plan(frames, *conditions, geometry=geometry)
    *before, closing = planned.segments
    assert before, "the closing window comes after the one whose head it is given"
    assert planned.frames == frames
    assert planned.padded_frames == frames + 1, "frame N is rendered, and is the first again"
    added = [
        latent
        for segment in planned.segments
        for latent in range(
            segment.start + segment.tail, segment.start + segment.tail + segment.new
        )
    ]
    assert added == list(range(frames // 4 + 1)) == list(range(planned.latents))
    for segment in planned.segments:
        assert segment.new >= 1
        assert segment.latents <= geometry.window_latents
        assert segment.tail == (geometry.tail_latents if segment.index else 0)
    for one, other in pairwise(planned.segments):
        assert other.tail == one.stop - other.start
        assert one.start < other.start

    assert [segment.head for segment in before] == [0] * len(before)
    assert closing.head >= 2, "a still's latent, and movement"
    assert timeline.frames_of(closing.stop - closing.head)[-1] == frames
    assert closing.start + closing.tail <= frames // 4, "it makes the film's last latent itself"
    # What it is given is the first window's alone: no fusion with the second has touched it.
    assert planned.segments[1].start >= closing.head
    # It begins as soon as it can, so that there is room to come back, but behind a boundary.
    earliest = max(closing.stop - geometry.window_latents, closing.head) + closing.tail
    latest = min(before[-1].start + geometry.window_latents, frames // 4)
    boundaries = {at for each in conditions for at in (each.latents[0] + 1, each.latents[-1] + 1)}
    inside = boundaries & set(range(earliest, latest + 1))
    assert before[-1].stop == min(inside, default=earliest)
    for segment in before[:-1]:
        shortest = (
            segment.start + geometry.tail_latents + 1
            if segment.index
            else closing.head + closing.tail
        )
        reach = range(shortest, segment.start + geometry.window_latents + 1)
        assert segment.stop == max(boundaries & set(reach), default=reach[-1])


@given(loop_plans())
@settings(max_examples=200, deadline=None)
def test_every_condition_of_a_loop_is_in_every_window_that_holds_its_latents(
    shot: tuple[int, list[Placed], Geometry],
) -> None:
    frames, conditions, geometry = shot
    planned = plan(frames, *conditions, geometry=geometry)
    for condition in conditions:
        own, reached = set(condition.latents), set[int]()
        for segment in planned.segments:
            here = own & set(range(segment.start, segment.stop))
            assert (condition.index in segment.conditions) == bool(here)
            reached |= here
        assert reached == own


def test_a_loops_first_windows_are_those_of_the_same_shot_without_loop() -> None:
    """So they share what they have in common."""
    looping, straight = (
        plan(160, still(40), prompts=spans((0, 5, "in"), (5, 10, "out"))),
        plan(160, still(40), prompts=spans((0, 5, "in"), (5, 10, "out")), loops=False),
    )
    assert looping.segments[:3] == straight.segments[:3]
    assert [each.start for each in looping.segments] == [0, 7, 9, 16, 23, 30, 34]


def test_the_closing_window_shows_the_first_prompt_again() -> None:
    prompts = spans((0, 2, "zoom in"), (2, 4, "zoom out"))
    closing = plan(64, prompts=prompts).segments[-1]
    # Latents 10 to 18: frames 37 to 63, then 64 to 72, which are 0 to 8.
    assert (closing.start, closing.stop) == (10, 19)
    assert closing.prompt == "[0, 1.69] zoom out; [1.69, 2.25] zoom in"
    assert [each.prompt for each in plan(64, prompts=spans((0, None, "a"))).segments] == ["a"] * 3
    turned = plan(64, prompts=spans((0, 1, "a"), (1, 3, "b"), (3, None, "a")))
    assert turned.segments[-1].prompt == "[0, 0.69] b; [0.69, 2.25] a"


def test_a_prompt_to_the_end_holds_to_the_end_of_a_rounded_loop() -> None:
    # 5.08 s at 25 frames a second are 127 frames; the loop has 128.
    planned = plan(128, prompts=spans((0, 5.08, "a")), fps=Fraction(25))
    assert {segment.prompt for segment in planned.segments} == {"a"}


@given(st.integers(2, 60), st.integers(1, 20), st.integers(1, 300))
@settings(max_examples=200, deadline=None)
def test_a_loop_is_planned_or_refused_with_its_shortest_length(
    window: int, tail: int, quarter: int
) -> None:
    assume(tail < window)
    geometry = Geometry(window_latents=window, tail_latents=tail)
    problem = loops.loop_error(4 * quarter, geometry)
    if window < tail + 2:
        assert "makes no loops" in problem
    elif problem:
        assert f"needs at least {loops.shortest_loop(geometry)} frames" in problem
        assert 4 * quarter < loops.shortest_loop(geometry)
    if problem:
        with pytest.raises(ValueError, match=r"loops?"):
            plan(4 * quarter, geometry=geometry)
    else:
        plan(4 * quarter, geometry=geometry)


@given(st.integers(1, 4000), st.integers(1, 3000))
def test_a_loops_length_is_the_nearest_multiple_of_four(numerator: int, denominator: int) -> None:
    asked = Fraction(numerator, denominator)
    frames = timeline.loop_frames(asked)
    assert frames % 4 == 0
    assert abs(frames - asked) <= 2
    assert timeline.loop_frames(frames) == frames
    assert timeline.loop_frames(6) == 8


# --- the storyboard ------------------------------------------------------------------------------


def board(shot: dict[str, Any], **fields: Any) -> dict[str, Any]:
    shots = [{"duration": 5, "loop": True, **shot}]
    return {"title": "t", "fps": 16, "size": "64x64", "shots": shots, **fields}


def errors(shot: dict[str, Any], **fields: Any) -> list[str]:
    try:
        storyboard.loads(board(shot, **fields), None)
    except StoryboardError as error:
        return [str(field_error) for field_error in error.errors]
    return []


def test_seconds_go_to_the_nearest_loop_and_frames_must_be_one() -> None:
    at_25 = storyboard.loads(board({}, fps=25), None)
    assert at_25.shots[0].frames(at_25.fps) == 124
    assert not storyboard.loads(board({"loop": False}, fps=25), None).shots[0].loop
    ntsc = storyboard.loads(board({"duration": 4}, fps=23.976), None)
    assert ntsc.shots[0].frames(ntsc.fps) == 96
    assert errors({"duration": "80f"}) == []
    assert errors({"duration": "81f"}) == [
        "shots[0].duration = 81 frames: a loop has a multiple of 4, such as 80 or 84"
    ]
    assert errors({"duration": 0.1}) == [
        "shots[0].duration = 0.1 s is shorter than what a loop can have"
    ]
    assert errors({"loop": 1}) == ["shots[0].loop must be true or false, not 1"]
    assert storyboard.json_schema()["$defs"]["Shot"]["properties"]["loop"]["type"] == "boolean"


def test_a_condition_on_a_loops_end_latent_is_refused() -> None:
    def at(**place: Any) -> list[str]:
        return errors({"keyframes": [{"image": "a.png", **place}]})

    for frame in (0, 40, 76):
        assert at(frame=frame) == []
    for frame in (77, 79):
        assert at(frame=frame) == [
            f"shots[0].keyframes[0].frame is on frame {frame}; of the frames 77 to 80, which "
            "the model sees as one, only one can be given, and frame 80 is the loop's first, met "
            "again"
        ]
    assert at(at=5) == [
        "shots[0].keyframes[0].at = 5.0 s is the loop's end, which is its first frame: give 0"
    ]
    assert errors({"clips": [{"video": "a.mp4", "frame": 70, "in": 0, "out": 0.625}]}) == []
    assert "frame 80 is the loop's first" in errors({"clips": [{"video": "a.mp4", "frame": 77}]})[0]


def test_a_variant_may_loop() -> None:
    data = board({"loop": False, "duration": "81f"})
    looping = {"shots[0].loop": True}
    with pytest.raises(StoryboardError, match=r"^screen: shots\[0\].duration = 81 frames: a loop"):
        variants.apply(data, variants.Variant(name="screen", overrides=looping), None)
    shorter = looping | {"shots[0].duration": "80f"}
    film = variants.apply(data, variants.Variant(name="screen", overrides=shorter), None)
    assert film.shots[0].loop


# --- keys ----------------------------------------------------------------------------------------


def keys_of(planned: ShotPlan, seed: int = 0) -> list[str]:
    found: list[str] = []
    for segment in planned.segments:
        found.append(
            keys.segment_key(
                model_revision="m",
                machine="cpu float32",
                segment=replace(segment, seed=segment.seed + seed * (segment.index == 0)),
                conditions=[],
                width=64,
                height=64,
                negative_prompt="",
                sampler={"steps": 2},
                previous=found[-1] if found else None,
                head=found[0] if segment.head else None,
            )
        )
    return found


def test_only_the_closing_segments_key_knows_of_the_loop() -> None:
    looping, straight = keys_of(plan(160)), keys_of(plan(160, loops=False))
    assert looping[:3] == straight[:3]
    closing = plan(160).segments[-1]
    common: dict[str, Any] = {
        "model_revision": "m",
        "machine": "cpu float32",
        "conditions": [],
        "width": 64,
        "height": 64,
        "negative_prompt": "",
        "sampler": {"steps": 2},
        "previous": "p" * 64,
    }
    found = {
        keys.segment_key(segment=closing, head="a" * 64, **common),
        keys.segment_key(segment=closing, head="b" * 64, **common),
        keys.segment_key(segment=replace(closing, head=2), head="a" * 64, **common),
        keys.segment_key(segment=replace(closing, head=0), **common),
    }
    assert len(found) == 4


# --- the model -----------------------------------------------------------------------------------

HEIGHT, WIDTH, FRAMES, STEPS, GUIDANCE = 32, 48, 32, 3, 2.0
PICTURES = np.random.default_rng(0).integers(0, 255, (8, HEIGHT, WIDTH, 3), dtype=np.uint8)
CONDITIONS: list[Keyframe | Clip] = [
    Keyframe(image=PICTURES[7], frame=0),
    Clip(frames=list(PICTURES[:6]), frame=25),  # up to frame 30, in the last latent
]
PLACED = [still(0, 0), clip(25, 6, 1)]


def film_of(pipe: DreaMontagePipeline, **overrides: Any) -> Tensor:
    call: dict[str, Any] = {
        "prompt": "",
        "conditions": CONDITIONS,
        "height": HEIGHT,
        "width": WIDTH,
        "num_frames": FRAMES,
        "seed": 7,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "output_type": "pt",
        "loop": True,
    }
    return pipe(**call | overrides).frames


def encoded(pipe: DreaMontagePipeline, pictures: Any) -> Tensor:
    return autoencoder.encode(pipe.vae, pixels(list(pictures), HEIGHT, WIDTH))


@torch.no_grad()
def test_the_closing_window_gets_the_head_as_a_clip_at_frame_n(tiny_ours: Path) -> None:
    """The whole loop written out: the channels of each window, and the film that comes of it."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    segments = plan(FRAMES, *PLACED, geometry=pipe.geometry).segments
    # Latents 0 to 8; the closing window has one more, which is latent 1 again.
    assert [(each.start, each.stop, each.head) for each in segments] == [
        (0, 4, 0),
        (3, 7, 0),
        (6, 10, 2),
    ]
    channels = torch.zeros(1, MASK_CHANNELS + Z, 10, HEIGHT // 8, WIDTH // 8)
    channels[:, :4, 0] = 1
    channels[:, 4:, :1] = encoded(pipe, PICTURES[7:])
    channels[:, 3, 7] = 1  # the clip from its grid frame, 28, on; its end is frame N's slot
    channels[:, 4:, 7:8] = encoded(pipe, PICTURES[3:4])
    given, free = pipe.encode_prompt("", "", max_sequence_length=32)

    film = torch.zeros(1, Z, 9, HEIGHT // 8, WIDTH // 8)
    made: list[Tensor] = []
    for segment in segments:
        condition = channels[:, :, segment.start : segment.stop].clone()
        if segment.index:
            condition[:, :4, 0] = 1
            condition[:, 4:, 0] = made[-1][:, :, -1]
        if segment.head:
            condition[:, :, -2:] = 0
            condition[:, 3, -2] = 1  # frame N, the last of its latent
            condition[:, :4, -1] = 1
            condition[:, 4:, -2:] = made[0][:, :, :2]  # as the first window made them
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
        made.append(latents)
        if segment.index:
            latents = latents.clone()
            latents[:, :, 0] = torch.lerp(film[:, :, segment.start], latents[:, :, 0], 0.5)
        stop = min(segment.stop, 9)
        film[:, :, segment.start : stop] = latents[:, :, : stop - segment.start]
    assert torch.equal(film_of(pipe, output_type="latent"), film)
    video = pipe.vae.decode(autoencoder.denormalise(pipe.vae, film)).sample
    assert video.shape[2] == FRAMES + 1
    expected = pipe.video_processor.postprocess_video(video[:, :, :FRAMES], output_type="pt")
    shown = film_of(pipe)
    assert torch.equal(shown, expected), "cut at frame N, which is frame 0"
    straight = film_of(pipe, loop=False)
    assert torch.equal(shown[:, :13], straight[:, :13]), "the first window does not have it"
    assert not torch.equal(shown[:, -3:], straight[:, -3:])


def closing_inputs(folder: Path, **overrides: Any) -> tuple[DreaMontagePipeline, list[Any]]:
    """A loop's pipeline, and what its DiT was called with in the closing window's first step."""
    pipe = DreaMontagePipeline.from_pretrained(folder)
    pipe.register_to_config(window_latents=4, tail_latents=1, max_sequence_length=512)
    calls: list[Any] = []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    film = film_of(
        pipe,
        **{"guidance_scale": 1.0, "num_inference_steps": 1, "output_type": "latent"} | overrides,
    )
    hook.remove()
    return pipe, [calls[-1], film]


def test_native_weights_get_a_loops_first_frame_in_a_grey_film(tiny_i2v: Path) -> None:
    pipe, (call, film) = closing_inputs(tiny_i2v, conditions=[])
    channels = call["hidden_states"][:, Z:]
    assert channels.shape[2] == 4  # latents 6 to 9
    assert torch.equal(channels[:, :4, 3], torch.ones_like(channels[:, :4, 3]))
    assert torch.equal(channels[:, 4:, 3], film[:, :, 1])
    assert channels[0, :4, 2, 0, 0].tolist() == [0, 0, 0, 1]
    grey = torch.zeros(1, 3, 13, HEIGHT, WIDTH)
    grey[:, :, 8] = autoencoder.StreamingDecoder(pipe.vae)(film[:, :, :1])[:, :, 0]
    assert torch.equal(channels[:, 4:, 1:3], autoencoder.encode(pipe.vae, grey)[:, :, 1:3])


def test_an_image_encoder_sees_a_loops_first_frame_at_its_end(
    tiny_flf2v: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    encode_image = DreaMontagePipeline.encode_image

    def spy(self: Any, pictures: Any, device: Any) -> Tensor:
        seen.append(pictures)
        return encode_image(self, pictures, device)

    monkeypatch.setattr(DreaMontagePipeline, "encode_image", spy)
    pipe, (call, film) = closing_inputs(tiny_flf2v, conditions=CONDITIONS[:1])
    first = autoencoder.StreamingDecoder(pipe.vae)(film[:, :, :1])
    shown = (first[0, :, 0].permute(1, 2, 0) * 127.5 + 127.5).round().clamp(0, 255)
    assert np.array_equal(np.asarray(seen[-1][-1]), shown.to(torch.uint8).numpy())
    assert call["encoder_hidden_states_image"].shape[-1] == IMAGE_WIDTH


def test_clean_latents_close_a_loop_too(tiny_ti2v: Path) -> None:
    """Wan 2.2 TI2V: the head is among the noise, at time 0."""
    conditions = [Keyframe(image=np.zeros((32, 64, 3), np.uint8), frame=0)]
    _, (call, film) = closing_inputs(tiny_ti2v, conditions=conditions, width=64)
    hidden = call["hidden_states"]
    assert torch.equal(hidden[:, :, 2:], film[:, :, :2])
    times = call["timestep"].view(4, -1)
    assert times[2:].eq(0).all()
    assert times[1].gt(0).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"num_frames": 33, "conditions": []},
            "num_frames = 33 must be a multiple of 4 for a loop",
        ),
        ({"num_frames": 8, "conditions": []}, "needs at least 12 frames"),
        (
            {"conditions": [Keyframe(image=PICTURES[0], frame=30)]},
            r"conditions\[0\] is on frame 30; of the frames 29 to 32, .* first, met again",
        ),
    ],
)
def test_what_no_loop_can_have_is_refused(
    tiny_ours: Path, overrides: dict[str, Any], message: str
) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    with pytest.raises(ValueError, match=message):
        film_of(pipe, **overrides)


@given(loop_plans(), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_conditions_of_a_loop_are_either_placed_or_refused(
    shot: tuple[int, list[Placed], Geometry], seed: int
) -> None:
    """Whatever is not refused can be planned, and nothing that is in the way is let through."""
    frames, conditions, geometry = shot
    rng = np.random.default_rng(seed)
    more = [*conditions, still(int(rng.integers(frames)), len(conditions))]
    refused = {each.index for each in on_loop_end(more, frames)}
    assert refused == {each.index for each in more if each.frame > frames - 4}
    if not refused and not list(clashes(more)):
        plan(frames, *more, geometry=geometry)


# --- rendered ------------------------------------------------------------------------------------


@pytest.fixture
def looping(write_board: Any) -> Path:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"name": "walk", "duration": {"frames": 32}, "loop": True, "keyframes": stills}
    return write_board("loop", shots=[shot])


def test_a_loop_rendered_locally_is_measured_at_its_end_and_recorded(
    looping: Path, tiny_ours: Path, tmp_path: Path
) -> None:
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    loaded = storyboard.load(looping)
    made, _ = local.render(loaded, looping.parent, tmp_path / "out", pipe, name="loop")
    (record,) = json.loads(made.record.read_text())["shots"]
    assert record["loop"] is True
    assert record["frames"] == 32
    (seam,) = (score for score in record["scores"] if score["name"] == "seam")
    assert "the loop's end: " in seam["detail"]
    assert len(record["segments"]) == 3
    # Rendered again without its closing segment: the same one comes of it.
    closing = tmp_path / "out" / "segments" / f"{record['segments'][-1]['key']}.safetensors"
    before = closing.read_bytes()
    closing.unlink()
    film = made.film.read_bytes()
    local.render(loaded, looping.parent, tmp_path / "out", pipe, name="loop")
    assert made.film.read_bytes() == film
    assert closing.read_bytes() == before


def test_a_loop_that_the_model_cannot_make_is_refused_before_rendering(
    write_board: Any, tiny_ours: Path, tmp_path: Path
) -> None:
    path = write_board("short", shots=[{"duration": {"frames": 8}, "loop": True}])
    pipe = DreaMontagePipeline.from_pretrained(tiny_ours)
    with pytest.raises(StoryboardError) as error:
        local.render(storyboard.load(path), path.parent, tmp_path / "out", pipe, name="short")
    assert str(error.value) == (
        "shots[0].duration = 8 frames: too short for a loop with this model, which needs at least "
        "12 frames"
    )
