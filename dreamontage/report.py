"""What `dreamontage plan` tells: a storyboard's segments and their cost, as data and as tables."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamontage import timeline
from dreamontage.assets import ClipSeconds
from dreamontage.checks import shot_frames
from dreamontage.estimate import Estimate, estimate, parameters
from dreamontage.faults import StoryboardError
from dreamontage.models.folder import folder_facts
from dreamontage.plan import (
    Geometry,
    Placed,
    Segment,
    ShotPlan,
    model_faults,
    placed,
    plan_shot,
    read_json,
)
from dreamontage.storyboard import Shot, Storyboard
from dreamontage.upscale.model import folder_faults
from dreamontage.upscale.report import Enlarging


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a model's folder says of itself, read without loading the model."""

    folder: Path
    geometry: Geometry
    config: Mapping[str, Any]
    spatial_scale: int
    steps: int
    guidance: float
    image_guidance: float
    text_tokens: int
    bytes_per_value: int

    @classmethod
    def from_folder(cls, folder: Path) -> Model:
        """Raises `ValueError` naming the file that is missing or wrong."""
        facts = folder_facts(folder)
        config = read_json(folder / "transformer" / "config.json")
        stored = sum(file.stat().st_size for file in (folder / "transformer").glob("*.safetensors"))
        return cls(
            folder=folder,
            geometry=Geometry.from_folder(folder),
            config=config,
            spatial_scale=read_json(folder / "vae" / "config.json").get("scale_factor_spatial", 8),
            steps=facts.default_steps,
            guidance=facts.default_guidance,
            image_guidance=facts.default_image_guidance,
            text_tokens=facts.max_sequence_length,
            # As the weights are stored; two bytes where there are only configs.
            bytes_per_value=min(4, max(1, round(stored / parameters(config)))) if stored else 2,
        )

    @property
    def weight_bytes(self) -> int:
        return parameters(self.config) * self.bytes_per_value

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {"folder": str(self.folder), **asdict(self.geometry)}


