"""Windows of a shot that loops: its last frame leads on into its first.

A loop has N frames, N a multiple of four. Its plan continues past the end: frame N is frame 0
again. The last window is the closing window. The film's own first latents are given there as if
they were a clip at frame N, because a model tuned on clips knows that case: the slot that ends with
frame N holds latent 0 (a single frame), and the slots after it hold latents 1 to
`repeated_latents`, whole. What the closing window generates in the slots past the end is dropped.
It generates the slot of frame N itself, and that slot is the film's last.

Everything here is **[ours]**: the paper names loops and describes no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from dreamontage import timeline
from dreamontage.planning.geometry import Geometry
from dreamontage.storyboard import PromptSpan
from dreamontage.timeline import TEMPORAL_STRIDE


def repeated_latents(geometry: Geometry) -> int:
    """How many latents after frame N are given again, so that movement continues too.

    It is the length of a tail, or less where the window has no room for more beside a tail and the
    latent of frame N.
    """
    return min(geometry.tail_latents, geometry.window_latents - geometry.tail_latents - 1)


def shortest_loop(geometry: Geometry) -> int:
    """The fewest frames of a loop.

    The first segment holds all latents that are given again, and a tail: so no fusion changes what
    is given to the closing window. The closing window adds at least one latent.

    Raises:
        ValueError: for a model whose windows leave no room to close a loop.
    """
    if repeated_latents(geometry) < 1:
        raise ValueError(
            f"this model makes no loops: its windows of {geometry.window_latents} latents leave no "
            f"room for two beside a tail of {geometry.tail_latents}"
        )
    return TEMPORAL_STRIDE * (repeated_latents(geometry) + 1 + geometry.tail_latents)


def loop_error(frames: int, geometry: Geometry) -> str:
    """Why this model cannot make a loop of this many frames; "" when it can."""
    try:
        least = shortest_loop(geometry)
    except ValueError as error:
        return str(error)
    if frames < least:
        return f"too short for a loop with this model, which needs at least {least} frames"
    return ""


def windows(latents: int, boundaries: Sequence[int], geometry: Geometry) -> list[tuple[int, int]]:
    """The windows of a loop with this many latents.

    They are the windows of any shot, up to the one before the closing window. That one ends at the
    first boundary from which one window reaches the end: so it has a condition as its goal, and the
    closing window has room. Without such a boundary it ends as early as it can.
    """
    size, tail = geometry.window_latents, geometry.tail_latents
    end, head = latents + repeated_latents(geometry), repeated_latents(geometry) + 1
    earliest, start = max(end - size, head) + tail, 0
    found: list[tuple[int, int]] = []
    while earliest > start + size:
        stop = geometry.window_stop(start, boundaries, least=head + tail)
        found.append((start, stop))
        start = stop - tail
    latest = min(start + size, latents - 1)
    inside = [boundary for boundary in boundaries if earliest <= boundary <= latest]
    stop = inside[0] if inside else earliest
    return [*found, (start, stop), (stop - tail, end)]


def prompts_of_two_rounds(
    prompts: Sequence[PromptSpan], frames: int, fps: Fraction
) -> list[PromptSpan]:
    """A loop's prompts for two rounds: the closing window shows the beginning of the second.

    A loop's length is rounded by up to two frames: a prompt that ends within them ends with the
    loop. A prompt that covers both the end and the beginning becomes one span, so that one prompt
    for the whole shot stays one.
    """
    turn, rounding = timeline.seconds_at(frames, fps), timeline.seconds_at(2, fps)
    once = [
        (
            span.start,
            turn if span.end is None or span.end >= turn - rounding else span.end,
            span.text,
        )
        for span in prompts
    ]
    rounds, second = list(once), [(start + turn, end + turn, text) for start, end, text in once]
    if once and once[-1][1:] == (turn, once[0][2]) and once[0][0] == 0:
        rounds[-1] = (once[-1][0], second.pop(0)[1], once[0][2])
    # Not validated: times in a file are decimals, and these need not be.
    return [
        PromptSpan.model_construct(start=start, end=end, text=text)
        for start, end, text in (*rounds, *second)
    ]
