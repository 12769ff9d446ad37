"""What the gate looks at, and the form of its answers.

Shapes: T frames, H height, W width, C colour (RGB, uint8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage import media

Pixels = NDArray[np.uint8]

WORKING_SIDE = 256
"""Pixels of the longer side at which films are measured: faults of a shot are larger than that,
and a measure costs the same at 480p as at 1080p."""


_PNG = b"\x89PNG\r\n\x1a\n"


class Better(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number about a film. `frame` is where it is worst, None where it has no one place."""

    name: str
    value: float
    unit: str
    better: Better
    frame: int | None = None
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A condition's place on the film, and the picture that was asked for there.

    `picture` is the condition's rendition: a still's image, or a clip's lossless video, at the
    film's size and (a clip) at its frame rate; or the pixels themselves, frames_THWC. A clip's
    rendition may go on past `frames`; what is over is not looked at. Raises ValueError for pixels
    that are not such a run of at least `frames` pictures.
    """

    frame: int
    picture: Path | Pixels
    frames: int = 1
    label: str = ""

    def __post_init__(self) -> None:
        if self.frame < 0 or self.frames < 1:
            raise ValueError(f"a mark needs frame >= 0, frames >= 1: {self.frame}, {self.frames}")
        if isinstance(self.picture, Path):
            return
        if self.picture.ndim != 4 or len(self.picture) < self.frames:
            raise ValueError(
                f"{self.name} needs pixels of {self.frames} frames (T, H, W, 3), "
                f"has the shape {self.picture.shape}"
            )

    @property
    def stop(self) -> int:
        """The first frame after it."""
        return self.frame + self.frames

    @property
    def name(self) -> str:
        return self.label or f"the condition at frame {self.frame}"

    def pictures(self, first: int = 0) -> Iterator[Pixels]:
        """image_HWC after image_HWC, from the condition's own frame `first` on."""
        if isinstance(self.picture, Path):
            if _is_still(self.picture):
                yield media.read_image(self.picture)
            else:
                yield from media.read_frames(self.picture, first, self.frames - first)
        else:
            yield from self.picture[first : self.frames]


def _is_still(picture: Path) -> bool:
    """A still's rendition is a PNG. Neither the file's name (it may come from a store, without
    one) nor the mark's length (a clip can be one frame long) tells."""
    with picture.open("rb") as file:
        return file.read(len(_PNG)) == _PNG


@dataclass(frozen=True, kw_only=True)
class Film:
    """A take as the gate sees it.

    path: the lossless film. marks: the shot's conditions, in any order; they may overlap.
    joins: of every segment but the first, the first frame that it alone has made.
    loop: its last frame is to lead on into its first.
    """

    path: Path
    fps: Fraction
    marks: tuple[Mark, ...] = ()
    joins: tuple[int, ...] = ()
    loop: bool = False

    def frames(self) -> Iterator[Pixels]:
        """frame_HWC after frame_HWC, from the file."""
        return media.read_frames(self.path)

    def seconds(self, frame: int) -> str:
        return f"{float(frame / self.fps):.2f} s"


class Measure(Protocol):
    """Looks at a film and answers with its scores: always the same names, for every film.

    A measure that has nothing to look at (no joins, no marks) answers with the best value and
    says so in the score's detail, so that a score that is missing means a measure that did not run.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, film: Film) -> list[Score]: ...


class FrameMetric(Protocol):
    """One measure's part in a common pass over a film's frames."""

    def update(self, index: int, frame_HWC: Pixels) -> None:
        """Take frame number `index`, at the working size; frames come in order, each once."""

    def compute(self) -> list[Score]:
        """The scores, once all frames have been seen."""


def working(frame_HWC: Pixels) -> Pixels:
    """The frame with its longer side at most WORKING_SIDE pixels, by area averages."""
    height, width = frame_HWC.shape[:2]
    shrink = WORKING_SIDE / max(height, width)
    if shrink >= 1:
        return frame_HWC
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA), np.uint8)


def lowpassed(frame_HWC: Pixels, sigma: float) -> NDArray[np.float32]:
    """Without detail finer than about `sigma` working pixels, where codecs are soft."""
    return np.asarray(cv2.GaussianBlur(frame_HWC.astype(np.float32), (0, 0), sigma), np.float32)


def distance(a_HWC: NDArray[np.float32], b_HWC: NDArray[np.float32]) -> float:
    """Root mean square difference, in grey levels (0..255)."""
    return float(np.sqrt(np.mean(np.square(a_HWC - b_HWC))))
