"""Segment-wise generation: a shot's latent timeline, cut into windows that a model can render.

The rule is the paper's (arXiv 2512.21252, SAR): a window of variable length slides over the
latents; the user's conditions are candidate boundaries; a window that would exceed the maximum
ends at the latest candidate boundary inside it. [ours] Each window starts with the last latents
of the one before, always `tail_latents` of them. Without a boundary in reach a window has the
maximum length. A boundary lies behind a keyframe's latent, behind a clip's first and behind its
last, so that the next window's tail holds the condition itself; it counts only if the window it
ends is longer than a tail, so that the next one starts after this one did. A shot that loops ends
with a closing window that is given the film's beginning: `loop.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from dreamontage import loop as loops
from dreamontage import notation, seeds, timeline
from dreamontage.faults import Fault
from dreamontage.placement import Placed, in_the_way
from dreamontage.storyboard import PromptSpan, Shot, Storyboard

__all__ = ["Geometry", "Placed", "Segment", "ShotPlan", "model_faults", "placed", "plan_shot"]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What a model asks of its windows: their longest length, and how they overlap."""

    window_latents: int
    tail_latents: int
    spatial_multiple: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.tail_latents < self.window_latents:
            raise ValueError(
                f"tail_latents = {self.tail_latents} must be at least 1 and less than "
                f"window_latents, {self.window_latents}"
            )

    def window_stop(self, start: int, boundaries: Sequence[int], least: int = 0) -> int:
        """Where a window ends that cannot reach the shot's end: at the latest boundary inside it.

        `boundaries` are in order; none counts that leaves the window no longer than a tail, or
        lies before `least`.
        """
        furthest = start + self.window_latents
        shortest = max(start + self.tail_latents + 1, least)
        inside = [boundary for boundary in boundaries if shortest <= boundary <= furthest]
        return inside[-1] if inside else furthest

    @classmethod
    def from_folder(cls, folder: Path) -> Geometry:
        """The geometry of a model's folder, read without loading the model.

        A stock Wan checkpoint does not say; it was trained on 81 frames, 21 latents. Raises
        `ValueError` naming the file that is missing or wrong.
        """
        index = read_json(folder / "model_index.json")
        patch = read_json(folder / "transformer" / "config.json")["patch_size"]
        scale = read_json(folder / "vae" / "config.json").get("scale_factor_spatial", 8)
        return cls(
            window_latents=index.get("window_latents", 21),
            tail_latents=index.get("tail_latents", 2),
            spatial_multiple=max(16, scale * max(patch[1:])),
        )


def read_json(path: Path) -> dict[str, Any]:
    """A model's config. Raises `ValueError` when there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a JSON object")
    return data


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A window [start, stop) on a shot's latents; its first `tail` are the segment's before it.

    `conditions` are the indices of those placed on a latent of the window, the tail included; it is
    `led` if one of them reaches behind the tail.
    `prompt` is in the window's own seconds. `head` counts the last slots of a loop's closing
    window, which are given the film's first latents: frame N's slot, and those past the film's end.
    """

    index: int
    start: int
    stop: int
    tail: int
    prompt: str
    conditions: tuple[int, ...]
    seed: int
    led: bool = False
    head: int = 0

    @property
    def latents(self) -> int:
        return self.stop - self.start

    @property
    def new(self) -> int:
        """The latents that this segment adds to the shot."""
        return self.latents - self.tail - max(0, self.head - 1)


@dataclass(frozen=True, kw_only=True)
class ShotPlan:
    """A shot's segments; it is rendered with `padded_frames` and cut to `frames`."""

    frames: int
    padded_frames: int
    latents: int
    segments: tuple[Segment, ...]
    loop: bool = False

    @property
    def joins(self) -> tuple[int, ...]:
        """Of every segment but the first, the first frame that it alone has made."""
        return tuple(
            timeline.frames_of(segment.start + segment.tail).start for segment in self.segments[1:]
        )


def placed(shot: Shot, fps: Fraction, clip_frames: Mapping[int, int]) -> list[Placed]:
    """The shot's conditions on its frames: its keyframes, then its clips, in the file's order.

    `clip_frames[i]` is how many frames clip i has at the film's rate, after `in` and `out`;
    what does not fit into the shot is left away.
    """
    frames = shot.frames(fps)
    found: list[Placed] = []
    for keyframe in shot.keyframes:
        frame = shot.frame_of(keyframe, fps)
        found.append(Placed(index=len(found), kind="keyframe", frame=frame, frames=1))
    for index, clip in enumerate(shot.clips):
        frame = shot.frame_of(clip, fps)
        length = min(clip_frames[index], frames - frame)
        found.append(Placed(index=len(found), kind="clip", frame=frame, frames=length))
    return found


