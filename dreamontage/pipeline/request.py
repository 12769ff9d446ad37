"""A call of the pipeline, checked and planned as a storyboard's shot is."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from dreamontage.planning.coarse import STRIDES
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.shot_request import ShotRequest
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.storyboard import AUTO, Coarse, PromptSpan, prompt_syntax
from dreamontage.storyboard.placement import Placed, clashes, loop_end_error, on_loop_end
from dreamontage.timeline import TEMPORAL_STRIDE


def placed(conditions: Sequence[Keyframe | Clip]) -> list[Placed]:
    """The conditions as the planner takes them."""
    return [
        Placed(index=index, kind="clip", frame=condition.frame, frames=len(condition.frames))
        if isinstance(condition, Clip)
        else Placed(index=index, kind="keyframe", frame=condition.frame, frames=1)
        for index, condition in enumerate(conditions)
    ]


def checked_request(
    *,
    prompt: str,
    conditions: Sequence[Keyframe | Clip],
    frames: int,
    fps: float,
    seed: int,
    height: int,
    width: int,
    geometry: Geometry,
    loop: bool = False,
    coarse: Coarse = "off",
) -> ShotRequest:
    """What a call asks for.

    Raises:
        ValueError: for a size off the model's grid, a condition outside the shot or on another's
            place, a loop of a length that there is not, or an unreadable prompt.
    """
    multiple = geometry.spatial_multiple
    if height % multiple or width % multiple:
        raise ValueError(
            f"height and width must be multiples of {multiple}, and are {height} and {width}"
        )
    if loop and (frames % TEMPORAL_STRIDE or not frames):
        raise ValueError(
            f"num_frames = {frames} must be a multiple of {TEMPORAL_STRIDE} for a loop"
        )
    if coarse not in ("off", AUTO, *STRIDES):
        raise ValueError(f"coarse = {coarse!r} must be one of 'off', 'auto', 2, 4, 8")
    for index, condition in enumerate(conditions):
        if isinstance(condition, Clip) and not condition.frames:
            raise ValueError(f"conditions[{index}] is a clip without frames")
    where = placed(conditions)
    for each in where:
        if each.stop > frames:
            raise ValueError(
                f"conditions[{each.index}] reaches frame {each.stop - 1}, past the shot's "
                f"last frame, {frames - 1}"
            )
    for clash in clashes(where):
        raise ValueError(
            f"conditions[{clash.condition.index}] {clash.reason} conditions[{clash.other.index}]"
        )
    if loop:
        for each in on_loop_end(where, frames):
            raise ValueError(f"conditions[{each.index}] {loop_end_error(each, frames)}")
    spans, problems = prompt_syntax.parse(prompt)
    if problems:
        raise ValueError("; ".join(f"prompt {problem}" for problem in problems))
    return ShotRequest(
        frames=frames,
        fps=Fraction(str(fps)),
        prompts=[PromptSpan.model_validate(span) for span in spans],
        conditions=where,
        seed=seed,
        loop=loop,
        coarse=coarse,
    )
