"""Coarse first: a shot is rendered at every 2nd, 4th or 8th frame, then refined to its full rate.

Where two conditions lie further apart than a window reaches, the first window knows nothing of the
second condition: the film wanders off, and jumps in the last latent before it. At a temporal stride
of four a window reaches four times as far. Ho et al., "Imagen Video", 2022, and Yin et al.,
"NUWA-XL", 2023, render videos coarse to fine with models of their own for each level. Here the same
weights render both levels **[ours]**.

The coarse level is a plan like any other: its own windows, conditions and prompts, in its own
frames and seconds. Coarse frame k stands for the shot's frame k times the stride. A keyframe
between two such frames is given on the nearer one, which then stands for the keyframe's own frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from dreamontage import timeline
from dreamontage.planning import loops
from dreamontage.planning.cost import steps_below
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.storyboard import Coarse, PromptSpan, seeds
from dreamontage.storyboard.placement import Placed, clashes, on_loop_end

STRIDES = (2, 4, 8)
"""From the finest to the coarsest."""

STRENGTH = 0.6
"""The noise level to which the coarse film is noised before it is refined."""

APART = 3
"""Latents between neighbouring conditions in the coarse film, at least."""


def can_refine(steps: int, shift: float) -> bool:
    """Whether a denoise step begins at a noise level as low as `STRENGTH`.

    Args:
        steps: of the sampler.
        shift: of the scheduler's noise levels.
    """
    return steps_below(STRENGTH, steps, shift) > 0


def stride_error(
    coarse: Coarse, frames: int, geometry: Geometry, *, loop: bool, refinable: bool
) -> str:
    """Why a shot cannot have the coarse level that it asks for; "" when it can.

    `refinable`: what `can_refine` says of its model.
    """
    if coarse in ("auto", "off"):
        return ""
    if not refinable:
        return f"no denoise step begins at a noise level of {STRENGTH}: give more steps, or 'off'"
    return loop_error(int(coarse), frames, geometry) if loop else ""


@dataclass(frozen=True, kw_only=True)
class CoarseCondition:
    """A condition on the coarse timeline.

    `placed.index` counts the conditions of the coarse level, `source` those of the shot. `offsets`
    are the frames of the condition that are given, counted from its own first.
    """

    placed: Placed
    source: int
    offsets: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CoarseLevel:
    """A shot at one frame in `stride`.

    `shown[k]` is the shot's frame that coarse frame k stands for. The last one may lie behind the
    shot's end, or just before it. In a loop, the first frame follows the last one.
    """

    stride: int
    plan: ShotPlan
    conditions: tuple[CoarseCondition, ...]
    shown: tuple[int, ...]

    @property
    def placed(self) -> tuple[Placed, ...]:
        return tuple(each.placed for each in self.conditions)

    def around(self, frames: range) -> range:
        """The coarse frames that the shot's `frames` are interpolated from. Behind a loop's end
        they count on."""
        length, count = self.plan.frames * self.stride, len(self.shown)

        def shown(index: int) -> int:
            turn, place = divmod(index, count)
            return self.shown[place] + turn * length

        first = frames.start // self.stride
        while shown(first) > frames.start and first > 0:
            first -= 1
        last = -(-(frames.stop - 1) // self.stride)
        while shown(last) < frames.stop - 1 and (self.plan.loop or last < count - 1):
            last += 1
        return range(first, last + 1 if self.plan.loop else min(last + 1, count))


def coarse_level(
    stride: int,
    *,
    frames: int,
    fps: Fraction,
    prompts: Sequence[PromptSpan],
    conditions: Sequence[Placed],
    seed: int,
    geometry: Geometry,
    loop: bool = False,
) -> CoarseLevel:
    """Plan the coarse level of a shot; the arguments are those of `plan_shot`.

    Of two conditions on one coarse place the nearer one is given, the other waits for the fine
    level.
    """
    assert not (loop and loop_error(stride, frames, geometry))
    count = frames // stride if loop else -(-(frames - 1) // stride) + 1
    given = _given(conditions, stride, count, loop=loop)
    shown = [stride * index for index in range(count)]
    for each in given:
        # A clip's frames are those of the coarse timeline, so this changes keyframes alone.
        shown[each.placed.frame] = conditions[each.source].frame + each.offsets[0]
    return CoarseLevel(
        stride=stride,
        plan=plan_shot(
            frames=count,
            fps=fps,
            prompts=[_hastened(span, stride) for span in prompts],
            conditions=[each.placed for each in given],
            seed=seeds.derive(seed, "coarse", stride),
            geometry=geometry,
            loop=loop,
        ),
        conditions=tuple(given),
        shown=tuple(shown),
    )


def loop_error(stride: int, frames: int, geometry: Geometry) -> str:
    """Why a loop of this many frames has no coarse loop at this stride; "" when it has one."""
    if frames % (stride * timeline.TEMPORAL_STRIDE):
        return (
            f"a loop of {frames} frames has no coarse film at this stride; its frames must be a "
            f"multiple of {stride * timeline.TEMPORAL_STRIDE}"
        )
    return loops.loop_error(frames // stride, geometry)


def stride_for(
    *,
    frames: int,
    conditions: Sequence[Placed],
    geometry: Geometry,
    loop: bool = False,
) -> int:
    """The stride of a shot's coarse level; 1 where every window sees the next condition.

    Neighbouring conditions have to stay `APART` latents apart in the coarse film. A stretch before
    the first still, or behind the last, wants a coarse film of one window.
    """
    if not conditions:
        return 1
    between, open_ended = _gaps(frames, conditions, loop=loop)
    reach = geometry.window_latents - 1
    if max(between, open_ended) <= timeline.TEMPORAL_STRIDE * reach:
        return 1
    strides = [stride for stride in STRIDES if between >= timeline.TEMPORAL_STRIDE * APART * stride]
    stride = max(strides, default=1)
    while open_ended > timeline.TEMPORAL_STRIDE * reach * stride and stride < STRIDES[-1]:
        stride *= 2
    while loop and stride > 1 and loop_error(stride, frames, geometry):
        stride //= 2
    return stride


def _gaps(frames: int, conditions: Sequence[Placed], *, loop: bool) -> tuple[int, int]:
    """The most frames from one condition to the next, and in a stretch at either end."""
    ordered = sorted(conditions, key=lambda each: each.frame)
    first, last = ordered[0], max(ordered, key=lambda each: each.stop)
    between = [after.frame - before.stop + 1 for before, after in pairwise(ordered)]
    ends = [first.frame, frames - last.stop]
    if loop:
        between.append(sum(ends) + 1)
        ends = []
    else:
        # A clip's motion would go on at the coarse film's pace: measured, it ends in a cut.
        ends = [
            stretch
            for stretch, each in zip(ends, (first, last), strict=True)
            if each.kind == "keyframe"
        ]
    return max(between, default=0), max(ends, default=0)


def _given(
    conditions: Sequence[Placed], stride: int, count: int, *, loop: bool
) -> list[CoarseCondition]:
    """The conditions that have a place on the coarse timeline, in the shot's order."""
    chosen: list[tuple[Placed, tuple[int, ...]]] = []
    for _, placed, offsets in sorted(
        _coarse(conditions, stride, count), key=lambda each: (each[0], each[1].index)
    ):
        taken = any(clashes([*(other for other, _ in chosen), placed]))
        if not taken and not (loop and any(on_loop_end([placed], count))):
            chosen.append((placed, offsets))
    return [
        CoarseCondition(
            placed=Placed(index=index, kind=placed.kind, frame=placed.frame, frames=placed.frames),
            source=placed.index,
            offsets=offsets,
        )
        for index, (placed, offsets) in enumerate(sorted(chosen, key=lambda each: each[0].index))
    ]


