"""Batches, drawn for several steps at once and ahead of them by a thread, so that a fast device
does not wait for the thousands of small launches that a draw takes. What is drawn may serve for
several steps, with times and noise of each step's own.
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

from dreamontage.seeds import derive

Batch = dict[str, Any]
"""Tensors by name, their first dimension the batch's, and plain values."""


class Source(Protocol):
    """Where batches come from."""

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        """What `seed` determines, at a point of the run in [0, 1): `repeat` batches in one."""
        ...


class Draws:
    """The batches of all steps: `block` of them drawn at a time, and `pool` such blocks gone
    through `uses` times, so that a batch serves again only many steps later.

    `progress` is moved on by the trainer, for runs that end by the clock; in a run by steps, a
    pool knows its own place, so that it is the same however far ahead it is drawn.
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
        """The steps that a pool serves for."""
        return self.block * self.pool * self.uses

    def seed_of(self, step: int) -> int:
        """A step's seed; what is drawn has its first step's."""
        return derive(self.seed, "step", step, *([self.rank] if self.rank else []))

    def of(self, pool: int) -> list[Batch]:
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
    draws: Draws, *, first: int, ahead: int, device: torch.device
) -> Generator[Batch, None, None]:
    """The batches of the steps from `first` on, with up to `ahead` pools drawn in advance.

    A thread begins with them when the first is asked for, and ends when the generator is closed.
    """
    start, skip = divmod(first, draws.span)
    # A generator that nobody has begun runs nothing when it is closed: no thread may wait for it.
    pools = _inline(draws, start) if ahead == 0 else _Ahead(draws, start, ahead, device).pools()
    try:
        for pool in pools:
            yield from pool[skip:]
            skip = 0
    finally:
        pools.close()


def _inline(draws: Draws, start: int) -> Generator[list[Batch], None, None]:
    while True:
        yield draws.of(start)
        start += 1


class _Ahead:
    """A thread that draws, on a stream of its own where there are streams."""

    def __init__(self, draws: Draws, start: int, ahead: int, device: torch.device) -> None:
        self.draws, self.start, self.device = draws, start, device
        self.queue: queue.Queue[Any] = queue.Queue(maxsize=ahead)
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
                    pool = self.draws.of(index)
                    found: Any = pool, None if stream is None else stream.record_event()
            except Exception as error:  # it is raised where the batch is asked for
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
                        # What lies in main memory belongs to no stream, and may not be told of one.
                        if isinstance(value, Tensor) and value.is_cuda:
                            value.record_stream(here)
                yield pool
        finally:
            self.close()
