"""The files of a finished storyboard: film, contact sheet and record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamontage.delivery.film import ShotFilm, write_film
from dreamontage.rendering.record import FilmRecord, write_record
from dreamontage.storyboard import Storyboard


@dataclass(frozen=True, kw_only=True)
class Deliverables:
    film: Path
    sheet: Path
    record: Path


def deliver(
    board: Storyboard,
    shots: Sequence[ShotFilm],
    folder: Path,
    *,
    name: str,
    smoke: bool,
    record: Callable[[str], FilmRecord],
) -> Deliverables:
    """Write film, sheet and record into ``folder``.

    Args:
        record: the film's record, from the name of its file.
    """
    film, sheet = write_film(board, shots, folder, name=name, smoke=smoke)
    path = write_record(record(film.name), film.with_suffix(".json"))
    return Deliverables(film=film, sheet=sheet, record=path)
