"""From takes to a film: the H.264 file, its contact sheet, and the record of how it was made."""

from __future__ import annotations

import json
import platform
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

from dreamontage import media
from dreamontage.intake import condition_label
from dreamontage.plan import Placed
from dreamontage.storyboard import Shot, Storyboard

_SMOKE = "SMOKE: made with weights too little trained to show"


@dataclass(frozen=True, kw_only=True)
class ShotFilm:
    """A finished shot: its mezzanine, the conditions on its frames, and notes for its sheet."""

    mezzanine: Path
    frames: int
    conditions: Sequence[Placed]
    notes: Sequence[str] = ()


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
    record: Mapping[str, Any],
) -> Deliverables:
    """Write the H.264 film, its contact sheet and its record into ``folder``.

    A film by barely trained weights is labelled: in its name, its metadata, on its sheet and in
    its record.
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
        notes=list(_notes(board, shots)),
        banner=_SMOKE if smoke else None,
    )
    path = folder / f"{stem}.json"
    content = {
        "film": film.name,
        "label": "smoke" if smoke else "final",
        "title": board.title,
        "frames": sum(shot.frames for shot in shots),
        "fps": str(board.fps),
        "storyboard": board.model_dump(mode="json"),
        **record,
        "made_with": versions(),
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return Deliverables(film=film, sheet=sheet, record=path)


class Window(Protocol):
    """A segment's window [start, stop) on its shot's latents; its first `tail` are the one
    before's."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def tail(self) -> int: ...


class Measured(Protocol):
    """A score, of the gate or as it was stored."""

    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def frame(self) -> int | None: ...
    @property
    def detail(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ToldCondition:
    """A condition by its bytes: sha256 of the asset, and of the rendition that `spec` made of
    it."""

    placed: Placed
    asset: str
    rendition: str
    spec: Mapping[str, Any]


def told_draft(
    shot: Shot,
    *,
    asset: str | None = None,
    rendition: str | None = None,
    spec: Mapping[str, Any] | None = None,
) -> dict[str, Any] | None:
    """A shot's draft as the film's record has it; a video by its bytes, as a condition."""
    if shot.draft is None:
        return None
    told: dict[str, Any] = {"kind": "auto", "strength": shot.draft_strength}
    if shot.animatic is not None:
        told |= {"kind": "video", "asset": asset, "rendition": rendition, "made_by": spec}
    return told


def told_shot(
    *,
    name: str | None,
    frames: int,
    loop: bool,
    draft: Mapping[str, Any] | None,
    attempt: int,
    seed: int,
    segments: Sequence[tuple[str, Window]],
    conditions: Sequence[ToldCondition],
    verdict: str | None,
    reasons: Sequence[str],
    scores: Sequence[Measured],
) -> dict[str, Any]:
    """A shot's take as the film's record has it: all that determined it, and how it was judged.

    ``seed`` is the take's, and ``segments`` are its keys with their windows, in order.
    """
    return {
        "name": name,
        "frames": frames,
        "loop": loop,
        "draft": draft,
        "take": attempt,
        "seed": seed,
        "verdict": verdict,
        "reasons": list(reasons),
        "scores": [
            {"name": each.name, "value": each.value, "frame": each.frame, "detail": each.detail}
            for each in scores
        ],
        "segments": [
            {"key": key, "start": window.start, "stop": window.stop, "tail": window.tail}
            for key, window in segments
        ],
        "conditions": [
            {
                "kind": each.placed.kind,
                "frame": each.placed.frame,
                "frames": each.placed.frames,
                "asset": each.asset,
                "rendition": each.rendition,
                "made_by": dict(each.spec),
            }
            for each in conditions
        ],
    }


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


def _notes(board: Storyboard, shots: Sequence[ShotFilm]) -> Iterator[str]:
    """The shots' notes; in a film of several, under their names."""
    for index, shot in enumerate(shots):
        for note in shot.notes:
            yield note if len(shots) == 1 else f"{board.shot_name(index)}: {note}"


def versions() -> dict[str, str]:
    """What computed the film, beside what its storyboard and model say."""
    names = ("dreamontage", "torch", "diffusers", "transformers", "imageio-ffmpeg", "av")
    return {name: metadata.version(name) for name in names} | {
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
