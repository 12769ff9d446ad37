"""Films beside their controls, as pictures: what the figures are about.

Shapes: T frames, H W height and width, C = 3 colours (uint8).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamontage.evaluation import names
from dreamontage.evaluation.material import Pixels
from dreamontage.evaluation.methods import Method
from dreamontage.evaluation.store import Store
from dreamontage.evaluation.suite import Suite
from dreamontage.evaluation.tasks import Kind, Task
from dreamontage.files import replacing

COLUMNS, WIDE = 9, 5
"""Frames of a row, and of one of larger frames."""

_PAPER, _INK, _FAINT, _RED = "#14161a", "#f4f4f2", "#9aa0a8", "#ff3b30"
_LABEL, _LINE, _GAP, _MARGIN, _OUTLINE = 190, 22, 4, 24, 2
_EMPTY = 40  # grey of a frame that is not given
_TEXT, _SMALL = 15, 13

ROWS: dict[Kind, tuple[str, ...]] = {
    Kind.FIRST_LAST: (names.TRUTH, names.OURS, names.FADE, names.FLOW_CODEC, names.UNTRAINED),
    Kind.FOUR: (names.TRUTH, names.OURS, names.PIECES, names.FADE, names.FLOW_CODEC),
    Kind.PROMPT: (names.TRUTH, names.OURS),
    Kind.CHANGED: (names.TRUTH, names.OURS),
    Kind.CLIPS: (names.TRUTH, names.OURS, names.FADE, names.FLOW_CODEC),
    Kind.EXTENSION: (names.TRUTH, names.OURS),
    Kind.LONG_FREE: (names.TRUTH, names.OURS, names.PIXELS),
    Kind.LONG_KEYED: (names.TRUTH, names.OURS),
    Kind.LARGE: (names.TRUTH, names.SHARED, names.ALONE, names.BICUBIC),
}
GIVEN = "given"
SHOWN: dict[Kind, int] = {Kind.FOUR: 4}
"""Films of each kind on a sheet, if not two."""


def draw(suite: Suite, store: Store, out: Path) -> list[Path]:
    """A sheet for each kind of task; the films come from the store."""
    by_kind: dict[Kind, dict[Task, list[Method]]] = {}
    for job in suite.jobs:
        if job.method.name in ROWS[job.task.kind]:
            by_kind.setdefault(job.task.kind, {}).setdefault(job.task, []).append(job.method)
    # The two prompts of one picture stand below each other.
    asked, changed = by_kind.pop(Kind.PROMPT, {}), by_kind.pop(Kind.CHANGED, {})
    pairs = zip(asked.items(), changed.items(), strict=False)
    sheets = {
        kind: dict(list(tasks.items())[: SHOWN.get(kind, 2)]) for kind, tasks in by_kind.items()
    }
    sheets[Kind.PROMPT] = {task: some for pair in list(pairs)[:4] for task, some in pair}
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, tasks in sheets.items():
        if tasks:
            path = out / f"{kind.replace(',', '').replace(' ', '-')}.png"
            with replacing(path) as temporary:
                sheet(kind, tasks, store).save(temporary)
            paths.append(path)
    return paths


def sheet(kind: Kind, tasks: dict[Task, list[Method]], store: Store) -> Image.Image:
    """One picture: for each task its prompt, what is given, and a row of each method's frames."""
    blocks = [_block(task, methods, store) for task, methods in tasks.items()]
    width = max(block.width for block in blocks) + 2 * _MARGIN
    height = sum(block.height + _MARGIN for block in blocks) + 2 * _MARGIN + _LINE
    picture = Image.new("RGB", (width, height), _PAPER)
    ImageDraw.Draw(picture).text((_MARGIN, _MARGIN), str(kind), _INK, _font(_TEXT))
    at = _MARGIN + _LINE + _GAP
    for block in blocks:
        picture.paste(block, (_MARGIN, at))
        at += block.height + _MARGIN
    return picture


def _block(task: Task, methods: Sequence[Method], store: Store) -> Image.Image:
    columns = _columns(task)
    order = ROWS[task.kind]
    rows: list[tuple[str, list[Pixels | None]]] = []
    for method in sorted(methods, key=lambda each: order.index(each.name)):
        film_THWC = store.film(method, task)
        rows.append((method.name, [film_THWC[frame] for frame in columns]))
    if len(task.pictures) > 1:  # below the true film; a first frame alone needs no row
        rows.insert(1, (GIVEN, [task.pictures.get(frame) for frame in columns]))
    height, width = task.size
    block = Image.new(
        "RGB",
        (_LABEL + len(columns) * (width + _GAP), 2 * _LINE + len(rows) * (height + _GAP)),
        _PAPER,
    )
    pen = ImageDraw.Draw(block)
    pen.text((0, 0), _shortened(task.prompt, block.width, pen), _FAINT, _font(_SMALL))
    for column, frame in enumerate(columns):
        place = (_LABEL + column * (width + _GAP), _LINE)
        pen.text(place, str(frame), _RED if frame in task.pictures else _FAINT, _font(_SMALL))
    for row, (name, pictures) in enumerate(rows):
        top = 2 * _LINE + row * (height + _GAP)
        pen.text((0, top + height // 2 - _TEXT // 2), name, _INK, _font(_TEXT))
        for column, picture_HWC in enumerate(pictures):
            left = _LABEL + column * (width + _GAP)
            if picture_HWC is None:
                picture_HWC = np.full((height, width, 3), _EMPTY, np.uint8)
            block.paste(Image.fromarray(picture_HWC), (left, top))
            if columns[column] in task.pictures and name == GIVEN:
                box = (left, top, left + width - 1, top + height - 1)
                pen.rectangle(box, outline=_RED, width=_OUTLINE)
    return block


def _columns(task: Task) -> list[int]:
    """Every still that is given, if there is room for them, and what fills the gaps best."""
    count = min(WIDE if task.kind is Kind.LARGE else COLUMNS, task.frames)
    even = [round((task.frames - 1) * n / max(1, count - 1)) for n in range(count)]
    if len(task.pictures) > count:
        return even
    chosen = list(task.pictures)
    while len(chosen) < count:
        rest = [frame for frame in even if frame not in chosen]
        chosen.append(max(rest, key=lambda frame: min(abs(frame - each) for each in chosen)))
    return sorted(chosen)


def _shortened(text: str, width: int, pen: ImageDraw.ImageDraw) -> str:
    if pen.textlength(text, _font(_SMALL)) <= width:
        return text
    while pen.textlength(f"{text} ...", _font(_SMALL)) > width:
        text = text[:-1]
    return f"{text} ..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
