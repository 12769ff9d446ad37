"""A segment's denoise loop, from its renditions and the latents of the segments before it.

Shape legend: B batch, C channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from dreamontage.pipeline.coarse import coarse_condition
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.pipeline.upscale.stage import grid_of, placed, refine
from dreamontage.planning.coarse import STRENGTH, CoarseLevel
from dreamontage.rendering.take import load_condition, load_draft
from dreamontage.rendering.take_plan import PlannedSegment, Stage, TakePlan
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.sampling.conditioning.pictures import Picture
from dreamontage.sampling.state import DenoiseState


class Assets(Protocol):
    """A take's renditions as files, by the index of their condition."""

    def rendition(self, index: int) -> Path:
        """At the film's size."""
        ...

    def target(self, index: int) -> Path:
        """At the size that is delivered."""
        ...

    def animatic(self) -> Path | None:
        """The draft's video, for a shot that has one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a segment is denoised from, beside its conditions.

    ``previous_BCLHW``: the latents of the segment before it; None for the first. ``first_BCLHW``:
    those of the stage's first segment, for a loop's closing one. ``draft_BCLHW``: the film of
    the stage before in the window, where there is one, in this stage's frames and size. Embeddings
    are (1, S, D).
    """

    previous_BCLHW: Tensor | None
    first_BCLHW: Tensor | None
    draft_BCLHW: Tensor | None
    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None


def base_states(
    plan: TakePlan,
    segment: PlannedSegment,
    pipe: DreaMontagePipeline,
    inputs: Inputs,
    assets: Assets,
    state: DenoiseState | None,
) -> Iterator[DenoiseState]:
    """The base model's denoise loop in a window of the coarse film or of the shot, continued from
    ``state`` if there is one.

    ``assets`` are read before this returns.
    """
    window, size = segment.window, plan.board.size
    level = plan.coarse if segment.stage is Stage.COARSE else None
    loaded: dict[int, Keyframe | Clip] = {}

    def condition(index: int) -> Keyframe | Clip:
        if index not in loaded:
            loaded[index] = _condition(plan, level, index, assets)
        return loaded[index]

    conditions = [condition(index) for index in window.conditions]
    draft: Sequence[Picture] | Tensor | None = inputs.draft_BCLHW
    if draft is None and plan.shot.draft is not None:
        draft = load_draft(
            window,
            plan.base if level is None else level.plan,
            plan.renditions.placed if level is None else level.placed,
            load=condition,
            animatic=assets.animatic(),
            shown=None if level is None else level.shown,
        )
    sampler = plan.model(Stage.BASE).settings.sampler
    return pipe.denoise_segment(
        window,
        track=pipe.track(conditions, size.height, size.width),
        previous_BCLHW=inputs.previous_BCLHW,
        head_BCLHW=inputs.first_BCLHW,
        draft=draft,
        strength=plan.shot.draft_strength if inputs.draft_BCLHW is None else STRENGTH,
        height=size.height,
        width=size.width,
        sampler=pipe.sampler(
            int(sampler["steps"]),
            sampler["guidance"],
            image_guidance=sampler.get("image_guidance", 1.0),
        ),
        prompt_embeds=inputs.prompt_embeds,
        negative_prompt_embeds=inputs.negative_prompt_embeds,
        state=state,
    )


def _condition(
    plan: TakePlan, level: CoarseLevel | None, index: int, assets: Assets
) -> Keyframe | Clip:
    """A condition by its index in the shot, or in the shot's coarse level."""
    if level is None:
        return load_condition(plan.renditions.placed[index], assets.rendition(index))
    given = level.conditions[index]
    source = plan.renditions.placed[given.source]
    return coarse_condition(given, load_condition(source, assets.rendition(given.source)))


def upscale_states(
    plan: TakePlan,
    segment: PlannedSegment,
    pipe: DreaMontagePipeline,
    inputs: Inputs,
    assets: Assets,
    state: DenoiseState | None,
) -> Iterator[DenoiseState]:
    """The super-resolution model's denoise loop in one window of the enlarged film; as
    `base_states`."""
    window, board = segment.window, plan.board
    model = plan.model(Stage.UPSCALE)
    assert model.upscaler is not None
    assert inputs.draft_BCLHW is not None
    conditions = [
        load_condition(plan.renditions.placed[index], assets.target(index))
        for index in window.conditions
    ]
    sampler = model.settings.sampler
    return refine(
        window,
        pipe=pipe,
        upscaler=model.upscaler,
        enlarged_BZLHW=inputs.draft_BCLHW,
        track=placed(
            conditions,
            pipe=pipe,
            size=(board.target.height, board.target.width),
            grid=model.upscaler.padded(board.size.height, board.size.width, multiple=grid_of(pipe)),
        ),
        previous_BZLHW=inputs.previous_BCLHW,
        head_BZLHW=inputs.first_BCLHW,
        sampler=pipe.sampler(int(sampler["steps"]), sampler["guidance"]),
        seed=plan.seed,
        prompt_embeds=inputs.prompt_embeds,
        negative_prompt_embeds=inputs.negative_prompt_embeds,
        state=state,
    )
