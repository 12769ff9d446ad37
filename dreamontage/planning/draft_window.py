"""Draft starts: a shot that starts from a draft film, noised to a strength, not from pure noise.

The draft is a producer's own animatic, or "auto": the conditions, with frames between them made by
frame interpolation (`pipeline/interpolation.py`). The lower the strength, the more of the draft
remains; at strength 1 only what the first noise level leaves. A draft is never the default. A film
made with one says so on its sheet and in its record **[ours]**.

A window's draft is a film of its own with 1 + 4k frames. It begins with the last frame of the
window's first latent. That latent itself belongs to the tail, except in the first window, which
begins with the shot. So a segment reads only the part of a draft that lies in its window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamontage.planning.segments import Segment, ShotPlan
from dreamontage.storyboard import AUTO, Shot
from dreamontage.storyboard.placement import Placed
from dreamontage.timeline import TEMPORAL_STRIDE


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """A condition on a timeline that repeats the loop: its first frame there, and its length."""

    index: int
    frame: int
    frames: int


def window(segment: Segment) -> range:
    """The frames of a shot's draft that a window starts from: 1 + 4k of them."""
    first = TEMPORAL_STRIDE * segment.start
    return range(first, first + TEMPORAL_STRIDE * (segment.latents - 1) + 1)


def draft_conditions(
    segment: Segment, plan: ShotPlan, placed: Sequence[Placed]
) -> list[Occurrence]:
    """The conditions that a window's automatic draft depends on, in order of time.

    These are the conditions on its frames. If the window's first frame is not given, the last
    condition before it counts too; if its last frame is not given, the next one after it: the draft
    interpolates towards them. A loop has its conditions in every round.
    """
    rounds = (-plan.frames, 0, plan.frames) if plan.loop else (0,)
    occurrences = sorted(
        (
            Occurrence(index=each.index, frame=each.frame + turn, frames=each.frames)
            for each in placed
            for turn in rounds
        ),
        key=lambda each: each.frame,
    )
    span = window(segment)
    before = [each for each in occurrences if each.frame + each.frames <= span.start]
    inside = [
        each
        for each in occurrences
        if each.frame < span.stop and each.frame + each.frames > span.start
    ]
    after = [each for each in occurrences if each.frame >= span.stop]
    if not any(each.frame <= span.start for each in inside):
        inside = before[-1:] + inside
    if not any(each.frame + each.frames >= span.stop for each in inside):
        inside = inside + after[:1]
    return inside


def draft_key(
    segment: Segment,
    plan: ShotPlan,
    shot: Shot,
    *,
    placed: Sequence[Placed],
    digests: Sequence[str],
    animatic: str | None,
) -> Mapping[str, Any] | None:
    """The part of a segment's key that describes its draft; None without a draft.

    Frames count from the window's first. `digests[i]` is the digest of the rendition of
    `placed[i]`. `animatic` is the digest of the video's rendition, None for an automatic draft.
    """
    if shot.draft is None:
        return None
    span, strength = window(segment), shot.draft_strength
    if animatic is None:
        return {
            "kind": AUTO,
            "strength": strength,
            "conditions": [
                {
                    "digest": digests[each.index],
                    "frame": each.frame - span.start,
                    "frames": each.frames,
                }
                for each in draft_conditions(segment, plan, placed)
            ],
        }
    # Past the shot's end the video repeats (in a loop), or holds its last frame.
    past = {"end": plan.frames - span.start, "loop": plan.loop} if span.stop > plan.frames else {}
    return {
        "kind": "video",
        "strength": strength,
        "digest": animatic,
        "frame": span.start,
        **past,
    }
