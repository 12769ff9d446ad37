"""What the flows' tasks do, as plain functions: each safe to run twice, none knowing of Prefect.

A take goes through them in this order: plan_take, encode_prompts, render_segment for each segment,
decode_take, gate_take; a storyboard ends with assemble.
"""

from flows.steps.delivery import Assembled, assemble
from flows.steps.prompts import encode_prompts
from flows.steps.segments import LostWork, latents_of, render_segment
from flows.steps.shots import PlannedSegment, board_of, next_attempt, plan_take, takes_allowed
from flows.steps.takes import Judged, decode_take, gate_take

__all__ = [
    "Assembled",
    "Judged",
    "LostWork",
    "PlannedSegment",
    "assemble",
    "board_of",
    "decode_take",
    "encode_prompts",
    "gate_take",
    "latents_of",
    "next_attempt",
    "plan_take",
    "render_segment",
    "takes_allowed",
]
