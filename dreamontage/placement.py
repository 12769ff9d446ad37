"""Conditions on a shot's frames, and which of them cannot stand together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
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
    """A condition that cannot stand where it does, because of an earlier one."""

    condition: Placed
    other: Placed
    reason: str


def clashes(conditions: Sequence[Placed]) -> Iterator[Clash]:
    """Conditions that stand where another does, each named once.

    [ours] Two conditions may not claim one frame: a keyframe inside a clip would contradict it.
    Nor may two start on one latent, that is within the same four frames, since each is encoded
    alone and the model has one slot for them. A clip may end in the latent where the next
    condition starts; that slot is then the next one's.
    """
    furthest: Placed | None = None
    for condition in sorted(conditions, key=lambda each: (each.frame, each.index)):
        if furthest is not None and condition.frame < furthest.stop:
            reason = f"stands on frame {condition.frame}, which is taken by"
            yield Clash(condition=condition, other=furthest, reason=reason)
        elif furthest is not None and _slot(condition) == _slot(furthest):
            span = timeline.frames_of(_slot(condition))
            reason = (
                f"stands on frame {condition.frame}; of the frames {span.start} to {span[-1]}, "
                "which the model sees as one, only one can be given, and one is taken by"
            )
            yield Clash(condition=condition, other=furthest, reason=reason)
        if furthest is None or condition.stop > furthest.stop:
            furthest = condition


def in_the_way(conditions: Iterable[Placed], frames: int) -> Iterator[Placed]:
    """Of a loop of N frames, the conditions that cannot stand: those on the latent that ends with
    frame N, where the first frame is given again.

    [ours] A clip may end there; the slot is then frame N's, as it would be a later condition's.
    """
    last = timeline.latent_of(frames)
    return (each for each in conditions if _slot(each) == last)


def refusal(condition: Placed, frames: int) -> str:
    """What is told of a condition that is in the way."""
    first = timeline.frames_of(timeline.latent_of(frames)).start
    return (
        f"stands on frame {condition.frame}; of the frames {first} to {frames}, which the model "
        f"sees as one, only one can be given, and frame {frames} is the loop's first, met again"
    )


def _slot(condition: Placed) -> int:
    return timeline.latent_of(condition.frame)
