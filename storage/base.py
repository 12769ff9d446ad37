"""What a store promises, whoever keeps the bytes.

The rules that every store holds, and that ``tests/test_storage.py`` asks of each:

* What an address names never changes: `Store.put` of the same bytes gives the same address.
* A torn object is never read as a whole one: every read is checked against the address.
* An object appears whole or not at all, also when the writer is killed half-way.
* A store may be used from several threads; each process opens its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

LONGEST_PRESIGN = timedelta(days=7)  # the limit of S3's signature version 4


class NotFound(KeyError):  # noqa: N818
    """No object lives at this address."""

    __str__ = Exception.__str__  # KeyError's own shows the message in quotes


class Torn(OSError):  # noqa: N818
    """The bytes are not those that the address promises.

    Asking again does not help: `Store.delete` the object, then make and put it again.
    """


class StoreUnavailable(OSError):  # noqa: N818
    """The store cannot be reached or failed on its side; the same call may work later."""


@dataclass(frozen=True, kw_only=True)
class Stat:
    """What is known of an object without reading it: ``size`` in bytes, ``modified`` in UTC."""

    address: str
    size: int
    modified: datetime


class Store(Protocol):
    """Content-addressed bytes. See the module's docstring for the rules.

    Besides what each method names, all raise `StoreUnavailable` when the store cannot be
    reached, `PermissionError` when it refuses us, and `ValueError` for what is no address.
    """

    def put(self, kind: str, source: bytes | Path, suffix: str = "") -> str:
        """Keep the bytes, or the file's bytes, and return their address.

        An object of the right size that is already there is left alone; one of another size is
        torn and is replaced. Raises `Torn` when the file changes while it is being read.
        """
        ...

    def get(self, address: str) -> bytes:
        """The object's bytes, in memory. Raises `NotFound` or `Torn`."""
        ...

    def fetch(self, address: str, path: Path) -> Path:
        """Copy the object to ``path``, which appears whole or stays as it was, and return it.

        ``path``'s folder must exist. Raises `NotFound` or `Torn`.
        """
        ...

    def stat(self, address: str) -> Stat:
        """Size and time of an object, without reading or verifying it. Raises `NotFound`."""
        ...

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """All objects whose address begins with ``prefix``, sorted by address."""
        ...

    def presign(self, address: str, expires: timedelta) -> str:
        """A URL from which anyone may read the object for the time ``expires`` (1 s to 7 days).

        A folder gives a ``file:`` URL, which does not expire. Raises `NotFound`.
        """
        ...

    def delete(self, address: str) -> None:
        """Forget the object; nothing happens when it is not there."""
        ...


def check_expires(expires: timedelta) -> timedelta:
    """Give back a lifetime that every store can grant; raises `ValueError` otherwise."""
    if not timedelta(seconds=1) <= expires <= LONGEST_PRESIGN:
        raise ValueError(f"expires = {expires}: must be between 1 second and 7 days")
    return expires


def size_of(store: Store, address: str) -> int | None:
    """The object's size in bytes, or None when it does not exist."""
    try:
        return store.stat(address).size
    except NotFound:
        return None
