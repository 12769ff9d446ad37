"""A store in a folder: the embedded default, and what a shared disk offers."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from storage.address import Address, address_of, check_prefix, is_address, parse
from storage.base import NotFound, Stat, StoreUnavailable, check_expires, size_of
from storage.content import Content, checked, chunks_of, sync_folder, write_whole

_SCRATCH = ".incoming"
# A put that is alive writes all the time; a part file that has not changed for so long is what a
# killed one left.
_STRAY_AFTER = timedelta(days=1)


class FolderStore:
    """Objects as files below ``root``, which is made if missing. Keeps `Store`'s promises."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._scratch = self.root / _SCRATCH
        self._scratch.mkdir(parents=True, exist_ok=True)
        self._sweep()

    def __repr__(self) -> str:
        return f"FolderStore({str(self.root)!r})"

    def put(self, kind: str, source: bytes | Path, suffix: str = "") -> str:
        content = Content.of(source)
        address = address_of(kind, content.digest, suffix)
        if size_of(self, str(address)) == content.size:
            return str(address)
        path = self._path(address)
        path.parent.mkdir(parents=True, exist_ok=True)
        with content.open() as stream:
            write_whole(checked(chunks_of(stream), address), path, scratch=self._scratch)
        # The folders may be new too, and the caller is about to commit a row about this object.
        sync_folder(path.parent.parent)
        sync_folder(self.root)
        return str(address)

    def get(self, address: str) -> bytes:
        return b"".join(self._read(parse(address)))

    def fetch(self, address: str, path: Path) -> Path:
        write_whole(self._read(parse(address)), path, scratch=path.parent)
        return path

    def stat(self, address: str) -> Stat:
        parsed = parse(address)
        try:
            return _stat(str(parsed), self._path(parsed).stat())
        except FileNotFoundError:
            raise self._missing(parsed) from None

    def list(self, prefix: str = "") -> Iterator[Stat]:
        check_prefix(prefix)
        self._check_root()
        return iter(sorted(self._walk(prefix), key=lambda stat: stat.address))

    def presign(self, address: str, expires: timedelta) -> str:
        check_expires(expires)
        self.stat(address)
        return self._path(parse(address)).as_uri()

    def delete(self, address: str) -> None:
        self._path(parse(address)).unlink(missing_ok=True)

    def _path(self, address: Address) -> Path:
        return self.root / str(address)

    def _read(self, address: Address) -> Iterator[bytes]:
        try:
            stream = self._path(address).open("rb")
        except FileNotFoundError:
            raise self._missing(address) from None
        with stream:
            yield from checked(chunks_of(stream), address)

    def _walk(self, prefix: str) -> Iterator[Stat]:
        for path in self.root.glob(f"{prefix.partition('/')[0]}*/*/*"):
            name = path.relative_to(self.root).as_posix()
            if name.startswith(prefix) and is_address(name):
                try:
                    yield _stat(name, path.stat())
                except FileNotFoundError:  # deleted since it was listed
                    continue

    def _missing(self, address: Address) -> Exception:
        self._check_root()
        return NotFound(f"{address} is not in {self.root}")

    def _check_root(self) -> None:
        """Tell a disk that is not mounted from an object that does not exist."""
        if not self._scratch.is_dir():
            raise StoreUnavailable(f"the store's folder {self.root} is gone; is its disk mounted?")

    def _sweep(self) -> None:
        oldest = time.time() - _STRAY_AFTER.total_seconds()
        for part in self._scratch.glob(".*.part"):
            try:
                if part.stat().st_mtime < oldest:
                    part.unlink()
            except FileNotFoundError:  # swept by another process, or just put
                continue


def _stat(address: str, found: os.stat_result) -> Stat:
    modified = datetime.fromtimestamp(found.st_mtime, UTC)
    return Stat(address=address, size=found.st_size, modified=modified)
