"""What operators see in Prefect's UI beside states: progress, scores, contact sheets."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
from PIL import Image
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import PrefectException

from flows.steps import Judged

_WIDEST = 1600  # pixels of a sheet in the UI; the deliverable keeps its own
_SECONDS_BETWEEN = 1.0

log = logging.getLogger(__name__)


@contextmanager
def _best_effort(what: str) -> Iterator[None]:
    """Showing is never worth the work shown: a server that does not take it is only logged."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        log.warning("%s is not shown in Prefect: %s: %s", what, type(error).__name__, error)


class Progress:
    """A segment's denoise steps as a progress artifact, updated at most once a second."""

    def __init__(self, key: str) -> None:
        self._key = key.lower()
        self._artifact: UUID | None = None
        self._updated = 0.0

    def update(self, step: int, steps: int) -> None:
        if step < steps and time.monotonic() - self._updated < _SECONDS_BETWEEN:
            return
        self._write(100.0 * step / steps)

    def finish(self) -> None:
        """A segment that was found finished has no step to report."""
        if self._artifact is None:
            self._write(100.0)

    def _write(self, percent: float) -> None:
        self._updated = time.monotonic()
        with _best_effort(f"progress of {self._key}"):
            if self._artifact is None:
                found = create_progress_artifact(
                    percent, key=self._key, description="Denoise steps of one segment"
                )
                assert isinstance(found, UUID)
                self._artifact = found
            else:
                update_progress_artifact(self._artifact, progress=percent)


def judgement(take_id: str, judged: Judged) -> None:
    """The gate's scores as a table."""
    with _best_effort(f"the judgement of {take_id}"):
        create_table_artifact(
            table=[
                {
                    "measure": score.name,
                    "value": round(score.value, 4),
                    "frame": score.frame,
                    "detail": score.detail,
                }
                for score in judged.scores
            ],
            key=f"gate-{take_id}".lower(),
            description=f"**{judged.verdict.value}** " + "; ".join(judged.reasons),
        )


def curated(folder: str, counts: Mapping[str, int], address: str, place: Path) -> None:
    """What became of a folder's videos: the counts, and the report's two sheets in `place`."""
    key = f"curated-{hashlib.sha256(folder.encode()).hexdigest()[:16]}"
    with _best_effort(f"the report on {folder}"):
        create_table_artifact(
            table=[{"videos": what, "count": count} for what, count in counts.items()],
            key=key,
            description=f"{folder}: the data set is {address}",
        )
    for name in ("kept", "dropped"):
        sheet(f"{key}-{name}", f"{folder}, {name}", (place / f"{name}.png").read_bytes())


def sheet(storyboard_id: str, title: str, png: bytes) -> None:
    """The contact sheet. As a data URL, since a browser cannot reach every store."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((_WIDEST, 10 * _WIDEST))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    # Markdown, not an image artifact: the UI writes that one's URL out in full beside it.
    with _best_effort(f"the sheet of {storyboard_id}"):
        create_markdown_artifact(
            f"![{title}](data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()})",
            key=f"sheet-{storyboard_id}".lower(),
            description=title,
        )
