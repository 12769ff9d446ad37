"""Plans of shots, and what they are made of: conditions, prompts, geometries."""

from __future__ import annotations

from fractions import Fraction

from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.storyboard import PromptSpan
from dreamontage.storyboard.placement import Placed

FPS = Fraction(16)
NINE = Geometry(window_latents=9, tail_latents=2)
FIVE = Geometry(window_latents=5, tail_latents=1)


def spans(*rows: tuple[float, float | None, str]) -> list[PromptSpan]:
    return [
        PromptSpan.model_validate({"start": start, "end": end, "text": text})
        for start, end, text in rows
    ]


def still(frame: int, index: int = 0) -> Placed:
    return Placed(index=index, kind="keyframe", frame=frame, frames=1)


def clip(frame: int, frames: int, index: int = 0) -> Placed:
    return Placed(index=index, kind="clip", frame=frame, frames=frames)


def plan(
    frames: int,
    *conditions: Placed,
    prompts: list[PromptSpan] | None = None,
    geometry: Geometry = NINE,
    fps: Fraction = FPS,
    seed: int = 7,
    loop: bool = False,
) -> ShotPlan:
    return plan_shot(
        frames=frames,
        fps=fps,
        prompts=prompts or [],
        conditions=conditions,
        seed=seed,
        geometry=geometry,
        loop=loop,
    )


def loop_plan(
    frames: int,
    *conditions: Placed,
    prompts: list[PromptSpan] | None = None,
    geometry: Geometry = NINE,
    fps: Fraction = FPS,
) -> ShotPlan:
    """The plan of a shot that loops."""
    return plan(frames, *conditions, prompts=prompts, geometry=geometry, fps=fps, loop=True)
