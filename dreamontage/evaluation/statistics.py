"""Means with intervals: a bootstrap over clips, for a handful of clips proves little."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and the interval in which 95 of 100 resamplings of the clips put it.

    Of clips that all say the same the interval has no width, however few they are: mind `clips`.
    Of one clip there is none (NaN).
    """

    value: float
    low: float
    high: float
    clips: int

    def __str__(self) -> str:
        if self.clips < 2:
            return f"{self.value:.2f}"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


NOTHING = Estimate(value=math.nan, low=math.nan, high=math.nan, clips=0)


def bootstrap(values: Sequence[float], *, ratio: bool = False, seed: int = 0) -> Estimate:
    """The mean over clips, with a percentile interval; the same values give the same interval.

    ratio: the geometric mean, for which twice as much and half as much are equally far from 1.
    Source: `scipy.stats.bootstrap`.
    """
    if not values:
        return NOTHING
    array_N = np.asarray(values, np.float64)
    if ratio:
        array_N = np.log(np.maximum(array_N, 1e-6))
    mean, low, high = float(array_N.mean()), math.nan, math.nan
    if len(array_N) > 1:
        low, high = stats.bootstrap(
            (array_N,),
            np.mean,
            n_resamples=DRAWS,
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    value, low, high = (float(np.exp(each) if ratio else each) for each in (mean, low, high))
    return Estimate(value=value, low=low, high=high, clips=len(array_N))
