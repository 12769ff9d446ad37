"""The ledger port: where finished work is found by its key, and who is rendering what.

`FolderLedger` serves `dreamontage render`, a farm has one over Postgres and its store, and
`MemoryLedger` serves tests. One contract test suite holds all of them.

Shape legend: B batch, C channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

Waiting = Callable[[str], None]
"""Called with the name of whoever holds a segment, when a claim has to wait for it."""


class LostLatents(RuntimeError):  # noqa: N818 - it says what happened
    """A finished segment's latents are lost or torn. The segment is open to be rendered again."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the latents of segment {key} are lost: they have to be rendered again")
        self.key = key


class Claim(Protocol):
    """The right to render one segment. It is held until the `claim` block ends."""

    @property
    def checkpoint(self) -> bytes | None:
        """The stored denoise state to continue from; None to begin from noise."""
        ...

    def save_checkpoint(self, state: bytes, *, step: int, steps_run: int) -> None:
        """Store a denoise state; it replaces the one before.

        Args:
            steps_run: denoise steps run since the last checkpoint, or since the claim.
        """
        ...

    def finish(self, latents_BCLHW: Tensor, *, steps_run: int) -> None:
        """Store the finished latents; the segment is finished for everyone."""
        ...


class Ledger(Protocol):
    """Finished work by key, claims, and what segments need on their way.

    Everything that is put is stored whole or not at all, and is checked by digest when it is read.
    """

    def is_finished(self, key: str) -> bool:
        """Whether a segment's latents were finished; they may be lost all the same."""
        ...

    def latents(self, key: str) -> Tensor:
        """A finished segment's latents, latents_BCLHW, float32 on the CPU.

        Raises:
            LostLatents: when they are not there, or torn.
        """
        ...

    def claim(
        self, key: str, *, steps: int, waiting: Waiting = lambda holder: None
    ) -> AbstractContextManager[Claim | None]:
        """Claim a segment, or wait for whoever holds it; None when it is finished.

        A block that ends with an exception gives the segment back, with its checkpoint.
        """
        ...

    def embedding(self, key: str) -> Tensor | None:
        """A prompt's embedding, embedding_BSD; None when it is not stored, or lost."""
        ...

    def put_embedding(self, key: str, embedding_BSD: Tensor) -> None: ...

    def draft(self, key: str) -> Tensor | None:
        """The film of the stage before in a segment's window, latents_BCLHW; None when it is not
        stored, or lost."""
        ...

    def has_draft(self, key: str) -> bool:
        """Whether `draft` would find something, without reading it."""
        ...

    def put_draft(self, key: str, latents_BCLHW: Tensor) -> None:
        """Store the film of the stage before in a window, until the segment is finished."""
        ...


def storable(tensor: Tensor) -> Tensor:
    """A tensor as ledgers store it: float32, contiguous, on the CPU."""
    return tensor.detach().float().cpu().contiguous()


@dataclass
class MemoryLedger:
    """A ledger in this process's memory. Claims of other threads are waited for."""

    finished: dict[str, Tensor] = field(default_factory=dict)
    checkpoints: dict[str, bytes] = field(default_factory=dict)
    embeddings: dict[str, Tensor] = field(default_factory=dict)
    windows: dict[str, Tensor] = field(default_factory=dict)
    steps_run: dict[str, int] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def is_finished(self, key: str) -> bool:
        return key in self.finished

    def latents(self, key: str) -> Tensor:
        found = self.finished.get(key)
        if found is None:
            raise LostLatents(key)
        return found

    @contextmanager
    def claim(
        self, key: str, *, steps: int, waiting: Waiting = lambda holder: None
    ) -> Iterator[Claim | None]:
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        if not lock.acquire(blocking=False):
            waiting("another thread")
            lock.acquire()
        try:
            yield None if self.is_finished(key) else _MemoryClaim(self, key)
        finally:
            lock.release()

    def embedding(self, key: str) -> Tensor | None:
        return self.embeddings.get(key)

    def put_embedding(self, key: str, embedding_BSD: Tensor) -> None:
        self.embeddings.setdefault(key, embedding_BSD.cpu().contiguous())

    def draft(self, key: str) -> Tensor | None:
        return self.windows.get(key)

    def has_draft(self, key: str) -> bool:
        return key in self.windows

    def put_draft(self, key: str, latents_BCLHW: Tensor) -> None:
        if not self.is_finished(key):
            self.windows[key] = storable(latents_BCLHW)


@dataclass(frozen=True)
class _MemoryClaim:
    ledger: MemoryLedger
    key: str

    @property
    def checkpoint(self) -> bytes | None:
        return self.ledger.checkpoints.get(self.key)

    def save_checkpoint(self, state: bytes, *, step: int, steps_run: int) -> None:
        self.ledger.checkpoints[self.key] = state
        self._count(steps_run)

    def finish(self, latents_BCLHW: Tensor, *, steps_run: int) -> None:
        self.ledger.finished[self.key] = storable(latents_BCLHW)
        self.ledger.checkpoints.pop(self.key, None)
        self.ledger.windows.pop(self.key, None)
        self._count(steps_run)

    def _count(self, steps_run: int) -> None:
        self.ledger.steps_run[self.key] = self.ledger.steps_run.get(self.key, 0) + steps_run
