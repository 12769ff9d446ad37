"""What the flows' tasks do, as plain functions: each safe to run twice, none knowing of Prefect.

A take goes through them in this order: begin_take, encode_prompts, render_segment for each segment
(make_drafts before those of a stage that refines the one before), decode_take, gate_take. A
storyboard ends with assemble. The work is the render engine's (`dreamontage.rendering`).
"""

from flows.steps.delivery import Assembled, assemble
from flows.steps.shots import (
    FarmTake,
    begin_take,
    board_of,
    next_attempt,
    takes_allowed,
)
from flows.steps.takes import (
    Judged,
    LostFrames,
    decode_take,
    encode_prompts,
    gate_take,
    make_drafts,
    render_segment,
)

__all__ = [
    "Assembled",
    "FarmTake",
    "Judged",
    "LostFrames",
    "assemble",
    "begin_take",
    "board_of",
    "decode_take",
    "encode_prompts",
    "gate_take",
    "make_drafts",
    "next_attempt",
    "render_segment",
    "takes_allowed",
]