def reached_flops() -> float:
    """Operations a second that this machine's processor reaches in a product of matrices."""
    side, best = 768, math.inf
    values = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    for _ in range(5):
        started = time.perf_counter()
        np.matmul(values, values)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


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
    faults = model_faults(board, model.geometry) + folder_faults(board, model.folder, sr)
    if faults:
        raise StoryboardError(faults)
    enlarging = None
    if board.upscale is not None:
        assert sr is not None, "it would be a fault"
        enlarging = Enlarging.of(board, Model.from_folder(sr))
    steps = model.steps if board.sampler.steps is None else board.sampler.steps
    guidance = model.guidance if board.sampler.guidance is None else board.sampler.guidance
    image_guidance = board.sampler.image_guidance
    if image_guidance is None:
        image_guidance = model.image_guidance
    shots = []
    costs: list[Estimate] = []
    refined: list[Estimate] = []
    for index, shot in enumerate(board.shots):
        conditions = placed(shot, board.fps, _clip_frames(board, index, clip_seconds))
        plan = plan_shot(
            frames=shot.frames(board.fps),
            fps=board.fps,
            prompts=shot.prompts,
            conditions=conditions,
            seed=board.shot_seed(index),
            geometry=model.geometry,
            loop=shot.loop,
        )
        cost = estimate(
            plan,
            transformer_config=model.config,
            latent_height=board.size.height // model.spatial_scale,
            latent_width=board.size.width // model.spatial_scale,
            steps=steps,
            guided=guidance > 1,
            led=image_guidance != 1,
            flops_per_second=flops_per_second,
            text_tokens=model.text_tokens,
            bytes_per_value=model.bytes_per_value,
        )
        costs.append(cost)
        upscaled = None
        if enlarging is not None:
            larger, extra = enlarging.shot(index, conditions, flops_per_second)
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
                "segments": [_segment(plan, segment, board.fps) for segment in plan.segments],
                "estimate": asdict(cost),
                "upscaled": upscaled,
            }
        )
    most = max(cost.bytes for cost in costs)
    if enlarging is not None:
        # A warm process keeps both models, and one of them computes.
        most = max(
            most + enlarging.model.weight_bytes,
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
        "model": model.told(),
        "upscale": None if enlarging is None else enlarging.told(),
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


def _segment(plan: ShotPlan, segment: Segment, fps: Fraction) -> dict[str, Any]:
    first = timeline.frames_of(segment.start).start
    stop = min(timeline.frames_of(segment.stop - 1).stop, plan.frames)
    return {
        **asdict(segment),
        "new": segment.new,
        "frames": [first, stop],
        "seconds": [float(timeline.seconds_at(frame, fps)) for frame in (first, stop)],
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """The report as tables for people."""
    for shot in report["shots"]:
        title = (
            f"{shot['name']}: {shot['frames']} frames, {shot['latents']} latents, "
            f"{_cost(shot['estimate'])}"
        )
        console.print(_table(title, shot["segments"], shot["conditions"]))
        if (upscaled := shot["upscaled"]) is not None:
            width, height = report["upscale"]["size"]
            title = f"{shot['name']} at {width}x{height}: {_cost(upscaled['estimate'])}"
            console.print(_table(title, upscaled["segments"], shot["conditions"]))
        if shot["loop"]:
            console.print(_loop(shot))
        if shot["draft"] is not None:
            draft = f"Drafted from {shot['draft']!r}, noised to {shot['strength']:g}"
            console.print(escape(f"{draft}: fewer steps than the estimate has"))
    model = report["model"]
    console.print(
        f"{report['steps']} steps at guidance {report['guidance']:g}, by the conditions "
        f"{report['image_guidance']:g}; windows of at most {model['window_latents']} latents, "
        f"{model['tail_latents']} of them the last one's tail"
    )
    if (upscale := report["upscale"]) is not None:
        tiles = f"{upscale['tiles']} tiles" if upscale["tiles"] > 1 else "one tile"
        console.print(
            f"Upscaled by {upscale['scale']:g}: the last {upscale['run_steps']} of "
            f"{upscale['steps']} steps at guidance {upscale['guidance']:g}, in {tiles}"
        )
    console.print(
        f"In all: {_cost(report['estimate'])}, if the machine reaches "
        f"{report['flops_per_second'] / 1e12:.3g} TFLOPS. Text and autoencoder come on top."
    )


def _table(
    title: str, segments: Sequence[Mapping[str, Any]], conditions: Sequence[Mapping[str, Any]]
) -> Table:
    """A stage's segments."""
    table = Table(title=escape(title), title_justify="left")
    for column in ("segment", "latents", "seconds", "tail"):
        table.add_column(column, justify="right")
    table.add_column("conditions")
    table.add_column("prompt", ratio=1)
    for segment in segments:
        given = [conditions[index] for index in segment["conditions"]]
        table.add_row(
            str(segment["index"] + 1),  # as progress and `status` count them
            f"{segment['start']}–{segment['stop'] - 1}",
            "–".join(f"{seconds:.2f}" for seconds in segment["seconds"]),
            str(segment["tail"]),
            escape("\n".join(f"{_span(each)} {Path(each['file']).name}" for each in given)),
            escape(segment["prompt"]),
        )
    return table


def _loop(shot: Mapping[str, Any]) -> str:
    asked, frames, head = shot["asked_frames"], shot["frames"], shot["segments"][-1]["head"]
    rounded = "" if asked == frames else f"{asked} frames asked for, {frames} shown: "
    rule = "a loop has a multiple of four; " if rounded else ""
    return (
        f"Loops: {rounded}{rule}the last segment is given the film's first {head} latents at its "
        "end, and what comes after the last frame is left away"
    )


def _span(condition: Mapping[str, Any]) -> str:
    first, frames = condition["frame"], condition["frames"]
    return str(first) if frames == 1 else f"{first}–{first + frames - 1}"


def _cost(cost: Mapping[str, Any]) -> str:
    seconds = cost["seconds"]
    length = f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.1f} min"
    return f"about {length} and {cost['bytes'] / 2**30:.3g} GiB"
