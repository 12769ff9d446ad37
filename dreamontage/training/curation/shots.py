"""Is it one shot? Finds cuts, and the dissolves and fades that the gate does not look for.

Cuts come from the gate's own measure (`scorer.cuts`): changes that are larger than those around.
Real videos have three things that our takes do not have.

- **Traffic**. Beside a van that passes close by, a cut is not much larger than the changes around.
  But it is the only place where the flow finds nothing of the picture before.
- **A flash**. It is as large a change as a cut, but the picture is still there: its neighbourhoods
  continue along the motion so far, only brighter. Such cuts are removed.
- **A dissolve**. It is no sudden change, but over its length one picture is replaced by another.
  Nothing of the first is found along the flow, and every frame between is a blend of the two ends,
  with more and more of the second. The blend is tested on the frames as they are and, for two shots
  that move alike, with the flow removed. A camera move passes one of the two tests, not both: if it
  is large enough to lose the picture, its frames between are no blends. A change of light blends,
  too; the part of the ends' difference that it explains does not count.

EXPERIMENTS.md has precision and recall beside PySceneDetect's detectors.

Shapes as in `flow`; K frames of a window.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media.optical_flow import warp
from dreamontage.scorer.cuts import CHANGE, CutMetric
from dreamontage.scorer.film import Film
from dreamontage.training.curation import flow
from dreamontage.training.curation.flow import Floats, Pixels

GONE = 0.4
"""Persistence below which a sudden change is a cut and no flash. In 200 films cuts are below 0.34,
flashes above 0.45."""

FOUND, NOTHING, STANDS_OUT = 0.6, 0.35, 2.0
"""A change that is only STANDS_OUT times as strong as those around it is a cut if the persistence
along the flow is at least FOUND around it, and at most NOTHING at it. `scorer.cuts` needs three
times."""

LENGTHS = (8, 12, 16, 24, 32)
"""Lengths of dissolves in frames; longer ones are found by their steepest part."""

LOST = 0.5
"""The most persistence over a dissolve."""

BLENDED = 0.2
"""The most that a blend of the ends may leave unexplained of the frames between, as a share of the
ends' difference. In 200 films dissolves are below 0.195, moves that lose the picture above 0.21."""

CARRIED = 0.15
"""The same with the flow removed, which makes the frames of a move more like a blend."""

_DIFFERENT = 12.0  # the least difference of the two ends of a dissolve, in grey levels
_BACKWARD = 0.1  # how far a dissolve may go back, because of noise
_MIDST = (0.15, 0.85)  # a frame is mixed if the second picture's share is between these
_MIXED = 0.4  # the least share of mixed frames; with fewer it is a cut and no dissolve

