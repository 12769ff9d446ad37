"""Technical quality of a picture **[ours]**.

The paper drops videos of low aesthetics by a model that we do not have. A hook may replace this
measure: a function from a picture to a number.

`marks` finds technical defects, independent of taste: out of focus, too dark or too bright, grey,
blocks, black bars. The score is the product of five marks, each from 0 (bad) to 1 (good), so that
one bad mark is enough. Colour counts for a quarter only, because a film may be grey on purpose.

Shapes: H height, W width, C colour (RGB, uint8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dreamontage.training.curation.flow import Floats, Pixels

Judge = Callable[[Pixels], float]
"""image_HWC -> its quality; higher is better, on any scale."""

_BLACK = 24  # luma up to which a bar is black, including a codec's noise
_BLOCK = 8  # pixels of a codec's block


@dataclass(frozen=True, kw_only=True)
class Marks:
    """The marks, each from 0 to 1."""

    sharpness: float
    exposure: float
    colour: float
    smoothness: float  # no blocks
    fullness: float  # no bars

    @property
    def score(self) -> float:
        colour = 0.75 + 0.25 * self.colour
        return self.sharpness * self.exposure * colour * self.smoothness * self.fullness

    def worst(self) -> str:
        """The lowest mark in words, for people."""
        words = {
            "out of focus": self.sharpness,
            "too dark or too bright": self.exposure,
            "hardly any colour": 0.75 + 0.25 * self.colour,
            "blocks of a codec": self.smoothness,
            "black bars": self.fullness,
        }
        name = min(words, key=words.__getitem__)
        return f"{name} ({words[name]:.2f})"


def marks(pictures: Sequence[Pixels], *, side: int) -> Marks:
    """The marks of a film, from a few of its pictures; sharpness is measured at `side` pixels."""
    lumas = [cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2GRAY) for picture_HWC in pictures]
    fitted = [_fitted(picture_HWC, side) for picture_HWC in pictures]
    # Blocks of 8 pixels disappear when the picture is made much smaller.
    whole = max(lumas[0].shape) <= 2 * side
    return Marks(
        sharpness=_between(_mean(sharpness, fitted), 0.09, 0.18),
        exposure=_mean(exposure, lumas),
        colour=_between(_mean(colourfulness, fitted), 2, 25),
        smoothness=_between(_mean(blockiness, lumas) if whole else 1.0, 3.5, 1.6),
        fullness=_between(bars(lumas), 0.2, 0.02),
    )


def _mean(measure: Callable[[Pixels], float], pictures: Sequence[Pixels]) -> float:
    return float(np.mean([measure(picture) for picture in pictures]))


def _between(value: float, bad: float, good: float) -> float:
    return float(np.clip((value - bad) / (good - bad), 0, 1))


def _fitted(picture_HWC: Pixels, side: int) -> Pixels:
    height, width = picture_HWC.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture_HWC
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)


def sharpness(picture_HWC: Pixels) -> float:
    """The fine share of the detail at edges: 0.2 to 0.4 for a sharp picture, 0.1 for one out of
    focus; 1 without edges.

    It is the detail that a blur of one pixel removes, over that of a blur of four pixels, in the
    fifth of the picture with the most detail: a face before a soft background is sharp.
    """
    luma_HW = cv2.cvtColor(picture_HWC, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine_HW = np.abs(luma_HW - cv2.GaussianBlur(luma_HW, (0, 0), 1.0))
    all_HW = np.abs(luma_HW - cv2.GaussianBlur(luma_HW, (0, 0), 4.0))
    edges_HW = all_HW >= np.percentile(all_HW, 80)
    detail = float(all_HW[edges_HW].mean())
    return float(fine_HW[edges_HW].mean()) / detail if detail >= 1 else 1.0


def exposure(luma_HW: Pixels) -> float:
    """1 for a well exposed picture; lower if it is too dark, too bright or flat."""
    dark = float((luma_HW < 12).mean())
    burnt = float((luma_HW > 250).mean())
    spread = float(np.percentile(luma_HW, 98) - np.percentile(luma_HW, 2))
    shown = _between(dark, 0.95, 0.6) * _between(burnt, 0.6, 0.2)
    return shown * _between(spread, 8, 50)


def colourfulness(picture_HWC: Pixels) -> float:
    """Hasler and Süsstrunk's measure (2003): 0 for grey, 15 slightly, 33 moderately colourful."""
    red, green, blue = (picture_HWC[..., c].astype(np.float32) for c in range(3))
    first, second = red - green, (red + green) / 2 - blue
    spread = np.hypot(first.std(), second.std())
    return float(spread + 0.3 * np.hypot(first.mean(), second.mean()))


def blockiness(luma_HW: Pixels) -> float:
    """Steps between pixels at the borders of 8 x 8 blocks over steps elsewhere: 1 without blocks.

    Mean steps without the largest tenth, because edges of objects can be anywhere.
    """
    values_HW = luma_HW.astype(np.float32)
    found = []
    for steps in (np.abs(np.diff(values_HW, axis=0)), np.abs(np.diff(values_HW, axis=1)).T):
        if len(steps) < 3 * _BLOCK:
            continue
        means = np.array([_trimmed(row) for row in steps])
        by_phase = [float(means[phase::_BLOCK].mean()) for phase in range(_BLOCK)]
        inside = np.delete(by_phase, _BLOCK - 1)
        found.append((by_phase[_BLOCK - 1] + 0.2) / (float(np.mean(inside)) + 0.2))
    return max(found, default=1.0)


def _trimmed(row: Floats) -> float:
    return float(np.sort(row)[: max(1, len(row) * 9 // 10)].mean())


def bars(lumas: Sequence[Pixels]) -> float:
    """The share of the picture that black bars take: above and below, or left and right.

    A bar is even and black in all pictures, and the opposite one is as wide. So a night sky is no
    bar.
    """
    sizes = {luma_HW.shape for luma_HW in lumas}
    if len(sizes) != 1:  # a stream may change its size; then no bar is in all pictures
        return 0.0
    brightest_HW = np.max(np.stack(lumas), axis=0)
    if (brightest_HW <= _BLACK).all():
        return 0.0  # `exposure` measures that
    shares = []
    for axis in (1, 0):
        black = np.percentile(brightest_HW, 99, axis=axis) <= _BLACK
        lit = np.flatnonzero(~black)
        if not len(lit):
            continue
        first, last = int(lit[0]), len(black) - 1 - int(lit[-1])
        shares.append(2 * min(first, last) / len(black))
    return max(shares, default=0.0)
