"""Takes of a shot, until the gate is content or asks for a person.

The steps are called in one order, here and on the farm, where each is a Prefect task.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from dreamontage.rendering.take_plan import PlannedSegment, Stage, StaleTake
from dreamontage.scorer import Verdict

_PLANS_A_TAKE = 3  # models that change more often than this while a take is rendered are an error


class PlannedTake(Protocol):
    """A take as its steps pass it on."""

    @property
    def segments(self) -> tuple[PlannedSegment, ...]: ...


T = TypeVar("T", bound=PlannedTake)


class TakeSteps(Protocol[T]):
    """What is done for one take. Each step is safe to run twice."""

    def plan(self, attempt: int) -> T: ...
    def encode_prompts(self, take: T) -> None: ...
    def render_segment(self, take: T, segment: PlannedSegment) -> None: ...
    def make_drafts(self, take: T, stage: Stage) -> None: ...
    def decode(self, take: T) -> None: ...
    def gate(self, take: T, takes_left: int) -> Verdict: ...


def render_takes(
    steps: TakeSteps[T],
    *,
    first_attempt: int,
    max_takes: int,
    retake: Callable[[int], None] = lambda attempt: None,
    stale: Callable[[StaleTake], None] = lambda error: None,
) -> Verdict:
    """Render takes of a shot; the verdict on the last one, which is no `Verdict.RETAKE`.

    Args:
        first_attempt: the take to begin with, or to continue; counts from 0.
        max_takes: how many takes a shot may cost.
        retake: called with each attempt that follows one which the gate sent back.
        stale: called when a take is planned again, since its model is another one now.

    Raises:
        StaleTake: when a take's model changes again and again.
    """
    attempt = first_attempt
    while True:
        verdict = _render_take(steps, attempt, max_takes - attempt - 1, stale)
        if verdict is not Verdict.RETAKE:
            return verdict
        attempt += 1
        retake(attempt)


def _render_take(
    steps: TakeSteps[T], attempt: int, takes_left: int, stale: Callable[[StaleTake], None]
) -> Verdict:
    for left in reversed(range(_PLANS_A_TAKE)):
        try:
            take = steps.plan(attempt)
            steps.encode_prompts(take)
            for segment in take.segments:
                if segment.index and segment.number == 0:
                    steps.make_drafts(take, segment.stage)
                steps.render_segment(take, segment)
            steps.decode(take)
            return steps.gate(take, takes_left)
        except StaleTake as error:
            if not left:
                raise
            stale(error)
    raise AssertionError("the last plan returns or raises")
