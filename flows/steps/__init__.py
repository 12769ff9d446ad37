"""What the flows' tasks do, as plain functions: each safe to run twice, none knowing of Prefect.

A take goes through them in this order: plan_take, encode_prompts, render_segment for each segment,
for a film that is upscaled enlarge_take and render_segment for each segment of that stage,
decode_take, gate_take; a storyboard ends with assemble.
"""

from flows.steps.delivery import Assembled, assemble
from flows.steps.enlarging import enlarge_take
from flows.steps.finished import LostWork, latents_of
from flows.steps.prompts import encode_prompts
from flows.steps.segments import render_segment
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
    "enlarge_take",
    "gate_take",
    "latents_of",
    "next_attempt",
    "plan_take",
    "render_segment",
    "takes_allowed",
]
