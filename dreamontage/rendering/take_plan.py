"""A take, planned once: its windows of all stages, their segment keys, and its joins.

Pure: no torch, no files, no clock. The plan is what is rendered. The engine recomputes the keys
from the model that is loaded, and refuses to render under keys that are not the model's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import cached_property

from dreamontage.planning.coarse import CoarseLevel
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segment_keys import (
    RenderSettings,
    base_keys,
    coarse_level_keys,
    upscale_keys,
)
from dreamontage.planning.segments import Segment, ShotPlan
from dreamontage.planning.shot_request import ShotRequest
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.storyboard import Shot, Storyboard
from dreamontage.storyboard.placement import Placed
from dreamontage.storyboard.seeds import take_seed


class Stage(StrEnum):
    """What a take goes through, in this order; every take has the base stage.

    The coarse stage renders one frame in some, by the base model; the base stage starts from its
    film. The upscale stage refines the enlarged film of the base stage.
    """

    COARSE = "coarse"
    BASE = "base"
    UPSCALE = "upscale"


class StaleTake(RuntimeError):  # noqa: N818 - it says what happened
    """The take was planned for another model, or has been planned anew since: plan it again."""


@dataclass(frozen=True, kw_only=True)
class StageModel:
    """What a plan needs to know of a stage's model.

    `upscaler`: the super-resolution model's. `refinable`: whether the base model can refine a
    coarse film (`coarse.can_refine`).
    """

    settings: RenderSettings
    geometry: Geometry
    upscaler: Upscaler | None = None
    refinable: bool = False

    @property
    def steps(self) -> int:
        return int(self.settings.sampler["steps"])


@dataclass(frozen=True, kw_only=True)
class Renditions:
    """A shot's conditions, and its draft, by the digests of their renditions.

    `digests[i]` is the digest of the rendition of `placed[i]` at the film's size, `targets[i]` of
    the one at the size that is delivered. `animatic` is the digest of the draft's video, if any.
    """

    placed: tuple[Placed, ...]
    digests: tuple[str, ...]
    targets: tuple[str, ...]
    animatic: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedSegment:
    """A segment of a take: number `index` of the take, and `number` of the `count` of its stage,
    from 0."""

    stage: Stage
    index: int
    number: int
    count: int
    steps: int
    key: str
    window: Segment


@dataclass(frozen=True, kw_only=True)
class TakePlan:
    """One attempt at a shot, with one seed. `segments` are in the order of their stages."""

    board: Storyboard
    shot_index: int
    attempt: int
    seed: int
    renditions: Renditions
    base_model: StageModel
    sr_model: StageModel | None
    coarse: CoarseLevel | None
    base: ShotPlan
    upscale: ShotPlan | None
    segments: tuple[PlannedSegment, ...]

    @property
    def shot(self) -> Shot:
        return self.board.shots[self.shot_index]

    @property
    def frames(self) -> int:
        return self.base.frames

    @property
    def fps(self) -> Fraction:
        return self.board.fps

    @cached_property
    def keys(self) -> list[str]:
        return [segment.key for segment in self.segments]

    @property
    def last_stage(self) -> Stage:
        """The stage whose latents are decoded."""
        return Stage.BASE if self.upscale is None else Stage.UPSCALE

    @property
    def stages(self) -> list[Stage]:
        found = [Stage.COARSE] if self.coarse is not None else []
        return [*found, Stage.BASE, *([Stage.UPSCALE] if self.upscale is not None else [])]

    @property
    def joins(self) -> tuple[int, ...]:
        """The frames where windows of the film's own rate meet."""
        plans = [self.base, *([self.upscale] if self.upscale else [])]
        return tuple(sorted({join for plan in plans for join in plan.joins}))

    def model(self, stage: Stage) -> StageModel:
        found = self.sr_model if stage is Stage.UPSCALE else self.base_model
        assert found is not None, "only a film that is enlarged has the upscale stage"
        return found

    def of_stage(self, stage: Stage) -> list[PlannedSegment]:
        return [segment for segment in self.segments if segment.stage is stage]

    def earlier(self, stage: Stage) -> list[Stage]:
        """The stages that come before one."""
        return self.stages[: self.stages.index(stage)]

    def later(self, stage: Stage) -> list[Stage]:
        """The stages that come after one."""
        return self.stages[self.stages.index(stage) + 1 :]

    def prompts(self, stage: Stage) -> list[str]:
        """Every prompt that the stage's model reads, once each; the negative prompt where it is
        used."""
        found = {segment.window.prompt for segment in self.of_stage(stage)}
        settings = self.model(stage).settings
        if settings.sampler["guidance"] > 1:
            found.add(settings.negative_prompt)
        return sorted(found)

    def previous(self, segment: PlannedSegment) -> PlannedSegment | None:
        """The segment whose last latents are this one's tail."""
        return self.segments[segment.index - 1] if segment.window.tail else None

    def first(self, segment: PlannedSegment) -> PlannedSegment | None:
        """The segment whose first latents close the loop, for a loop's closing segment."""
        return self.segments[segment.index - segment.number] if segment.window.head else None

    def rendered_by(self, stage: Stage, *, revision: str, machine: str) -> TakePlan:
        """The same take, as a model of this revision would render it on this kind of machine."""
        model = self.model(stage)
        settings = replace(model.settings, revision=revision, machine=machine)
        model = replace(model, settings=settings)
        base_model, sr_model = self.base_model, self.sr_model
        if stage is Stage.UPSCALE:
            sr_model = model
        else:
            base_model = model
        segments = _planned(
            self.board,
            self.shot_index,
            seed=self.seed,
            renditions=self.renditions,
            models=(base_model, sr_model),
            plans=(self.coarse, self.base, self.upscale),
        )
        return replace(self, base_model=base_model, sr_model=sr_model, segments=segments)

    def check(self, segment: PlannedSegment, *, revision: str, machine: str) -> None:
        """Raise `StaleTake` if the loaded model would give the segment another key."""
        settings = self.model(segment.stage).settings
        if (settings.revision, settings.machine) == (revision, machine):
            return
        now = self.rendered_by(segment.stage, revision=revision, machine=machine)
        if now.segments[segment.index].key != segment.key:
            raise StaleTake(
                f"segment {segment.number + 1} of {segment.count} was planned for another model "
                f"({settings.revision[:12]} on {settings.machine}; loaded is {revision[:12]} on "
                f"{machine}): the take has to be planned again"
            )


