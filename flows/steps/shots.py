"""A shot as its rows describe it, and how a take of it is planned."""

from __future__ import annotations

from dataclasses import dataclass

from db.leases import SegmentSlot
from db.models import Shot
from db.states import ShotState, Verdict
from db.states import Stage as RowStage
from dreamontage import storyboard
from dreamontage.models.machine import machine_kind
from dreamontage.planning.segment_keys import RenderSettings, sampler_to_json
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.rendering.preflight import ModelFolders, refinable
from dreamontage.rendering.take_plan import (
    PlannedSegment,
    Renditions,
    Stage,
    StageModel,
    TakePlan,
    plan_take,
)
from dreamontage.storyboard import Storyboard, loads
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.placement import Placed
from flows.studio.farm import Farm
from storage.address import parse


@dataclass(frozen=True, kw_only=True)
class ShotContext:
    """A shot as its rows describe it. `renditions` are addresses, in the order of `placed`;
    `targets` are those at the size that is delivered."""

    board: Storyboard
    shot: Shot
    placed: tuple[Placed, ...]
    renditions: tuple[str, ...]
    targets: tuple[str, ...]

    @property
    def storyboard_shot(self) -> storyboard.Shot:
        """The shot as the storyboard has it."""
        return self.board.shots[self.shot.index]

    @property
    def rendition_digests(self) -> Renditions:
        draft = self.shot.draft_address
        return Renditions(
            placed=self.placed,
            digests=tuple(parse(address).digest for address in self.renditions),
            targets=tuple(parse(address).digest for address in self.targets),
            animatic=None if draft is None else parse(draft).digest,
        )


@dataclass(frozen=True, kw_only=True)
class FarmTake:
    """A take that is planned: the plan, its rows' ids, and where its renditions are."""

    id: str
    shot_id: str
    plan: TakePlan
    renditions: tuple[str, ...]
    targets: tuple[str, ...]
    draft_address: str | None

    @property
    def segments(self) -> tuple[PlannedSegment, ...]:
        return self.plan.segments


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


def settings_of(farm: Farm, board: Storyboard, stage: Stage = Stage.BASE) -> RenderSettings:
    """How a stage's segments are rendered: the storyboard's sampler, else the model's own. The
    super-resolution model has its own."""
    model = farm.model(stage)
    facts = model.facts
    asked = storyboard.Sampler() if stage is Stage.UPSCALE else board.sampler
    image = asked.image_guidance
    return RenderSettings(
        revision=model.render_revision,
        machine=machine_kind(farm.settings.device),
        sampler=sampler_to_json(
            steps=facts.default_steps if asked.steps is None else asked.steps,
            guidance=facts.default_guidance if asked.guidance is None else asked.guidance,
            image_guidance=facts.default_image_guidance if image is None else image,
        ),
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


def plan_of(farm: Farm, context: ShotContext, attempt: int) -> TakePlan:
    """A take's plan, as this farm's models and settings have it now. Loads no model."""

    def stage_model(stage: Stage) -> StageModel:
        return StageModel(
            settings=settings_of(farm, context.board, stage),
            geometry=farm.model(stage).geometry,
            upscaler=upscaler_of(farm, context.board) if stage is Stage.UPSCALE else None,
            refinable=stage is Stage.BASE and refinable(farm.model(stage).folder, context.board),
        )

    return plan_take(
        context.board,
        context.shot.index,
        attempt=attempt,
        renditions=context.rendition_digests,
        base=stage_model(Stage.BASE),
        sr=None if context.board.upscale is None else stage_model(Stage.UPSCALE),
        shot_seed=context.shot.seed,
    )


def begin_take(farm: Farm, shot_id: str, attempt: int) -> FarmTake:
    """Plan a take and begin it: its seed, its segments and their keys are in the database.

    Raises:
        StoryboardError: for what this farm's models cannot render, or not any more.
    """
    context = context_of(farm, shot_id)
    models = ModelFolders(base=farm.settings.weights, sr=farm.settings.sr_weights)
    if errors := models.errors(context.board):
        raise StoryboardError(errors)
    plan = plan_of(farm, context, attempt)
    take = farm.repository.start_take(shot_id, attempt, plan.seed)
    slots = [
        SegmentSlot(
            index=each.index,
            key=each.key,
            steps=each.steps,
            start=each.window.start,
            stop=each.window.stop,
            tail=each.window.tail,
            stage=RowStage(each.stage.value),
        )
        for each in plan.segments
    ]
    farm.repository.set_take_segments(take.id, slots)
    farm.repository.set_shot_state(shot_id, ShotState.RENDERING)
    return FarmTake(
        id=take.id,
        shot_id=shot_id,
        plan=plan,
        renditions=context.renditions,
        targets=context.targets,
        draft_address=context.shot.draft_address,
    )