def plan_shot(
    *,
    frames: int,
    fps: Fraction,
    prompts: Sequence[PromptSpan],
    conditions: Sequence[Placed],
    seed: int,
    geometry: Geometry,
    loop: bool = False,
) -> ShotPlan:
    """Cut a shot into segments. `seed` is the take's; the plan depends on nothing else.

    Raises:
        ValueError: for a loop that is too short for the model.
    """
    assert frames >= 1
    assert all(condition.stop <= frames for condition in conditions)
    assert [condition.index for condition in conditions] == list(range(len(conditions)))
    latents, head = timeline.latent_count(frames), 0
    boundaries = {at for each in conditions for at in (each.latents.start + 1, each.latents.stop)}
    if loop:
        assert frames % timeline.TEMPORAL_STRIDE == 0
        assert not list(in_the_way(conditions, frames))
        if problem := loops.problem(frames, geometry):
            raise ValueError(f"frames = {frames}: {problem}")
        head = loops.again(geometry) + 1
        windows = loops.windows(latents, sorted(boundaries), geometry)
        prompts = loops.two_rounds(prompts, frames, fps)
    else:
        windows = list(_windows(latents, sorted(boundaries), geometry))
    tails = [geometry.tail_latents if index else 0 for index in range(len(windows))]
    segments = tuple(
        Segment(
            index=index,
            start=start,
            stop=stop,
            tail=tails[index],
            # The frames that padding added to the shot take part in no span; a loop has none.
            prompt=_prompt(prompts, start, stop, None if loop else frames, fps),
            conditions=tuple(
                each.index
                for each in conditions
                if each.latents.start < stop and each.latents.stop > start
            ),
            seed=seeds.segment_seed(seed, index),
            led=any(
                each.latents.start < stop and each.latents.stop > start + tails[index]
                for each in conditions
            ),
            head=head if index == len(windows) - 1 else 0,
        )
        for index, (start, stop) in enumerate(windows)
    )
    return ShotPlan(
        frames=frames,
        padded_frames=timeline.padded(frames),
        latents=latents,
        segments=segments,
        loop=loop,
    )


def _windows(
    latents: int, boundaries: Sequence[int], geometry: Geometry
) -> Iterator[tuple[int, int]]:
    start = 0
    while latents - start > geometry.window_latents:
        stop = geometry.window_stop(start, boundaries)
        yield start, stop
        start = stop - geometry.tail_latents
    yield start, latents


def model_faults(board: Storyboard, geometry: Geometry) -> list[Fault]:
    """What a storyboard's own rules allow, and this model cannot render."""
    multiple = geometry.spatial_multiple
    faults = [
        Fault(
            field=f"size.{side}",
            message=f"= {pixels} must be a multiple of {multiple}, which this model works in",
        )
        for side, pixels in (("width", board.size.width), ("height", board.size.height))
        if pixels % multiple
    ]
    for index, shot in enumerate(board.shots):
        frames = shot.frames(board.fps)
        if shot.loop and (problem := loops.problem(frames, geometry)):
            rule = f"= {frames} frames: {problem}"
            faults.append(Fault(field=f"shots[{index}].duration", message=rule))
    return faults


def _prompt(
    prompts: Sequence[PromptSpan], start: int, stop: int, frames: int | None, fps: Fraction
) -> str:
    """The prompts that hold in a window, in its own seconds; plain text where one holds for all.

    `frames` is where the shot ends, if a window may reach past that.
    """
    first = timeline.frames_of(start).start
    last = timeline.frames_of(stop - 1).stop
    if frames is not None:
        last = min(last, frames)
    opens, closes = timeline.seconds_at(first, fps), timeline.seconds_at(last, fps)
    spans = []
    for span in prompts:
        end = closes if span.end is None else span.end
        begins = timeline.frame_at(span.start, fps)
        ends = last if span.end is None else timeline.frame_at(span.end, fps)
        if begins <= first and ends >= last:
            return span.text
        if begins < last and ends > first:
            spans.append(
                (max(span.start - opens, Fraction(0)), min(end, closes) - opens, span.text)
            )
    return notation.write(spans)
