"""How a picture of one shape is laid into a frame of another: stills and clips alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Fit = Literal["crop", "pad"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Scale to `scaled_width` x `scaled_height`, then put that with its corner at (`x`, `y`).

    The offsets are negative where the picture sticks out of the frame and is cut ("crop"), and
    positive where bars remain ("pad"). They are whole pixels, so a clip and a still of the same
    source lie on each other.
    """

    scaled_width: int
    scaled_height: int
    x: int
    y: int


def lay_out(*, source: tuple[int, int], frame: tuple[int, int], fit: Fit) -> Layout:
    """Centre a `source` (width, height) in a `frame`: covering it, or contained in it."""
    (source_width, source_height), (width, height) = source, frame
    # Cross products: which of the two sides binds, exactly.
    wider = source_width * height > width * source_height
    if wider == (fit == "crop"):
        scaled_height = height
        scaled_width = _scale(source_width, height, source_height)
    else:
        scaled_width = width
        scaled_height = _scale(source_height, width, source_width)
    return Layout(
        scaled_width=scaled_width,
        scaled_height=scaled_height,
        x=(width - scaled_width) // 2,
        y=(height - scaled_height) // 2,
    )


def _scale(side: int, numerator: int, denominator: int) -> int:
    return max(1, (2 * side * numerator + denominator) // (2 * denominator))
