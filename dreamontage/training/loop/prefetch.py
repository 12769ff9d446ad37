"""Batches, drawn for several steps at once, and in advance by a thread.

A draw takes thousands of small launches, and a fast device must not wait for them. A batch may be
used in several steps. Each step draws its own times and noise.
"""

from __future__ import annotations

import atexit
import math
import queue
import threading
from collections.abc import Generator
from typing import Any, Protocol

import torch
from torch import Tensor

from dreamontage.storyboard.seeds import derive

Batch = dict[str, Any]
"""Tensors by name, whose first dimension is the batch, and plain values."""


class Source(Protocol):
    """Where batches come from."""

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        """`repeat` batches in one, determined by `seed` and by the run's progress in [0, 1)."""
        ...


class Draws:
    """The batches of all steps.

    `block` batches are drawn at a time. `pool` such blocks are used `uses` times in turn, so that a
    batch is used again only many steps later.

    The trainer sets `progress`, for runs that end by the clock. In a run by steps, a pool's
    progress comes from its number, so that it is the same however early it is drawn.
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        rank: int,
        steps: float,
        block: int,
        pool: int = 1,
        uses: int = 1,
    ) -> None:
        self.source, self.seed, self.rank, self.steps = source, seed, rank, steps
        self.block, self.pool, self.uses = block, pool, uses
        self.progress = 0.0

    @property
    def span(self) -> int:
        """The number of steps that a pool is used for."""
        return self.block * self.pool * self.uses

    def seed_of(self, step: int) -> int:
        """A step's seed. A block is drawn with the seed of its first step."""
        return derive(self.seed, "step", step, *([self.rank] if self.rank else []))

    def pool_batches(self, pool: int) -> list[Batch]:
        """The batches of a pool's steps."""
        first = pool * self.span
        progress = self.progress if self.steps == math.inf else first / self.steps
        found: list[Batch] = []
        for index in range(self.pool):
            seed = self.seed_of(first + index * self.block)
            drawn = self.source.draw(seed, min(progress, 1 - 1e-9), self.block)
            parts = {
                name: value.chunk(self.block) if isinstance(value, Tensor) else [value] * self.block
                for name, value in drawn.items()
            }
            found += [{name: parts[name][i] for name in parts} for i in range(self.block)]
        return found * self.uses


def batches(
    draws: Draws, *, first: int, prefetch: int, device: torch.device
) -> Generator[Batch, None, None]:
    """The batches of the steps from `first` on, with up to `ahead` pools drawn in advance.

    The thread starts when the first batch is requested, and ends when the generator is closed.
    """
    start, skip = divmod(first, draws.span)
    # A generator that was never started runs nothing when it is closed. So no thread starts here.
    pools = (
        _inline(draws, start)
        if prefetch == 0
        else _PrefetchThread(draws, start, prefetch, device).pools()
    )
    try:
        for pool in pools:
            yield from pool[skip:]
            skip = 0
    finally:
        pools.close()


def _inline(draws: Draws, start: int) -> Generator[list[Batch], None, None]:
    while True:
        yield draws.pool_batches(start)
        start += 1


class _PrefetchThread:
    """A thread that draws, on its own stream where the device has streams."""

    def __init__(self, draws: Draws, start: int, prefetch: int, device: torch.device) -> None:
        self.draws, self.start, self.device = draws, start, device
        self.queue: queue.Queue[Any] = queue.Queue(maxsize=prefetch)
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="draws", daemon=True)
        self.thread.start()
        # A process that ends with a thread inside torch would abort.
        atexit.register(self.close)

    def close(self) -> None:
        self.stopped.set()
        self.thread.join()
        atexit.unregister(self.close)

    def _run(self) -> None:
        index = self.start
        stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        while not self.stopped.is_set():
            try:
                with torch.cuda.stream(stream):
                    pool = self.draws.pool_batches(index)
                    found: Any = pool, None if stream is None else stream.record_event()
            except Exception as error:  # it is raised where the batch is requested
                found = error
            while not self.stopped.is_set():
                try:
                    self.queue.put(found, timeout=0.2)
                    break
                except queue.Full:
                    continue
            index += 1

    def pools(self) -> Generator[list[Batch], None, None]:
        try:
            while True:
                found = self.queue.get()
                if isinstance(found, Exception):
                    raise found
                pool, drawn = found
                if drawn is not None:
                    here = torch.cuda.current_stream(self.device)
                    here.wait_event(drawn)
                    for value in (v for batch in pool for v in batch.values()):
                        # `record_stream` refuses tensors in main memory, which belong to no stream.
                        if isinstance(value, Tensor) and value.is_cuda:
                            value.record_stream(here)
                yield pool
        finally:
            self.close()
