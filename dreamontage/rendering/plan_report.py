"""What `dreamontage plan` tells: a storyboard's segments and their cost, as data and as tables."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from dreamontage import timeline
from dreamontage.models.folder import flow_shift
from dreamontage.planning.coarse import STRENGTH, CoarseCondition, CoarseLevel
from dreamontage.planning.cost import Estimate, estimate, steps_below
from dreamontage.planning.segments import Segment, ShotPlan, placed
from dreamontage.planning.shot_request import ShotRequest
from dreamontage.rendering.assets import ClipSeconds
from dreamontage.rendering.model_facts import Model
from dreamontage.rendering.preflight import ModelFolders, refinable
from dreamontage.rendering.upscale_cost import UpscalePlan
from dreamontage.storyboard import Shot, Storyboard
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.placement import Placed
from dreamontage.storyboard.rules import shot_frames


def plan_report(
    board: Storyboard,
    clip_seconds: ClipSeconds,
    model: Model,
    flops_per_second: float,
    *,
    sr: Path | None = None,
) -> dict[str, Any]:
    """Every shot's segments, conditions and cost, as JSON. Memory is the greatest of the shots',
    with both models in it where there are two.

    `sr` is the super-resolution model's folder, for a storyboard with `upscale`.

    Raises `StoryboardError` for what the models cannot render: a size, a loop, a scale.
    """
    if errors := ModelFolders(base=model.folder, sr=sr).errors(board):
        raise StoryboardError(errors)
    upscale_plan = None
    if board.upscale is not None:
        assert sr is not None, "it would be a fault"
        upscale_plan = UpscalePlan.of(board, Model.from_folder(sr))
    steps = model.steps if board.sampler.steps is None else board.sampler.steps
    guidance = model.guidance if board.sampler.guidance is None else board.sampler.guidance
    image_guidance = board.sampler.image_guidance
    if image_guidance is None:
        image_guidance = model.image_guidance
    can_refine = refinable(model.folder, board)

    def cost_of(plan: ShotPlan, run_steps: int) -> Estimate:
        return estimate(
            plan,
            transformer_config=model.config,
            latent_height=board.size.height // model.spatial_scale,
            latent_width=board.size.width // model.spatial_scale,
            steps=run_steps,
            guided=guidance > 1,
            image_guided=image_guidance != 1,
            flops_per_second=flops_per_second,
            text_tokens=model.text_tokens,
            bytes_per_value=model.bytes_per_value,
        )

    shots = []
    costs: list[Estimate] = []
    refined: list[Estimate] = []
    for index, shot in enumerate(board.shots):
        conditions = placed(shot, board.fps, _clip_frames(board, index, clip_seconds))
        request = ShotRequest.of(board, index, conditions, board.shot_seed(index))
        plan = request.plan(model.geometry)
        level = request.coarse_level(model.geometry, refinable=can_refine)
        coarse = None
        run_steps = steps
        if level is not None:
            first = cost_of(level.plan, steps)
            costs.append(first)
            coarse = {
                "stride": level.stride,
                "frames": level.plan.frames,
                "conditions": [_coarse_condition(shot, level, each) for each in level.conditions],
                "segments": [
                    _segment(level.plan, segment, board.fps) for segment in level.plan.segments
                ],
                "estimate": asdict(first),
            }
            run_steps = steps_below(STRENGTH, steps, flow_shift(model.folder))
        cost = cost_of(plan, run_steps)
        costs.append(cost)
        upscaled = None
        if upscale_plan is not None:
            larger, extra = upscale_plan.shot(index, conditions, flops_per_second)
            refined.append(extra)
            upscaled = {
                "segments": [_segment(larger, segment, board.fps) for segment in larger.segments],
                "estimate": asdict(extra),
            }
        shots.append(
            {
                "name": board.shot_name(index),
                "frames": plan.frames,
                "loop": plan.loop,
                "asked_frames": shot_frames(shot.duration, board.fps, loop=False),
                "draft": shot.draft,
                "strength": shot.draft_strength if shot.draft is not None else None,
                "padded_frames": plan.padded_frames,
                "latents": plan.latents,
                "conditions": [_condition(shot, each) for each in conditions],
                "coarse": coarse,
                "run_steps": run_steps,
                "segments": [_segment(plan, segment, board.fps) for segment in plan.segments],
                "estimate": asdict(cost),
                "upscaled": upscaled,
            }
        )
    most = max(cost.bytes for cost in costs)
    if upscale_plan is not None:
        # A warm process keeps both models, and one of them computes.
        most = max(
            most + upscale_plan.model.weight_bytes,
            max(cost.bytes for cost in refined) + model.weight_bytes,
        )
    total = Estimate(
        flops=sum(cost.flops for cost in costs + refined),
        seconds=sum(cost.seconds for cost in costs + refined),
        bytes=most,
    )
    return {
        "title": board.title,
        "fps": str(board.fps),
        "size": [board.size.width, board.size.height],
        "steps": steps,
        "guidance": guidance,
        "image_guidance": image_guidance,
        "model": model.to_json(),
        "upscale": None if upscale_plan is None else upscale_plan.to_json(),
        "shots": shots,
        "flops_per_second": flops_per_second,
        "estimate": asdict(total),
    }


def _clip_frames(board: Storyboard, shot: int, seconds: ClipSeconds) -> dict[int, int]:
    """How many frames each clip of a shot will have, once it is taken in."""
    found = {}
    for index, clip in enumerate(board.shots[shot].clips):
        length = seconds[shot, index]
        stop = length if clip.out is None else min(clip.out, length)
        found[index] = max(1, timeline.frame_at(stop - clip.in_, board.fps))
    return found


def _condition(shot: Shot, condition: Placed) -> dict[str, Any]:
    files = [each.image for each in shot.keyframes] + [each.video for each in shot.clips]
    return {
        "kind": condition.kind,
        "file": files[condition.index],
        "frame": condition.frame,
        "frames": condition.frames,
        "latents": [condition.latents.start, condition.latents.stop],
    }


def _coarse_condition(shot: Shot, level: CoarseLevel, given: CoarseCondition) -> dict[str, Any]:
    """A condition at its coarse place, and the shot's frame that it is shown as."""
    source = given.placed
    files = [each.image for each in shot.keyframes] + [each.video for each in shot.clips]
    return {
        "kind": source.kind,
        "file": files[given.source],
        "frame": source.frame,
        "frames": source.frames,
        "shown_frame": level.shown[source.frame],
        "latents": [source.latents.start, source.latents.stop],
    }


def _segment(plan: ShotPlan, segment: Segment, fps: Fraction) -> dict[str, Any]:
    first = timeline.frames_of(segment.start).start
    stop = min(timeline.frames_of(segment.stop - 1).stop, plan.frames)
    return {
        **asdict(segment),
        "new": segment.new,
        "frames": [first, stop],
        "seconds": [float(timeline.seconds_at(frame, fps)) for frame in (first, stop)],
    }
