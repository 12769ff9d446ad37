"""A ledger in a folder: what `dreamontage render` finds again when it is started again.

    KEY.safetensors             finished latents
    KEY.checkpoint              a denoise state in the middle of a segment, after its sha256
    KEY.enlarged.safetensors    the enlarged film in the window of a segment that is not finished
    KEY.embedding.safetensors   a prompt's embedding
    .locks/KEY                  held (flock) while the segment is rendered

Files appear whole or not at all, and carry the sha256 of their tensor. Finished latents that
dreamontage 0.1.0 wrote carry none, and are read all the same.

Shape legend: B batch, C channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamontage.files import write_file
from dreamontage.rendering.ledger import Claim, LostLatents, Waiting, storable

_DIGEST = "sha256"


@dataclass(frozen=True)
class FolderLedger:
    """Finished work in ``folder``, which is made if it is not there."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / ".locks").mkdir(parents=True, exist_ok=True)

    def is_finished(self, key: str) -> bool:
        return self._latents(key).exists()

    def latents(self, key: str) -> Tensor:
        found = _read(self._latents(key), "latents")
        if found is None:
            raise LostLatents(key)
        return found

    @contextmanager
    def claim(
        self, key: str, *, steps: int, waiting: Waiting = lambda holder: None
    ) -> Iterator[Claim | None]:
        with _locked(self.folder / ".locks" / key, waiting):
            yield None if self.is_finished(key) else _FolderClaim(self, key)

    def embedding(self, key: str) -> Tensor | None:
        return _read(self.folder / f"{key}.embedding.safetensors", "embedding")

    def put_embedding(self, key: str, embedding_BSD: Tensor) -> None:
        file = self.folder / f"{key}.embedding.safetensors"
        _write(file, "embedding", embedding_BSD.detach().cpu().contiguous())

    def draft(self, key: str) -> Tensor | None:
        return _read(self._enlarged(key), "latents")

    def has_draft(self, key: str) -> bool:
        return self._enlarged(key).exists()

    def put_draft(self, key: str, latents_BCLHW: Tensor) -> None:
        if not self.is_finished(key):
            _write(self._enlarged(key), "latents", storable(latents_BCLHW))

    def _latents(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _enlarged(self, key: str) -> Path:
        return self.folder / f"{key}.enlarged.safetensors"

    def _checkpoint(self, key: str) -> Path:
        return self.folder / f"{key}.checkpoint"


@dataclass(frozen=True)
class _FolderClaim:
    ledger: FolderLedger
    key: str

    @property
    def checkpoint(self) -> bytes | None:
        file = self.ledger._checkpoint(self.key)
        try:
            digest, _, state = file.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        # A torn one costs its steps, no more.
        return state if hashlib.sha256(state).hexdigest().encode() == digest else None

    def save_checkpoint(self, state: bytes, *, step: int, steps_run: int) -> None:
        whole = hashlib.sha256(state).hexdigest().encode() + b"\n" + state
        write_file(self.ledger._checkpoint(self.key), lambda path: path.write_bytes(whole))

    def finish(self, latents_BCLHW: Tensor, *, steps_run: int) -> None:
        _write(self.ledger._latents(self.key), "latents", storable(latents_BCLHW))
        self.ledger._checkpoint(self.key).unlink(missing_ok=True)
        self.ledger._enlarged(self.key).unlink(missing_ok=True)


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.numpy().tobytes()).hexdigest()


def _write(file: Path, name: str, tensor: Tensor) -> None:
    metadata = {_DIGEST: _digest(tensor.float())}
    write_file(file, lambda path: save_file({name: tensor}, path, metadata=metadata))


def _read(file: Path, name: str) -> Tensor | None:
    """The file's tensor. A torn file is removed, so that it can be made again."""
    try:
        with safe_open(file, "pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
            expected = (opened.metadata() or {}).get(_DIGEST)
    except FileNotFoundError:
        return None
    except SafetensorError:
        torn = True
    else:
        torn = expected is not None and expected != _digest(tensor.float())
    if torn:
        file.unlink(missing_ok=True)
        return None
    return tensor


@contextmanager
def _locked(file: Path, waiting: Waiting) -> Iterator[None]:
    """Hold the lock file of a segment. The kernel frees the lock of a process that dies."""
    while True:
        descriptor = os.open(file, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting("another render into this folder")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever held it may have removed it: then it is no lock any more.
        if file.exists() and os.fstat(descriptor).st_ino == file.stat().st_ino:
            break
        os.close(descriptor)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