def _coarse(
    conditions: Sequence[Placed], stride: int, count: int
) -> Iterator[tuple[Fraction, Placed, tuple[int, ...]]]:
    """How far each condition is moved, in coarse frames, its coarse place, and its frames there.

    The index of a place is still that of the shot's condition.
    """
    for each in conditions:
        first, last = -(-each.frame // stride), (each.stop - 1) // stride
        if each.kind == "clip" and first <= last:
            offsets = tuple(stride * at - each.frame for at in range(first, last + 1))
            kind: str = "clip" if len(offsets) > 1 else "keyframe"
            yield Fraction(0), _place(each, kind, first, len(offsets)), offsets
            continue
        place = min(count - 1, (Fraction(each.frame, stride) + Fraction(1, 2)).__floor__())
        moved = abs(Fraction(each.frame, stride) - place)
        yield moved, _place(each, "keyframe", place, 1), (0,)


def _place(source: Placed, kind: str, frame: int, frames: int) -> Placed:
    return Placed(
        index=source.index,
        kind="clip" if kind == "clip" else "keyframe",
        frame=frame,
        frames=frames,
    )


def _hastened(span: PromptSpan, stride: int) -> PromptSpan:
    """A prompt's span in the coarse film's own seconds."""
    end = None if span.end is None else span.end / stride
    return span.model_copy(update={"start": span.start / stride, "end": end})
