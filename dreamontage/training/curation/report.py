"""The result for every video, for people: a table, a JSON file, and contact sheets."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from dreamontage.files import replacing, write_text
from dreamontage.media.fonts import drawable
from dreamontage.training.curation.judge import Rule
from dreamontage.training.curation.videos import Entry

JSON, TEXT, KEPT, DROPPED = "report.json", "report.txt", "kept.png", "dropped.png"

_PAPER, _INK, _FAINT, _RED = "#14161a", "#f4f4f2", "#9aa0a8", "#ff3b30"
_ROWS, _MARGIN, _GAP, _TEXT_LINE, _STRIP = 60, 24, 14, 24, (780, 72)
_WIDE = 160  # columns of the text report


def counts(entries: Sequence[Entry]) -> dict[str, int]:
    """How many videos there are, how many are accepted, and how many each rule dropped."""
    dropped = Counter(entry.verdict.rule for entry in entries)
    totals = {"videos": len(entries), "kept": dropped[None]}
    return totals | {str(rule): dropped[rule] for rule in Rule if dropped[rule]}


def table(entries: Sequence[Entry]) -> Table:
    """The counts."""
    shown = Table(show_header=False)
    shown.add_column(justify="left")
    shown.add_column(justify="right")
    for name, count in counts(entries).items():
        shown.add_row(name if name in ("videos", "kept") else f"dropped: {name}", str(count))
    return shown


def write(folder: Path, entries: Sequence[Entry], facts: dict[str, Any]) -> None:
    """Write the four files of a report. `facts`: the run's settings."""
    document = {
        "counts": counts(entries),
        "settings": facts,
        "videos": [_entry_json(entry) for entry in entries],
    }
    write_text(folder / JSON, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    page = io.StringIO()
    console = Console(file=page, width=_WIDE)
    console.print(table(entries))
    console.print(_listing(entries))
    write_text(folder / TEXT, page.getvalue())
    chosen = [entry for entry in entries if entry.verdict.accepted]
    rest = sorted(
        (entry for entry in entries if entry.verdict.rule is not None),
        key=lambda entry: list(Rule).index(entry.verdict.rule or Rule.READABLE),
    )
    _sheet(folder / KEPT, f"Kept: {len(chosen)} of {len(entries)}", chosen)
    _sheet(folder / DROPPED, f"Dropped: {len(rest)} of {len(entries)}", rest)


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "kept": entry.verdict.accepted,
        "rule": entry.verdict.rule and str(entry.verdict.rule),
        "reason": entry.verdict.reason,
        "digest": entry.found.digest,
        "size": [entry.found.width, entry.found.height],
        "seconds": round(entry.found.seconds, 3),
        "scores": dict(entry.found.scores),
        "actions": [[each.start, each.stop, each.text] for each in entry.actions],
    }


def _listing(entries: Sequence[Entry]) -> Table:
    shown = Table("video", "seconds", "", "cuts", "likeness", "quality", "shake %", "motion %")
    for column in shown.columns[3:]:
        column.justify = "right"
    for entry in entries:
        scores = entry.found.scores
        numbers = [
            f"{scores[name] * scale:.{digits}f}" if name in scores else ""
            for name, scale, digits in (
                ("cuts", 1, 0),
                ("likeness", 1, 3),
                ("quality", 1, 2),
                ("shake", 100, 2),
                ("motion", 100, 1),
            )
        ]
        what = "kept" if entry.verdict.accepted else f"{entry.verdict.rule}: {entry.verdict.reason}"
        row = [entry.name, f"{entry.found.seconds:.2f}", what]
        shown.add_row(*(cell.replace("[", "\\[") for cell in row), *numbers)
    return shown


def _sheet(path: Path, title: str, entries: Sequence[Entry]) -> None:
    """At most _ROWS videos, evenly chosen: for each its name, the verdict and a row of pictures."""
    if len(entries) > _ROWS:
        step = len(entries) / _ROWS
        entries = [entries[int(place * step)] for place in range(_ROWS)]
        title += f"; {_ROWS} of them"
    row = _TEXT_LINE + _STRIP[1] + _GAP
    size = (2 * _MARGIN + _STRIP[0], 2 * _MARGIN + 2 * _TEXT_LINE + row * max(1, len(entries)))
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN, _MARGIN + _TEXT_LINE // 2), title, _INK, ImageFont.load_default(22), "lm")
    for place, entry in enumerate(entries):
        top = _MARGIN + 2 * _TEXT_LINE + place * row
        name = entry.name if len(entry.name) <= 40 else f"...{entry.name[-37:]}"
        shown = drawable(name)
        font = shown.sized(15)
        draw.text((_MARGIN, top + _TEXT_LINE // 2), shown.text, _INK, font, "lm")
        left = _MARGIN + font.getlength(shown.text) + 16
        if entry.verdict.accepted:
            text, ink = "; ".join(action.text for action in entry.actions), _FAINT
        else:
            text, ink = f"{entry.verdict.rule}: {entry.verdict.reason}", _RED
        shown = drawable(text)
        text, font = shown.text, shown.sized(15)
        while text and left + font.getlength(text) > size[0] - _MARGIN:
            text = f"{text.rstrip('.')[:-4]}..." if len(text) > 8 else ""
        draw.text((left, top + _TEXT_LINE // 2), text, ink, font, "lm")
        if entry.found.strip:
            strip = Image.open(io.BytesIO(entry.found.strip))
            strip.thumbnail(_STRIP)
            image.paste(strip, (_MARGIN, top + _TEXT_LINE))
    with replacing(path) as temporary:
        image.save(temporary, "PNG", optimize=True)
