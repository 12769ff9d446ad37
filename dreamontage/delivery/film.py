"""From takes to a film: the H.264 file and its contact sheet."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from dreamontage import media
from dreamontage.storyboard import Shot, Storyboard
from dreamontage.storyboard.placement import Placed, condition_label

_SMOKE = "SMOKE: made with weights too little trained to show"


@dataclass(frozen=True, kw_only=True)
class ShotFilm:
    """A finished shot: its mezzanine, the conditions on its frames, and notes for its sheet."""

    mezzanine: Path
    frames: int
    conditions: Sequence[Placed]
    notes: Sequence[str] = ()


def write_film(
    board: Storyboard, shots: Sequence[ShotFilm], folder: Path, *, name: str, smoke: bool
) -> tuple[Path, Path]:
    """Write the H.264 film and its contact sheet into ``folder``; where they are.

    A film by barely trained weights is labelled: in its name, its metadata and on its sheet.
    """
    stem = f"{name}.smoke" if smoke else name
    film = folder / f"{stem}.mp4"
    tags = {"title": board.title} | ({"comment": _SMOKE} if smoke else {})
    media.concat([shot.mezzanine for shot in shots], film, fps=board.fps, metadata=tags)
    sheet = media.contact_sheet(
        film,
        folder / f"{stem}.png",
        marks=list(_marks(shots, board.fps)),
        title=board.title,
        notes=list(film_notes(board, shots)),
        banner=_SMOKE if smoke else None,
    )
    return film, sheet


def slug(title: str) -> str:
    """A title as part of a file's name: at most 40 of a-z, 0-9 and dashes; may be empty."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-")


def _marks(shots: Sequence[ShotFilm], fps: Fraction) -> Iterator[media.Mark]:
    first = 0
    for shot in shots:
        for each in shot.conditions:
            label = condition_label(each, fps)
            yield media.Mark(frame=first + each.frame, frames=each.frames, label=label)
        first += shot.frames


def shot_notes(shot: Shot) -> tuple[str, ...]:
    """What a viewer of the sheet should know of a shot that its pictures do not show."""
    notes = ["loops"] if shot.loop else []
    if shot.draft is not None:
        name = shot.draft if shot.animatic is None else Path(shot.draft).name
        notes.append(f"drafted: {name}, strength {shot.draft_strength:g}")
    return tuple(notes)


def film_notes(board: Storyboard, shots: Sequence[ShotFilm]) -> Iterator[str]:
    """What holds for the film, and the shots' notes; in a film of several, under their names."""
    if board.upscale is not None:
        yield f"upscaled: {board.size} times {board.upscale:g}"
    for index, shot in enumerate(shots):
        for note in shot.notes:
            yield note if len(shots) == 1 else f"{board.shot_name(index)}: {note}"
