"""Segment-wise generation: a shot's latent timeline, cut into windows that a model can render.

The rule is the paper's (arXiv 2512.21252, SAR). A window of variable length slides over the
latents. The user's conditions are candidate boundaries. A window that would exceed the maximum
ends at the latest candidate boundary inside it.

[ours] Each window starts with the last `tail_latents` latents of the window before. Without a
boundary in reach a window has the maximum length. A boundary lies after a keyframe's latent, after
a clip's first latent and after its last, so that the next window's tail holds the condition itself.
A boundary counts only if the window that it ends is longer than a tail: otherwise the next window
would not start later than this one. A shot that loops ends with a closing window, whose last
latents are given: the film's beginning. See `loops.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from dreamontage import timeline
from dreamontage.planning import loops
from dreamontage.planning.geometry import Geometry
from dreamontage.storyboard import PromptSpan, Shot, Storyboard, prompt_syntax, seeds
from dreamontage.storyboard.errors import FieldError
from dreamontage.storyboard.placement import Placed, on_loop_end


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A window [start, stop) on a shot's latents; its first `tail` are the segment's before it.

    `conditions` are the indices of those placed on a latent of the window, the tail included.
    `has_image_condition` is true if one of them reaches behind the tail.
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
    has_image_condition: bool = False
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

    `clip_frames[i]` is the number of frames of clip i at the film's rate, after `in` and `out`.
    Frames past the shot's end are dropped.
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
        assert not list(on_loop_end(conditions, frames))
        if problem := loops.loop_error(frames, geometry):
            raise ValueError(f"frames = {frames}: {problem}")
        head = loops.repeated_latents(geometry) + 1
        windows = loops.windows(latents, sorted(boundaries), geometry)
        prompts = loops.prompts_of_two_rounds(prompts, frames, fps)
    else:
        windows = list(_windows(latents, sorted(boundaries), geometry))
    tails = [geometry.tail_latents if index else 0 for index in range(len(windows))]
    segments = tuple(
        Segment(
            index=index,
            start=start,
            stop=stop,
            tail=tails[index],
            # Frames that padding adds belong to no prompt span; a loop has no padding.
            prompt=_prompt(prompts, start, stop, None if loop else frames, fps),
            conditions=tuple(
                each.index
                for each in conditions
                if each.latents.start < stop and each.latents.stop > start
            ),
            seed=seeds.segment_seed(seed, index),
            has_image_condition=any(
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


def model_errors(board: Storyboard, geometry: Geometry) -> list[FieldError]:
    """Errors of a storyboard that is valid, and that this model cannot render."""
    multiple = geometry.spatial_multiple
    errors = [
        FieldError(
            field=f"size.{side}",
            message=f"= {pixels} must be a multiple of {multiple}, which this model works in",
        )
        for side, pixels in (("width", board.size.width), ("height", board.size.height))
        if pixels % multiple
    ]
    for index, shot in enumerate(board.shots):
        frames = shot.frames(board.fps)
        if shot.loop and (problem := loops.loop_error(frames, geometry)):
            rule = f"= {frames} frames: {problem}"
            errors.append(FieldError(field=f"shots[{index}].duration", message=rule))
    return errors


def _prompt(
    prompts: Sequence[PromptSpan], start: int, stop: int, frames: int | None, fps: Fraction
) -> str:
    """The prompts of a window, in its own seconds; plain text if one prompt covers the window.

    `frames` is the shot's length, if a window may reach past it.
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
    return prompt_syntax.write(spans)
