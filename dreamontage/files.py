"""Files and folders that appear whole or not at all, and JSON read with one clear error.

Whatever is written here is on the disk before its name is, and the name is on the disk before the
call returns: a killed writer or a power cut leaves the old file or the new one, besides a stray
hidden one. `storage` and `db` import nothing of the library, and have writers of their own.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """A model's config. Raises `ValueError` when there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not a JSON object")
    return data


@contextmanager
def replacing(out: Path, *, suffix: str | None = None) -> Iterator[Path]:
    """A path beside `out` to write to; it becomes `out` when the block ends well.

    No other writer has that path. Its suffix is that of `out`, by which ffmpeg and Pillow choose a
    format, or another, so that nobody who lists files by suffix finds one that is half written.
    """
    # Only the name is made here: who writes the file creates it, with the usual permissions.
    temporary = out.with_name(f".{uuid.uuid4().hex}{out.suffix if suffix is None else suffix}")
    try:
        yield temporary
        publish(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def write_file(file: Path, fill: Callable[[Path], object]) -> None:
    """Make `file` from what `fill` writes to another path; several processes may do so at once.

    Folders above it are made.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file, suffix=".partial") as temporary:
        fill(temporary)


def write_text(file: Path, text: str, *, mode: int = 0o666) -> None:
    """Make `file` hold a text, in UTF-8. `mode`: its permissions, less those of the umask."""

    def fill(path: Path) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(handle, "w", encoding="utf-8") as opened:
            opened.write(text)

    write_file(file, fill)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` appear with everything that `fill` writes, or leave it as it was.

    One process at a time may make the same folder: each first removes what a killed one left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    fill(partial)
    for path in partial.rglob("*"):
        to_disk(path)
    to_disk(partial)
    # A folder cannot take the place of another; it is away for as long as two renames take.
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    to_disk(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def publish(temporary: Path, out: Path) -> None:
    """Give a file that is written its name, in the place of what has it, and wait for the disk."""
    to_disk(temporary)
    temporary.replace(out)
    to_disk(out.parent)


def to_disk(path: Path) -> None:
    """Wait until the disk has all of a file, or all names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