_SMEAR = 6  # frames between the compared sides of a cut: those of a latent, and one on either side
_STEP = 2  # frames between the starts of windows
_THUMBNAIL = 32


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a shot ends: `frame` is the first of the next one, or the middle of a dissolve."""

    frame: int
    kind: str  # "cut" or "dissolve"
    strength: float  # content change of a cut, 0..255; difference of a dissolve's ends, 0..255


@dataclass
class _Window:
    """Frames from `start` on, and the flow from its first picture to the current one."""

    start: int
    first_HW: Floats
    flow_HW2: Floats | None = None
    thumbnails: list[Floats] = field(default_factory=list)
    carried: list[Floats] = field(default_factory=list)  # thumbnails with the flow removed


class ShotDetector:
    """Holds the thumbnails of two seconds, and a few numbers per frame."""

    def __init__(self, fps: Fraction) -> None:
        self._hard = CutMetric(Film(path=Path(), fps=fps))
        self._fps = fps
        self._windows: deque[_Window] = deque(maxlen=max(LENGTHS) // _STEP + 1)
        self._before_HW: Floats | None = None
        self._way_HW2: Floats | None = None
        self._expected_T: list[float] = []  # persistence along the motion so far
        self._along_T: list[float] = []  # persistence along the flow
        self._over_T: dict[int, float] = {}  # persistence over _SMEAR frames, by their first
        self._dissolves: dict[int, tuple[float, Cut]] = {}

    def update(
        self, index: int, frame_HWC: Pixels, grey_HW: Pixels, flow_HW2: Floats | None
    ) -> None:
        """Take a frame, at any size. flow_HW2: the flow from the frame before, None at first."""
        self._hard.update(index, frame_HWC)
        here_HW = flow.soft(grey_HW)
        if flow_HW2 is not None:
            assert self._before_HW is not None
            way_HW2 = np.zeros_like(flow_HW2) if self._way_HW2 is None else self._way_HW2
            self._expected_T.append(flow.persistence(self._before_HW, here_HW, way_HW2))
            self._along_T.append(flow.persistence(self._before_HW, here_HW, flow_HW2))
            self._way_HW2 = flow_HW2
        thumbnail_HWC = _thumbnail(frame_HWC)
        for window in self._windows:
            assert flow_HW2 is not None
            window.thumbnails.append(thumbnail_HWC)
            window.flow_HW2 = (
                flow_HW2 if window.flow_HW2 is None else flow.joined(window.flow_HW2, flow_HW2)
            )
            window.carried.append(_carried(thumbnail_HWC, window.flow_HW2))
            length = index - window.start
            if length == _SMEAR:
                self._over_T[window.start] = flow.persistence(
                    window.first_HW, here_HW, window.flow_HW2
                )
            elif length in LENGTHS:
                self._look(window, here_HW)
        if index % _STEP == 0:
            self._windows.append(
                _Window(
                    start=index,
                    first_HW=here_HW,
                    thumbnails=[thumbnail_HWC],
                    carried=[thumbnail_HWC],
                )
            )
        self._before_HW = here_HW

    def _look(self, window: _Window, here_HW: Floats) -> None:
        for thumbnails, limit in ((window.thumbnails, BLENDED), (window.carried, CARRIED)):
            rest, difference, frame = blend(np.stack(thumbnails))
            if rest <= limit and difference >= _DIFFERENT:
                break
        else:
            return
        assert window.flow_HW2 is not None
        if flow.persistence(window.first_HW, here_HW, window.flow_HW2) < LOST:
            at = window.start + frame
            if at not in self._dissolves or rest < self._dissolves[at][0]:
                cut = Cut(frame=at, kind="dissolve", strength=difference)
                self._dissolves[at] = rest, cut

    def cuts(self) -> list[Cut]:
        """Every end of a shot, after all frames have been taken."""
        found = [
            Cut(frame=frame, kind="cut", strength=strength)
            for frame, strength in self._hard.cuts().items()
            if self._gone(frame)
        ]
        found += [
            Cut(frame=frame, kind="cut", strength=self._hard.changes[frame])
            for frame in range(1, len(self._along_T) + 1)
            if self._lost(frame) and all(abs(frame - cut.frame) > _SMEAR // 2 for cut in found)
        ]
        # One dissolve is found in many windows: only the clearest of them counts.
        for _, cut in sorted(self._dissolves.values(), key=lambda entry: entry[0]):
            if all(abs(cut.frame - other.frame) > max(LENGTHS) // 2 for other in found):
                found.append(cut)
        return sorted(found, key=lambda cut: cut.frame)

    def _lost(self, frame: int) -> bool:
        """Whether the flow loses the picture at this frame only, and the change is rather large."""
        along, changes = self._along_T, self._hard.changes
        around = [t for t in (frame - 2, frame - 1, frame + 1, frame + 2) if 1 <= t <= len(along)]
        if len(around) < 2 or along[frame - 1] > NOTHING:
            return False
        usual = float(np.median([changes[t] for t in around]))
        return float(np.median([along[t - 1] for t in around])) >= FOUND and changes[frame] >= max(
            CHANGE, STANDS_OUT * usual
        )

    def _gone(self, frame: int) -> bool:
        """Whether the picture before a sudden change is gone after it."""
        around = range(max(1, frame - _SMEAR + 1), frame + 2)
        expected = [self._expected_T[t - 1] for t in around if t <= len(self._expected_T)]
        over = [
            self._over_T[start]
            for start in (frame - _SMEAR, frame - _SMEAR + 1)
            if start in self._over_T
        ]
        return min([*expected, *over]) < GONE


def blend(frames_KHWC: Floats) -> tuple[float, float, int]:
    """How badly blends of the two ends explain the frames between, as a share of their difference.

    Also what of that difference is no change of light, in grey levels, and the frame that is
    nearest to half of each. What does not go steadily from the one to the other, or jumps, is no
    dissolve: infinitely badly.
    """
    first_HWC, last_HWC = frames_KHWC[0], frames_KHWC[-1]
    between_KHWC = frames_KHWC[1:-1] - first_HWC
    way_HWC = last_HWC - first_HWC
    power = float(np.square(way_HWC).sum())
    if power == 0:
        return float("inf"), 0.0, 0
    share_K: NDArray[np.float64] = np.clip(
        np.tensordot(between_KHWC, way_HWC, 3) / power, 0, 1
    ).astype(np.float64)
    rest_KHWC = between_KHWC - share_K[:, None, None, None].astype(np.float32) * way_HWC
    rest = float(np.sqrt(np.square(rest_KHWC).sum(axis=(1, 2, 3)).mean() / power))
    back = -np.minimum(np.diff(np.concatenate([[0.0], share_K, [1.0]])), 0).sum()
    mixed = ((share_K > _MIDST[0]) & (share_K < _MIDST[1])).mean()
    if back > _BACKWARD or mixed < _MIXED:
        rest = float("inf")
    return rest, _unlit(first_HWC, last_HWC), 1 + int(np.abs(share_K - 0.5).argmin())


def _unlit(first_HWC: Floats, last_HWC: Floats) -> float:
    """How far the pictures differ, in grey levels, once each colour of the first is brightened and
    stretched to be as near the last as it can."""
    first_HWC = first_HWC - first_HWC.mean(axis=(0, 1))
    last_HWC = last_HWC - last_HWC.mean(axis=(0, 1))
    gain_C = (first_HWC * last_HWC).sum(axis=(0, 1)) / (np.square(first_HWC).sum(axis=(0, 1)) + 1)
    rest_HWC = last_HWC - np.maximum(gain_C, 0) * first_HWC
    return float(np.sqrt(np.square(rest_HWC).mean()))


def _thumbnail(frame_HWC: Pixels) -> Floats:
    height, width = frame_HWC.shape[:2]
    scale = _THUMBNAIL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA), np.float32)


def _carried(thumbnail_HWC: Floats, flow_HW2: Floats) -> Floats:
    """The thumbnail brought back along a flow that leads to it."""
    height, width = thumbnail_HWC.shape[:2]
    scale = width / flow_HW2.shape[1]
    small_HW2 = cv2.resize(flow_HW2, (width, height), interpolation=cv2.INTER_AREA) * scale
    return np.asarray(warp(thumbnail_HWC, small_HW2), np.float32)
