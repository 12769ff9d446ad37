"""A shot as its rows describe it, and how a take of it is cut into segments."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from db.leases import SegmentSlot
from db.models import Shot
from db.states import ShotState, Verdict
from dreamontage import keys, storyboard
from dreamontage.draft import key_of
from dreamontage.plan import Placed, ShotPlan, plan_shot
from dreamontage.seeds import take_seed
from dreamontage.storyboard import Storyboard, loads
from flows.farm import Farm
from storage.address import parse


@dataclass(frozen=True, kw_only=True)
class PlannedSegment:
    """A segment of a take, by its key."""

    take_id: str
    index: int
    key: str
    steps: int


@dataclass(frozen=True, kw_only=True)
class ShotContext:
    """A shot as its rows describe it."""

    board: Storyboard
    shot: Shot
    placed: tuple[Placed, ...]
    renditions: tuple[str, ...]  # addresses, in the order of `placed`

    @property
    def fps(self) -> Fraction:
        return self.board.fps

    @property
    def wanted(self) -> storyboard.Shot:
        """The shot as the storyboard has it."""
        return self.board.shots[self.shot.index]


def context_of(farm: Farm, shot_id: str) -> ShotContext:
    shot = farm.repository.shot(shot_id)
    rows = farm.repository.conditions(shot_id)
    return ShotContext(
        board=board_of(farm, shot.storyboard_id),
        shot=shot,
        placed=tuple(
            Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=row.frames)
            for row in rows
        ),
        renditions=tuple(row.rendition_address for row in rows),
    )


def board_of(farm: Farm, storyboard_id: str) -> Storyboard:
    return loads(farm.repository.storyboard(storyboard_id).document, None)


def plan_of(farm: Farm, context: ShotContext, seed: int) -> ShotPlan:
    return plan_shot(
        frames=context.shot.frames,
        fps=context.fps,
        prompts=context.wanted.prompts,
        conditions=context.placed,
        seed=seed,
        geometry=farm.geometry,
        loop=context.wanted.loop,
    )


def sampler_of(farm: Farm, board: Storyboard) -> dict[str, int | float]:
    """The sampler's settings as they are used: the storyboard's, else the model's own."""
    own, facts = board.sampler, farm.facts
    return {
        "steps": facts.default_steps if own.steps is None else own.steps,
        "guidance": facts.default_guidance if own.guidance is None else own.guidance,
    }


def next_attempt(farm: Farm, shot_id: str) -> int:
    """Which take to render: the one that was begun, or the next one if that was sent back."""
    takes = farm.repository.takes(shot_id)
    if not takes:
        return 0
    return takes[-1].attempt + (takes[-1].verdict is Verdict.RETAKE)


def takes_allowed(farm: Farm) -> int:
    """How many takes a shot may cost. Barely trained weights get one: what they fail at, they
    fail at with every seed."""
    return 1 if farm.facts.smoke else farm.settings.max_takes


def slots_of(farm: Farm, context: ShotContext, seed: int) -> list[SegmentSlot]:
    """What a take with this seed is made of, as this farm's model and settings have it."""
    sampler = sampler_of(farm, context.board)
    steps = int(sampler["steps"])
    digests = [parse(address).digest for address in context.renditions]
    animatic = context.shot.draft_address and parse(context.shot.draft_address).digest
    slots: list[SegmentSlot] = []
    plan = plan_of(farm, context, seed)
    for segment in plan.segments:
        key = keys.segment_key(
            model_revision=farm.made_by,
            machine=keys.machine_kind(farm.settings.device),
            segment=segment,
            conditions=keys.window_conditions(segment, context.placed, digests),
            width=context.board.size.width,
            height=context.board.size.height,
            # Without guidance the model is never asked it.
            negative_prompt=context.board.negative_prompt if sampler["guidance"] > 1 else "",
            sampler=sampler,
            previous=slots[-1].key if slots else None,
            head=slots[0].key if segment.head else None,
            draft=key_of(
                segment,
                plan,
                context.wanted,
                placed=context.placed,
                digests=digests,
                animatic=animatic,
            ),
        )
        slots.append(
            SegmentSlot(
                index=segment.index,
                key=key,
                steps=steps,
                start=segment.start,
                stop=segment.stop,
                tail=segment.tail,
            )
        )
    return slots


def plan_take(farm: Farm, shot_id: str, attempt: int) -> list[PlannedSegment]:
    """Begin a take: its seed, its segments and their keys. Reads no model, only its revision."""
    context = context_of(farm, shot_id)
    seed = take_seed(context.shot.seed, attempt)
    take = farm.repository.start_take(shot_id, attempt, seed)
    slots = slots_of(farm, context, seed)
    farm.repository.set_take_segments(take.id, slots)
    farm.repository.set_shot_state(shot_id, ShotState.RENDERING)
    return [
        PlannedSegment(take_id=take.id, index=slot.index, key=slot.key, steps=slot.steps)
        for slot in slots
    ]
