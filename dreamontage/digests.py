"""Digests of JSON values and of files: sha256, in hex."""

from __future__ import annotations

import hashlib
import json
import math
import unicodedata
from collections.abc import Mapping
from pathlib import Path


def digest(value: object) -> str:
    """The sha256, in hex, of a JSON value in canonical form.

    Canonical: keys sorted, no white space, text in Unicode NFC, a float without a fraction
    written as the integer it equals and any other by its shortest exact decimal. Raises
    `ValueError` for nan, infinities and keys that NFC makes equal, `TypeError` for what JSON
    does not know.
    """
    text = json.dumps(
        _canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """The sha256, in hex, of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _canonical(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} has no canonical form")
        return int(value) if value.is_integer() else value
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list | tuple):
        return [_canonical(entry) for entry in value]
    if isinstance(value, Mapping):
        result: dict[str, object] = {}
        for key, entry in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a key must be text, not {type(key).__name__}")
            name = unicodedata.normalize("NFC", key)
            if name in result:
                raise ValueError(f"the key {name!r} is given twice")
            result[name] = _canonical(entry)
        return result
    raise TypeError(f"{type(value).__name__} is not a JSON type")
