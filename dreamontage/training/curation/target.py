"""Size and frame rate of training clips; videos are scaled, cropped and resampled to them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

ASPECTS = (
    Fraction(21, 9),
    Fraction(16, 9),
    Fraction(3, 2),
    Fraction(4, 3),
    Fraction(1),
    Fraction(3, 4),
    Fraction(2, 3),
    Fraction(9, 16),
)
"""Few shapes, so that many clips fit in one batch. A video is cropped to the nearest shape."""

_NEAR = 0.08  # difference of two ratios' logarithms up to which they are one shape: 16:9 is 832x480


@dataclass(frozen=True, kw_only=True)
class Target:
    """About width x height pixels, in any of the shapes. Sides are multiples of `multiple`.

    multiple: the autoencoder's stride times the DiT's patch, 16 for Wan. Raises ValueError for an
    impossible size or rate.
    """

    fps: Fraction = Fraction(16)
    width: int = 832
    height: int = 480
    multiple: int = 16

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"fps = {self.fps} must be above 0")
        if self.multiple < 1 or min(self.width, self.height) < self.multiple:
            raise ValueError(
                f"size = {self.width}x{self.height} must be at least {self.multiple} each way"
            )

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def side(self) -> int:
        return max(self.width, self.height)

    def size_for(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which a video of this shape is encoded."""
        own = Fraction(self.width, self.height)
        apart = [
            each
            for each in ASPECTS
            if min(abs(math.log(each / own)), abs(math.log(each * own))) > _NEAR
        ]
        aspects = (own, 1 / own, *apart)
        wanted = math.log(width / height)
        aspect = min(aspects, key=lambda each: abs(math.log(each) - wanted))
        if aspect in (own, 1 / own):
            sides = (self.width, self.height) if aspect == own else (self.height, self.width)
        else:
            tall = math.sqrt(self.pixels / aspect)
            sides = (round(tall * float(aspect)), round(tall))
        return self._on_grid(sides[0]), self._on_grid(sides[1])

    def _on_grid(self, side: int) -> int:
        return max(1, round(side / self.multiple)) * self.multiple
