"""A shot as its rows describe it, and how a take of it is cut into segments."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from db.leases import SegmentSlot
from db.models import Shot
from db.states import ShotState, Stage, Verdict
from dreamontage import keys, storyboard
from dreamontage.chains import Maker, base_keys, sampler_told, upscale_keys
from dreamontage.faults import StoryboardError
from dreamontage.plan import Placed, ShotPlan, plan_shot
from dreamontage.seeds import take_seed
from dreamontage.storyboard import Storyboard, loads
from dreamontage.upscale.model import folder_faults
from dreamontage.upscale.upscaler import Upscaler
from flows.farm import Farm
from storage.address import parse


@dataclass(frozen=True, kw_only=True)
class PlannedSegment:
    """A segment of a take, by its key: number ``index`` of the take, and ``number`` of the
    ``count`` that its stage has, from 0."""

    take_id: str
    index: int
    key: str
    steps: int
    stage: Stage
    number: int
    count: int


@dataclass(frozen=True, kw_only=True)
class ShotContext:
    """A shot as its rows describe it."""

    board: Storyboard
    shot: Shot
    placed: tuple[Placed, ...]
    renditions: tuple[str, ...]  # addresses, in the order of `placed`
    targets: tuple[str, ...]  # the same in the size that is delivered

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
        targets=tuple(row.target_address or row.rendition_address for row in rows),
    )


def board_of(farm: Farm, storyboard_id: str) -> Storyboard:
    return loads(farm.repository.storyboard(storyboard_id).document, None)


def stages_of(board: Storyboard) -> list[Stage]:
    """What a film's takes go through; the last one's latents are what is decoded."""
    return [Stage.BASE] if board.upscale is None else [Stage.BASE, Stage.UPSCALE]


def plan_of(farm: Farm, context: ShotContext, seed: int, stage: Stage = Stage.BASE) -> ShotPlan:
    return plan_shot(
        frames=context.shot.frames,
        fps=context.fps,
        prompts=context.wanted.prompts,
        conditions=context.placed,
        seed=seed,
        geometry=farm.model(stage).geometry,
        loop=context.wanted.loop,
    )


def sampler_of(farm: Farm, board: Storyboard, stage: Stage = Stage.BASE) -> dict[str, int | float]:
    """The sampler's settings as they are used: the storyboard's, else the model's own. The
    super-resolution model has its own."""
    facts = farm.model(stage).facts
    own = board.sampler if stage is Stage.BASE else storyboard.Sampler()
    image = own.image_guidance
    return sampler_told(
        steps=facts.default_steps if own.steps is None else own.steps,
        guidance=facts.default_guidance if own.guidance is None else own.guidance,
        image_guidance=facts.default_image_guidance if image is None else image,
    )


def maker_of(farm: Farm, board: Storyboard, stage: Stage = Stage.BASE) -> Maker:
    return Maker(
        revision=farm.model(stage).made_by,
        machine=keys.machine_kind(farm.settings.device),
        sampler=sampler_of(farm, board, stage),
        negative_prompt=board.negative_prompt,
    )


def upscaler_of(farm: Farm, board: Storyboard) -> Upscaler:
    """How a film is enlarged that is. Raises `ValueError` if no model is set for it."""
    assert board.upscale is not None
    return Upscaler.of(farm.model(Stage.UPSCALE).facts.superres, scale=board.upscale)


def smoke(farm: Farm, board: Storyboard) -> bool:
    """Whether barely trained weights have a part in the film."""
    return any(farm.model(stage).facts.smoke for stage in stages_of(board))


def next_attempt(farm: Farm, shot_id: str) -> int:
    """Which take to render: the one that was begun, or the next one if that was sent back."""
    takes = farm.repository.takes(shot_id)
    if not takes:
        return 0
    return takes[-1].attempt + (takes[-1].verdict is Verdict.RETAKE)


def takes_allowed(farm: Farm, shot_id: str) -> int:
    """How many takes a shot may cost. Barely trained weights get one: what they fail at, they
    fail at with every seed."""
    board = board_of(farm, farm.repository.shot(shot_id).storyboard_id)
    return 1 if smoke(farm, board) else farm.settings.max_takes


def slots_of(farm: Farm, context: ShotContext, seed: int) -> list[SegmentSlot]:
    """What a take with this seed is made of, as this farm's models and settings have it."""
    board, size = context.board, context.board.size
    animatic = context.shot.draft_address and parse(context.shot.draft_address).digest
    plan = plan_of(farm, context, seed)
    base = base_keys(
        plan,
        context.wanted,
        by=maker_of(farm, board),
        size=size,
        placed=context.placed,
        digests=[parse(address).digest for address in context.renditions],
        animatic=animatic,
    )
    made = [(Stage.BASE, each, key) for each, key in zip(plan.segments, base, strict=True)]
    if board.upscale is not None:
        larger = plan_of(farm, context, seed, Stage.UPSCALE)
        refined = upscale_keys(
            larger,
            by=maker_of(farm, board, Stage.UPSCALE),
            upscaler=upscaler_of(farm, board),
            size=board.target,
            seed=seed,
            placed=context.placed,
            digests=[parse(address).digest for address in context.targets],
            base=list(zip(plan.segments, base, strict=True)),
        )
        made += [
            (Stage.UPSCALE, each, key) for each, key in zip(larger.segments, refined, strict=True)
        ]
    return [
        SegmentSlot(
            index=index,
            key=key,
            steps=int(sampler_of(farm, board, stage)["steps"]),
            start=segment.start,
            stop=segment.stop,
            tail=segment.tail,
            stage=stage,
        )
        for index, (stage, segment, key) in enumerate(made)
    ]


def plan_take(farm: Farm, shot_id: str, attempt: int) -> list[PlannedSegment]:
    """Begin a take: its seed, its segments and their keys. Reads no model, only its revision.

    Raises:
        StoryboardError: for a film to be enlarged that this farm's models cannot enlarge, or not
            any more.
    """
    context = context_of(farm, shot_id)
    faults = folder_faults(context.board, farm.settings.weights, farm.settings.sr_weights)
    if faults:
        raise StoryboardError(faults)
    seed = take_seed(context.shot.seed, attempt)
    take = farm.repository.start_take(shot_id, attempt, seed)
    slots = slots_of(farm, context, seed)
    farm.repository.set_take_segments(take.id, slots)
    farm.repository.set_shot_state(shot_id, ShotState.RENDERING)
    return [
        PlannedSegment(
            take_id=take.id,
            index=slot.index,
            key=slot.key,
            steps=slot.steps,
            stage=slot.stage,
            number=sum(each.stage is slot.stage for each in slots[: slot.index]),
            count=sum(each.stage is slot.stage for each in slots),
        )
        for slot in slots
    ]
