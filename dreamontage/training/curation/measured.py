"""Measurements of a folder's videos, stored on disk so that nothing is measured twice."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamontage.files import write_text
from dreamontage.training.curation.measure import Measurement, measure
from dreamontage.training.curation.videos import Curation

MAX_CRASHES = 3
"""After so many processes have died while measuring a file, it is not measured again."""


def measure_once(folder: Path, name: str, measured: Path, curation: Curation) -> Measurement:
    """Measure a video, or read the stored measurement of the same file with the same measures.

    A video that cannot be used is measured again in the next run, because the disk or a hook may
    have failed. Only a file that kills processes is never measured again.
    """
    path = folder / name
    file = measured / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    try:
        stat = path.stat()
    except OSError as error:  # deleted since the folder was listed
        return Measurement(digest="", fault=error.strerror or "cannot be read")
    stamp = {
        "name": name,
        "bytes": stat.st_size,
        "changed": stat.st_mtime_ns,
        "measures": curation.measures.facts(),
    }
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        if {field: data[field] for field in stamp} == stamp:
            return from_text(data["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not measured yet, or by another version: it is measured now
    with _crash_count(file.with_suffix(".begun"), stamp) as crashes:
        if crashes < MAX_CRASHES:
            found = measure(path, curation.measures)
        else:
            found = Measurement(digest="", fault=f"{crashes} processes died while looking at it")
        if found.fault is None or crashes >= MAX_CRASHES:
            write_text(file, json.dumps({**stamp, "found": to_text(found)}))
    return found


@contextmanager
def _crash_count(marker: Path, stamp: Mapping[str, Any]) -> Iterator[int]:
    """Write a marker while a file is measured; gives how many processes died and left theirs.

    A decoder that crashes on a file kills its process, and only the marker remains.
    """
    crashes = 0
    try:
        data = json.loads(marker.read_text(encoding="utf-8"))
        crashes = data["deaths"] if data["stamp"] == stamp else 0
    except (OSError, ValueError, KeyError, TypeError):
        pass
    write_text(marker, json.dumps({"stamp": stamp, "deaths": crashes + 1}))
    try:
        yield crashes
    finally:
        marker.unlink(missing_ok=True)


def to_text(found: Measurement) -> dict[str, Any]:
    """A measurement as JSON, with its strip."""
    return {**found.to_json(), "strip": base64.b64encode(found.strip).decode()}


def from_text(data: Mapping[str, Any]) -> Measurement:
    strip = base64.b64decode(data["strip"])
    return Measurement.from_json({k: v for k, v in data.items() if k != "strip"}, strip)
