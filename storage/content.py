"""Bytes on their way in or out: hashed as they pass, and files that appear whole or not at all."""

import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from storage.address import Address
from storage.base import Torn

CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is to be put: its digest and size are known before a single byte is written.

    A file is therefore read twice, once to name it and once to copy it. That costs less than
    writing a copy of what the store already has, which is the usual case on a retry.
    """

    source: bytes | Path
    digest: str
    size: int

    @classmethod
    def of(cls, source: bytes | Path) -> "Content":
        digest, size = hashlib.sha256(), 0
        with _open(source) as stream:
            for chunk in chunks_of(stream):
                digest.update(chunk)
                size += len(chunk)
        return cls(source=source, digest=digest.hexdigest(), size=size)

    def open(self) -> BinaryIO:
        return _open(self.source)


def _open(source: bytes | Path) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def chunks_of(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def checked(chunks: Iterable[bytes], address: Address) -> Iterator[bytes]:
    """Pass the chunks on, and raise `Torn` at their end unless they are what ``address`` names.

    Whoever uses the chunks before that must be able to throw them away.
    """
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        yield chunk
    if digest.hexdigest() != address.digest:
        raise Torn(f"{address}: its {size} bytes have the sha256 {digest.hexdigest()}")


# `dreamontage/files.py` has writers like these; this package imports nothing of ours.
def write_whole(chunks: Iterable[bytes], path: Path, *, scratch: Path) -> None:
    """Write a file that takes its place only once the last chunk has come without an error.

    ``scratch`` is a folder on the same file system. The bytes are on the disk before the name
    is, so a crash leaves either no file or a whole one, besides a stray ``.part`` in ``scratch``.
    """
    part = scratch / f".{uuid4().hex}.part"
    try:
        with part.open("xb") as stream:
            for chunk in chunks:
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut, as fsync does for a file's bytes."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
