"""Timing two things against each other on a machine that others use too."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import diffusers
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def machine() -> str:
    """What the figures were made on, in one line."""
    if DEVICE.type == "cuda":
        computer = torch.cuda.get_device_name()
    else:
        computer = f"{_processor()}, {torch.get_num_threads()} threads, times are CPU time"
    return (
        f"{computer}; {platform.system()} {platform.machine()}, Python {platform.python_version()},"
        f" torch {torch.__version__}, diffusers {diffusers.__version__}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "CPU")


def now() -> float:
    """Seconds: on a GPU by the clock, once it has done all that it was given; on a CPU those that
    this process got, over all its threads, since others' load says nothing of the code.
    """
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(work: Callable[[], object]) -> float:
    began = now()
    work()
    return now() - began


def step_seconds(steps: Iterable[object]) -> float:
    """The median time of a step. The first is left out: it starts with what is made once."""
    stamps = []
    for _ in steps:
        stamps.append(now())
    return between(stamps)


def between(stamps: list[float]) -> float:
    """The median distance of neighbours."""
    return statistics.median(later - earlier for earlier, later in pairwise(stamps))


def in_turns(
    one: Callable[[], float], other: Callable[[], float], turns: int
) -> tuple[float, float, float]:
    """Medians of what both answer, in seconds, and of the turns' ratios, one over other.

    They take turns, and turns in going first; what slows the machine down for a while slows both.
    Each runs once before, for what only a first call has to do.
    """
    one(), other()
    pairs = []
    for turn in range(turns):
        if turn % 2:
            second = other()
            pairs.append((one(), second))
        else:
            pairs.append((one(), other()))
    ones, others = zip(*pairs, strict=True)
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    return statistics.median(ones), statistics.median(others), ratio