def plan_take(
    board: Storyboard,
    shot_index: int,
    *,
    attempt: int,
    renditions: Renditions,
    base: StageModel,
    sr: StageModel | None = None,
    shot_seed: int | None = None,
) -> TakePlan:
    """Plan one take of a shot.

    Args:
        attempt: counts from 0; each has its own seed.
        sr: the super-resolution model, for a storyboard with `upscale`.
        shot_seed: the shot's seed, if not the storyboard's own for it.

    Raises:
        ValueError: for a loop that is too short for a model, or has no coarse loop.
    """
    seed = take_seed(board.shot_seed(shot_index) if shot_seed is None else shot_seed, attempt)

    if board.upscale is None:
        sr = None
    request = ShotRequest.of(board, shot_index, renditions.placed, seed)
    plans = (
        request.coarse_level(base.geometry, refinable=base.refinable),
        request.plan(base.geometry),
        None if sr is None else request.plan(sr.geometry),
    )
    segments = _planned(
        board, shot_index, seed=seed, renditions=renditions, models=(base, sr), plans=plans
    )
    return TakePlan(
        board=board,
        shot_index=shot_index,
        attempt=attempt,
        seed=seed,
        renditions=renditions,
        base_model=base,
        sr_model=sr,
        coarse=plans[0],
        base=plans[1],
        upscale=plans[2],
        segments=segments,
    )


def _planned(
    board: Storyboard,
    shot_index: int,
    *,
    seed: int,
    renditions: Renditions,
    models: tuple[StageModel, StageModel | None],
    plans: tuple[CoarseLevel | None, ShotPlan, ShotPlan | None],
) -> tuple[PlannedSegment, ...]:
    (base_model, sr_model), (coarse, base, upscale) = models, plans
    shot = board.shots[shot_index]
    stages: list[tuple[Stage, StageModel, Sequence[Segment], list[str]]] = []
    refined_from = None
    if coarse is not None:
        keys = coarse_level_keys(
            coarse,
            shot,
            settings=base_model.settings,
            size=board.size,
            digests=renditions.digests,
            animatic=renditions.animatic,
        )
        stages.append((Stage.COARSE, base_model, coarse.plan.segments, keys))
        refined_from = coarse, keys
    keys = base_keys(
        base,
        shot,
        settings=base_model.settings,
        size=board.size,
        placed=renditions.placed,
        digests=renditions.digests,
        animatic=renditions.animatic,
        coarse=refined_from,
    )
    stages.append((Stage.BASE, base_model, base.segments, keys))
    if sr_model is not None and upscale is not None:
        assert sr_model.upscaler is not None
        refined = upscale_keys(
            upscale,
            settings=sr_model.settings,
            upscaler=sr_model.upscaler,
            size=board.target,
            seed=seed,
            placed=renditions.placed,
            digests=renditions.targets,
            base=list(zip(base.segments, keys, strict=True)),
        )
        stages.append((Stage.UPSCALE, sr_model, upscale.segments, refined))
    found: list[PlannedSegment] = []
    for stage, model, windows, of_stage in stages:
        for number, (window, key) in enumerate(zip(windows, of_stage, strict=True)):
            found.append(
                PlannedSegment(
                    stage=stage,
                    index=len(found),
                    number=number,
                    count=len(windows),
                    steps=model.steps,
                    key=key,
                    window=window,
                )
            )
    return tuple(found)
