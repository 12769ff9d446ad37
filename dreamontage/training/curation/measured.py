"""What was measured of a folder's videos, kept on the disk so that nothing is measured twice."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamontage.media.process import replacing
from dreamontage.training.curation.measure import Measurement, measure
from dreamontage.training.curation.videos import Curation

DEATHS = 3
"""Processes that may die while they look at a file before it is left alone."""


def measure_once(folder: Path, name: str, measured: Path, curation: Curation) -> Measurement:
    """Measure a video, or read what was measured of the same file in the same way.

    One that cannot be used is looked at again in the next run: it may have been the disk, or a
    hook, that failed. Only what brings processes down is left alone for good.
    """
    path = folder / name
    file = measured / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    try:
        stat = path.stat()
    except OSError as error:  # gone since the folder was listed
        return Measurement(digest="", fault=error.strerror or "cannot be read")
    stamp = {
        "name": name,
        "bytes": stat.st_size,
        "changed": stat.st_mtime_ns,
        "measures": curation.measures.facts(),
    }
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        if {field: told[field] for field in stamp} == stamp:
            return from_text(told["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or by another version: it is measured now
    with _survived(file.with_suffix(".begun"), stamp) as deaths:
        if deaths < DEATHS:
            found = measure(path, curation.measures)
        else:
            found = Measurement(digest="", fault=f"{deaths} processes died while looking at it")
        if found.fault is None or deaths >= DEATHS:
            with replacing(file) as temporary:
                text = json.dumps({**stamp, "found": to_text(found)})
                temporary.write_text(text, encoding="utf-8")
    return found


@contextmanager
def _survived(begun: Path, stamp: Mapping[str, Any]) -> Iterator[int]:
    """Leave a note for as long as a file is looked at; gives how many processes left theirs.

    A decoder that a file brings down takes its process with it, and nothing but the note remains.
    """
    deaths = 0
    try:
        told = json.loads(begun.read_text(encoding="utf-8"))
        deaths = told["deaths"] if told["stamp"] == stamp else 0
    except (OSError, ValueError, KeyError, TypeError):
        pass
    with replacing(begun) as temporary:
        temporary.write_text(json.dumps({"stamp": stamp, "deaths": deaths + 1}), encoding="utf-8")
    try:
        yield deaths
    finally:
        begun.unlink(missing_ok=True)


def to_text(found: Measurement) -> dict[str, Any]:
    """A measurement as JSON, with its strip."""
    return {**found.to_json(), "strip": base64.b64encode(found.strip).decode()}


def from_text(told: Mapping[str, Any]) -> Measurement:
    strip = base64.b64decode(told["strip"])
    return Measurement.from_json({k: v for k, v in told.items() if k != "strip"}, strip)
