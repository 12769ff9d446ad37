"""Intervals of action from the camera's speed, and captions for them.

**[ours]**: the paper does not say how it divides its videos into actions, and we do not have the
model that captions them.

The camera's track is divided where the kind of move changes. Within an action the speed of each
part (pan, tilt, zoom, roll) is a parabola over time, as of an eased move. Dynamic programming finds
the division with the smallest unexplained rest plus a price for each action. Neighbours with equal
captions become one action.

Shapes: T frames, 4 parts of the speed (`motion.Track`), S steps of a grid over time, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dreamontage.training.curation.motion import Track
from dreamontage.training.synthetic.captions import Action

SHORTEST = Fraction(1, 2)
"""The least seconds of an action."""

LONGEST = Fraction(20)
"""The most seconds of one parabola; longer moves of one kind are joined again."""

MOVING = 0.02
"""Speed, in shares of the picture's longer side a second, below which the camera holds still."""

ALSO = 0.5
"""A second part of the move is named if its speed is at least this share of the first's."""

_GRID = Fraction(1, 8)  # seconds
_PRICE = 4.0  # of an action, in variances of the track's noise, for each of its 12 coefficients
_NOISE = 0.01  # the least noise of a speed over a step of the grid
_RELATIVE = 0.12  # the same, as a share of the speed: flow has larger errors on fast moves
_DIPS = 3  # coefficients of a parabola

_WORDS = (
    ("pans left", "pans right"),
    ("tilts up", "tilts down"),
    ("zooms out", "zooms in"),
    ("rolls left", "rolls right"),
)


def find_actions(track_T4: Track, fps: Fraction) -> list[Action]:
    """The actions of a film of T + 1 frames, with captions; together they cover it."""
    frames = len(track_T4) + 1
    bounds = [0, *_changes(track_T4, fps), frames]
    actions = [
        Action(start=start, stop=stop, text=word_move(track_T4[start : stop - 1]))
        for start, stop in pairwise(bounds)
    ]
    return list(_joined(actions))


def word_move(track_T4: Track) -> str:
    """'the camera pans left and zooms in', for the camera's mean speed in these frames."""
    if not len(track_T4):
        return "the camera holds still"
    speed_4 = track_T4.mean(axis=0)
    order = np.argsort(-np.abs(speed_4))
    first, second = (abs(float(speed_4[part])) for part in order[:2])
    if first < MOVING:
        return "the camera holds still"
    words = f"the camera {_word(speed_4, int(order[0]))}"
    if second >= max(MOVING, ALSO * first):
        words += f" and {_word(speed_4, int(order[1]))}"
    return words


def _word(speed_4: NDArray[np.float64], part: int) -> str:
    return _WORDS[part][int(speed_4[part] > 0)]


def _joined(actions: Sequence[Action]) -> Iterator[Action]:
    held = actions[0]
    for action in actions[1:]:
        if action.text == held.text:
            held = Action(start=held.start, stop=action.stop, text=held.text)
        else:
            yield held
            held = action
    yield held


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Running sums over a track's steps, which give the fit of any part without a loop."""

    moments: NDArray[np.float64]  # (S + 1, 3, 3)
    shares: NDArray[np.float64]  # (S + 1, 3, 4)
    powers: NDArray[np.float64]  # (S + 1)

    @classmethod
    def of(cls, steps_S4: Track, weights_S: NDArray[np.float64]) -> _Sums:
        time_S = np.linspace(-1, 1, len(steps_S4))
        basis_S3 = np.stack([time_S**power for power in range(_DIPS)], -1)
        heavy_S3 = basis_S3 * weights_S[:, None]
        return cls(
            moments=_running(np.einsum("si,sj->sij", heavy_S3, basis_S3)),
            shares=_running(np.einsum("si,sj->sij", heavy_S3, steps_S4)),
            powers=_running(weights_S * np.square(steps_S4).sum(1)),
        )

    def unexplained(self, starts: NDArray[np.int64], stop: int) -> NDArray[np.float64]:
        """The squared rest of the best parabolas over the steps [start, stop), for each start, in
        variances of the noise."""
        moments = self.moments[stop] - self.moments[starts]
        shares = self.shares[stop] - self.shares[starts]
        moments = moments + 1e-6 * np.eye(_DIPS)
        fitted = (shares * np.linalg.solve(moments, shares)).sum(axis=(1, 2))
        return np.maximum(self.powers[stop] - self.powers[starts] - fitted, 0)


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros((1, *values.shape[1:])), values.cumsum(0)])


def _changes(track_T4: Track, fps: Fraction) -> list[int]:
    """The frames at which one action ends and the next one begins."""
    stride = max(1, round(_GRID * fps))
    count = len(track_T4) // stride
    least = max(1, round(SHORTEST * fps / stride))
    if count < 2 * least:
        return []
    # A remainder that fills no step is at the track's end.
    steps_S4 = track_T4[: count * stride].reshape(count, stride, 4).mean(1)
    jitter = 1.48 * float(np.median(np.abs(np.diff(steps_S4, 2, axis=0)))) / 6**0.5
    speed_S = np.linalg.norm(steps_S4, axis=1)
    sums = _Sums.of(steps_S4, 1 / (max(_NOISE, jitter) ** 2 + (_RELATIVE * speed_S) ** 2))
    price = _PRICE * _DIPS * 4
    most = max(2 * least, round(LONGEST * fps / stride))
    best = np.full(count + 1, np.inf)
    best[0] = 0
    came_from = np.zeros(count + 1, np.int64)
    for stop in range(least, count + 1):
        starts = np.arange(max(0, stop - most), stop - least + 1)
        costs = best[starts] + sums.unexplained(starts, stop) + price
        came_from[stop] = starts[costs.argmin()]
        best[stop] = costs.min()
    bounds = []
    at = int(came_from[count])
    while at > 0:
        bounds.append(at * stride)
        at = int(came_from[at])
    return bounds[::-1]
