"""A shot that loops: after its last frame comes its first again, and the film moves on through it.

A loop of N frames, N a multiple of four, is planned on latents that go on past its end: frame N is
frame 0 again. The last window, the closing one, is given the film's own first latents there as if
they were a clip placed at frame N, which is what a model tuned on clips knows: the slot that frame
N ends holds latent 0, a single frame's, and the slots behind it latents 1 to `again`, whole. What
the closing window makes of these last slots is left away; the slot of frame N it makes itself, and
that is the film's last. Everything here is **[ours]**: the paper names loops and no way to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from dreamontage import timeline
from dreamontage.storyboard import PromptSpan
from dreamontage.timeline import TEMPORAL_STRIDE

if TYPE_CHECKING:
    from dreamontage.plan import Geometry


def again(geometry: Geometry) -> int:
    """How many latents behind frame N are given once more, so that movement, too, goes on.

    As many as any segment hands to the next, fewer where the window has no room for them beside a
    tail and the latent of frame N.
    """
    return min(geometry.tail_latents, geometry.window_latents - geometry.tail_latents - 1)


def shortest(geometry: Geometry) -> int:
    """The fewest frames of a loop: the first segment holds all that is given again and a tail, so
    that no fusion changes what the closing one is given, and that one makes at least a latent.

    Raises:
        ValueError: for a model whose windows leave no room to close a loop.
    """
    if again(geometry) < 1:
        raise ValueError(
            f"this model makes no loops: its windows of {geometry.window_latents} latents leave no "
            f"room for two beside a tail of {geometry.tail_latents}"
        )
    return TEMPORAL_STRIDE * (again(geometry) + 1 + geometry.tail_latents)


def problem(frames: int, geometry: Geometry) -> str:
    """What keeps a loop of so many frames from being made with this model; "" when nothing does."""
    try:
        least = shortest(geometry)
    except ValueError as error:
        return str(error)
    if frames < least:
        return f"too short for a loop with this model, which needs at least {least} frames"
    return ""


def windows(latents: int, boundaries: Sequence[int], geometry: Geometry) -> list[tuple[int, int]]:
    """The windows of a loop of so many latents: those of any shot, up to one that the closing one
    can follow. That ends at the first boundary from where the way back can be one window, so that
    it knows where it is going and there is room to come back; without one, as soon as it can.
    """
    size, tail = geometry.window_latents, geometry.tail_latents
    end, head = latents + again(geometry), again(geometry) + 1
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


def two_rounds(prompts: Sequence[PromptSpan], frames: int, fps: Fraction) -> list[PromptSpan]:
    """A loop's prompts for two rounds: the closing window shows the beginning of the second.

    An end within the two frames by which a loop's length is rounded is the loop's. A prompt that
    holds at the end and at the beginning is one, so that one for the whole shot stays so.
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
    # Not validated: a span of a file has its times as decimals, and these need not be any.
    return [
        PromptSpan.model_construct(start=start, end=end, text=text)
        for start, end, text in (*rounds, *second)
    ]
