"""Addresses: where an object lives, and what its bytes must be.

An address reads ``kind/ab/<sha256><suffix>``, for example ``assets/3f/3fa9….png``:

* ``kind`` groups objects by what they are for, so that they can be listed and swept apart;
* ``ab``, the digest's first two digits, keeps any one folder small;
* the sha256 of the bytes makes the address enough to verify a read;
* the suffix tells ffmpeg and people what is inside, and is part of the name, not of the truth.

Because an address is also a path in a folder, nothing reaches a store that does not parse as one.
"""

import re
from dataclasses import dataclass

_KIND = r"[a-z][a-z0-9-]{0,31}"
_SUFFIX = r"(?:\.[a-z0-9]{1,16}){0,3}"
_ADDRESS = re.compile(rf"({_KIND})/([0-9a-f]{{2}})/(\2[0-9a-f]{{62}})({_SUFFIX})")
_PREFIX = re.compile(
    rf"(?:{_KIND}(?:/[0-9a-f]{{0,2}}"
    r"|/[0-9a-f]{2}/[0-9a-f]{0,64}|/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z0-9.]*)?)?"
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """The parts of an address; ``str()`` gives the address itself."""

    kind: str
    digest: str
    suffix: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.digest[:2]}/{self.digest}{self.suffix}"


def address_of(kind: str, digest: str, suffix: str = "") -> Address:
    """The address of bytes whose sha256 is ``digest`` (64 lower-case hex digits).

    The suffix is taken in lower case, so that ``.PNG`` and ``.png`` are one name also on file
    systems that fold case. Raises `ValueError` for a kind or suffix that breaks the rules.
    """
    suffix = suffix.lower()
    if not re.fullmatch(_KIND, kind):
        raise ValueError(
            f"kind = {kind!r}: must be 1 to 32 of a-z, 0-9 and '-', beginning with a letter"
        )
    if not re.fullmatch(_SUFFIX, suffix):
        raise ValueError(f"suffix = {suffix!r}: must be empty or up to three parts like '.png'")
    assert re.fullmatch(r"[0-9a-f]{64}", digest), digest
    return Address(kind=kind, digest=digest, suffix=suffix)


def parse(address: str) -> Address:
    """Take an address apart; raises `ValueError` for anything else, path tricks included."""
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ValueError(
            f"address = {address!r}: must read kind/ab/<sha256><suffix>, "
            "the sha256 in lower-case hex and beginning with ab"
        )
    return Address(kind=match[1], digest=match[3], suffix=match[4])


def is_address(name: str) -> bool:
    """Whether a name found in a folder or bucket is an object of ours."""
    return _ADDRESS.fullmatch(name) is not None


def check_prefix(prefix: str) -> str:
    """Give back a string that some address could begin with; raises `ValueError` otherwise."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"prefix = {prefix!r}: no address kind/ab/<sha256><suffix> begins so")
    return prefix
