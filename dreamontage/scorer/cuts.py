"""Is it one shot? Abrupt cuts, from PySceneDetect's measure of content.

Scores, lower is better: `cuts`, how many there are, and `cut_strength`, the content change over the
strongest of them (0..255; 0 without a cut).

PySceneDetect says how much two frames differ in hue, saturation and lightness. What makes a
difference a cut is, as in its AdaptiveDetector, that it stands out from those around it, so that a
fast pan is none. Three things are other than there, because models cut in other ways than editors:

- Frames are compared as thumbnails, and hue counts less: noise, and the random hue of nearly grey
  pixels, would drown a cut in a pale or soft film, and detail makes a pan look like a change.
- The neighbourhood ends where the film does. The AdaptiveDetector never answers for the first and
  the last two frames, where a film that leaves its first keyframe at once is cut, and one that
  jumps onto its last.
- A cut may be smeared over the frames of one latent, so frames a latent apart are compared as well.

A dissolve that is much longer than a latent is no cut to this measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detectors import ContentDetector

from dreamontage.scorer.film import Better, Film, Pixels, Score
from dreamontage.timeline import TEMPORAL_STRIDE

THUMBNAIL = 32
"""Pixels of a thumbnail's longer side."""

WEIGHTS = ContentDetector.Components(delta_hue=0.3, delta_sat=1.0, delta_lum=1.0)

CHANGE = 8.0
"""Content change below which nothing is a cut. Cuts between two pictures of a fog are at 15."""

SHARP = 3.0
"""A frame's change over that of its neighbours that makes a cut. Good shots stay below 2.0."""

SMEARED = 2.6
"""The same for frames a latent apart, where a whip pan's start and end come to 2.5."""


class _Tap(StatsManager):  # type: ignore[misc]
    """Holds what a detector measured, of the newest frame alone."""

    content = 0.0

    def set_metrics(self, timecode: int | FrameTimecode, metric_kv_dict: dict[str, Any]) -> None:
        self.content = float(metric_kv_dict[ContentDetector.FRAME_SCORE_KEY])


class _Content:
    """Content change from each frame to the one `stride` before it."""

    def __init__(self, stride: int, film: Film) -> None:
        self._fps = film.fps
        self._detectors = [ContentDetector(weights=WEIGHTS) for _ in range(stride)]
        for detector in self._detectors:
            detector.stats_manager = _Tap()

    def of(self, index: int, thumbnail_HWC: Pixels) -> float:
        detector = self._detectors[index % len(self._detectors)]
        # The detector wants BGR.
        detector.process_frame(FrameTimecode(index, self._fps), thumbnail_HWC[..., ::-1])
        return float(detector.stats_manager.content)


class CutMetric:
    """Keeps two numbers a frame, and no frames."""

    name = "cuts"

    def __init__(self, film: Film) -> None:
        self._film = film
        self._near, self._far = _Content(1, film), _Content(TEMPORAL_STRIDE, film)
        self._near_T: list[float] = []
        self._far_T: list[float] = []

    def update(self, index: int, frame_HWC: Pixels) -> None:
        height, width = frame_HWC.shape[:2]
        shrink = THUMBNAIL / max(height, width)
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        thumbnail_HWC = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
        self._near_T.append(self._near.of(index, thumbnail_HWC))
        self._far_T.append(self._far.of(index, thumbnail_HWC))

    @property
    def changes(self) -> Sequence[float]:
        """Content change to each frame from the one before it; 0 for the first."""
        return self._near_T

    def cuts(self) -> Mapping[int, float]:
        """The first frame after each cut, and how strong the cut is."""
        return find_cuts(self._near_T, self._far_T)

    def compute(self) -> list[Score]:
        cuts = self.cuts()
        strongest = max(cuts, key=lambda frame: cuts[frame], default=None)
        listed = (f"{self._film.seconds(frame)}: {cuts[frame]:.0f}" for frame in sorted(cuts))
        return [
            Score(
                name="cuts",
                value=float(len(cuts)),
                unit="cuts",
                better=Better.LOWER,
                frame=strongest,
                detail="; ".join(listed),
            ),
            Score(
                name="cut_strength",
                value=0.0 if strongest is None else cuts[strongest],
                unit="content change, 0..255",
                better=Better.LOWER,
                frame=strongest,
            ),
        ]


def find_cuts(near_T: Sequence[float], far_T: Sequence[float]) -> Mapping[int, float]:
    """The first frame after each cut, and how strong the cut is.

    near_T and far_T: content change to each frame from the one before it, and from the one a
    latent's frames before it. Less than a latent apart they count once, as the strongest: the two
    sides of a flash, the steps of a smear, and the windows that see one smeared cut.
    """
    stride = TEMPORAL_STRIDE
    sharp: dict[int, float] = {}
    for frame in range(1, len(near_T)):
        around = _at(near_T, 1, [frame - 2, frame - 1, frame + 1, frame + 2])
        # A codec that pulses once a latent is ugly, not cut: its pulses are alike.
        pulse = _at(near_T, 1, [frame - stride, frame + stride])
        usual = max(float(np.median(around)), min(pulse, default=0.0)) if len(around) > 1 else None
        if usual is not None and near_T[frame] >= max(CHANGE, SHARP * usual):
            sharp[frame] = near_T[frame]

    smeared: dict[int, float] = {}
    for frame in range(stride, len(far_T)):
        around = _at(far_T, stride, [frame + step * stride for step in (-2, -1, 1, 2)])
        if len(around) > 1 and far_T[frame] >= max(CHANGE, SMEARED * float(np.median(around))):
            smeared[frame] = far_T[frame]

    cuts: dict[int, float] = {}
    for found in (sharp, smeared):
        for frame in sorted(found, key=lambda frame: -found[frame]):
            if not any(-stride < cut - frame < stride for cut in cuts):
                cuts[frame] = found[frame]
    return cuts


def _at(values_T: Sequence[float], first: int, frames: Sequence[int]) -> list[float]:
    return [values_T[frame] for frame in frames if first <= frame < len(values_T)]
