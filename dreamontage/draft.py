"""A draft start: a shot denoised from a draft film, noised to a strength, and not from pure noise.

The draft is a producer's own animatic, or "auto": the conditions, and between them frames carried
from one to the next by optical flow (`inbetween.py`). The lower the strength, the more of the draft
stays: at 1 nothing but what its first noise level leaves. It is never the default, and a film that
was made with one says so on its sheet and in its record **[ours]**.

A window's draft is a film of its own from the last frame of the window's first latent on, as every
film of 1 + 4k frames; that latent itself is the tail's, except in the first window, which begins
with the shot. So a segment needs nothing of a draft but what lies in its window.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamontage.placement import Placed
from dreamontage.plan import Segment, ShotPlan
from dreamontage.storyboard import AUTO, Shot
from dreamontage.timeline import TEMPORAL_STRIDE


@dataclass(frozen=True, kw_only=True)
class Occurrence:
    """A condition on a timeline that a loop goes round: where it begins there, and for how long."""

    index: int
    frame: int
    frames: int


def window(segment: Segment) -> range:
    """The frames of a shot's draft that a window is drafted with: 1 + 4k of them."""
    first = TEMPORAL_STRIDE * segment.start
    return range(first, first + TEMPORAL_STRIDE * (segment.latents - 1) + 1)


def drawn_from(segment: Segment, plan: ShotPlan, placed: Sequence[Placed]) -> list[Occurrence]:
    """The conditions that a window's automatic draft depends on, in order of time.

    Those on its frames and, unless its first or last frame is given, the next one before or
    behind: there the draft is on its way. A loop has its conditions in every round.
    """
    rounds = (-plan.frames, 0, plan.frames) if plan.loop else (0,)
    all_of_them = sorted(
        (
            Occurrence(index=each.index, frame=each.frame + turn, frames=each.frames)
            for each in placed
            for turn in rounds
        ),
        key=lambda each: each.frame,
    )
    span = window(segment)
    before = [each for each in all_of_them if each.frame + each.frames <= span.start]
    inside = [
        each
        for each in all_of_them
        if each.frame < span.stop and each.frame + each.frames > span.start
    ]
    behind = [each for each in all_of_them if each.frame >= span.stop]
    if not any(each.frame <= span.start for each in inside):
        inside = before[-1:] + inside
    if not any(each.frame + each.frames >= span.stop for each in inside):
        inside = inside + behind[:1]
    return inside


def key_of(
    segment: Segment,
    plan: ShotPlan,
    shot: Shot,
    *,
    placed: Sequence[Placed],
    digests: Sequence[str],
    animatic: str | None,
) -> Mapping[str, Any] | None:
    """What of a draft determines a segment's latents, for its key; frames count from the window's.
    None without a draft.

    `digests[i]` is that of the rendition of `placed[i]`, `animatic` that of a video's, None for an
    automatic draft.
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
                for each in drawn_from(segment, plan, placed)
            ],
        }
    # Past the shot's end the video begins again, or stands still.
    past = {"end": plan.frames - span.start, "loop": plan.loop} if span.stop > plan.frames else {}
    return {
        "kind": "video",
        "strength": strength,
        "digest": animatic,
        "frame": span.start,
        **past,
    }
