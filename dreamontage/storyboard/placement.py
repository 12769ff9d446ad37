"""Conditions on a shot's frames, and which of them exclude each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from dreamontage import timeline


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A condition on its shot's frame timeline; a keyframe has one frame."""

    index: int
    kind: Literal["keyframe", "clip"]
    frame: int
    frames: int

    def __post_init__(self) -> None:
        assert self.frame >= 0
        assert self.frames >= 1
        assert self.kind == "clip" or self.frames == 1

    @property
    def stop(self) -> int:
        """The frame after its last."""
        return self.frame + self.frames

    @property
    def latents(self) -> range:
        """The latents that it is given on; see `timeline.clip_latents`."""
        return timeline.clip_latents(self.frame, self.frames)


@dataclass(frozen=True, kw_only=True)
class Clash:
    """A condition whose place is taken by an earlier one."""

    condition: Placed
    other: Placed
    reason: str


def clashes(conditions: Sequence[Placed]) -> Iterator[Clash]:
    """Conditions on another condition's place, each named once.

    [ours] Two conditions may not claim one frame: a keyframe inside a clip would contradict it.
    Two conditions may not start on one latent (within the same four frames) either: each is encoded
    alone, and the model has one slot for both. A clip may end in the latent where the next
    condition starts; the slot then belongs to the next condition.
    """
    previous: Placed | None = None
    for condition in sorted(conditions, key=lambda each: (each.frame, each.index)):
        if previous is not None and condition.frame < previous.stop:
            reason = f"is on frame {condition.frame}, which is taken by"
            yield Clash(condition=condition, other=previous, reason=reason)
        elif previous is not None and _slot(condition) == _slot(previous):
            span = timeline.frames_of(_slot(condition))
            reason = (
                f"is on frame {condition.frame}; of the frames {span.start} to {span[-1]}, "
                "which the model sees as one, only one can be given, and one is taken by"
            )
            yield Clash(condition=condition, other=previous, reason=reason)
        if previous is None or condition.stop > previous.stop:
            previous = condition


def on_loop_end(conditions: Iterable[Placed], frames: int) -> Iterator[Placed]:
    """The conditions of a loop of N frames whose place is taken: they start on the latent that ends
    with frame N, where the first frame is given again.

    [ours] A clip may end there: the slot then belongs to frame N, as to any later condition.
    """
    last = timeline.latent_of(frames)
    return (each for each in conditions if _slot(each) == last)


def loop_end_error(condition: Placed, frames: int) -> str:
    """The error text of a condition of `on_loop_end`."""
    first = timeline.frames_of(timeline.latent_of(frames)).start
    return (
        f"is on frame {condition.frame}; of the frames {first} to {frames}, which the model "
        f"sees as one, only one can be given, and frame {frames} is the loop's first, met again"
    )


def _slot(condition: Placed) -> int:
    return timeline.latent_of(condition.frame)


def condition_label(placed: Placed, fps: Fraction) -> str:
    """What a person calls a condition: "keyframe 1.5 s", "clip 2.0-3.5 s"."""
    start = float(placed.frame / fps)
    if placed.kind == "keyframe":
        return f"keyframe {start:.1f} s"
    return f"clip {start:.1f}-{float(placed.stop / fps):.1f} s"
