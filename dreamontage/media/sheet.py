"""The contact sheet: a film at a glance, with the frames where its conditions stand in red."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from dreamontage.files import replacing
from dreamontage.media.clips import read_frames
from dreamontage.media.fonts import drawable
from dreamontage.media.probe import probe

_PAPER, _INK, _FAINT = "#14161a", "#f4f4f2", "#9aa0a8"
_RED, _AMBER = "#ff3b30", "#ffb000"

# Every thumbnail has about the area of a 240 x 150 one, whatever the film's shape.
_THUMB_AREA, _THUMB_MIN_WIDTH = 240 * 150, 168
_MARGIN, _GAP, _OUTLINE = 40, 18, 5
_TITLE, _FACTS, _TIME, _LABEL, _BANNER = 44, 24, 20, 22, 28
_CAPTION, _LABEL_LINE = 36, 26  # below a thumbnail: its time, then a condition's label

_HEAD, _HEAD_LINE, _MIN_WIDTH = 120, 36, 1000
_LEGEND, _LEGEND_ROOM = "given as a condition", 82

_NO_FONT = "? stands for letters that no font here has"

_THUMBS_A_SECOND, _FEWEST, _MOST = 4, 16, 48


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A condition on the film's timeline: `frames` frames from `frame` on, and what it is."""

    frame: int
    label: str
    frames: int = 1

    @property
    def last(self) -> int:
        return self.frame + self.frames - 1


def contact_sheet(
    film: Path,
    out: Path,
    *,
    marks: Sequence[Mark],
    title: str,
    columns: int = 8,
    notes: Sequence[str] = (),
    banner: str | None = None,
) -> Path:
    """Write a PNG with the film's frames in time order, and return its path.

    Frames stand evenly in time, and every mark's first and last frame is among them; whatever
    lies in a mark is outlined in red. `notes` follow the film's facts below its title, in as many
    lines as they need, and `banner` is in amber beside the title. What the built-in font lacks
    is drawn in a system's; where none has it either, the sheet says so. Raises `ValueError` for a
    mark that the film does not reach.
    """
    info = probe(film)
    assert info.frames is not None
    assert info.fps is not None
    for mark in marks:
        if not 0 <= mark.frame <= mark.last < info.frames:
            raise ValueError(
                f"marks: {mark.label!r} is on frames {mark.frame} to {mark.last}, the film has "
                f"frames 0 to {info.frames - 1}"
            )
    chosen = choose_frames(info.frames, info.fps, marks, columns)
    shown = set(chosen)
    thumb = _thumb_size(info.width, info.height)
    pictures = {
        index: Image.fromarray(frame_HWC).resize(thumb, Image.Resampling.LANCZOS)
        for index, frame_HWC in enumerate(read_frames(film))
        if index in shown
    }
    columns = min(columns, len(chosen))
    facts = (
        f"{info.width} x {info.height}   {_number(info.fps)} fps   "
        f"{_number(info.duration or Fraction(0))} s   {info.frames} frames"
    )
    missing = [_NO_FONT] if drawable(title).missing else []
    labels = [" + ".join(m.label for m in marks if m.frame == index) for index in chosen]
    rows = [labels[at : at + columns] for at in range(0, len(labels), columns)]
    sheet = _Sheet(
        thumb,
        columns,
        labelled=[any(row) for row in rows],
        facts=[facts, *notes, *missing],
        marked=bool(marks),
    )
    sheet.head(title, banner)
    for place, (index, label) in enumerate(zip(chosen, labels, strict=True)):
        sheet.cell(
            place,
            pictures[index],
            _seconds(index, info.fps),
            label,
            marked=any(m.frame <= index <= m.last for m in marks),
            goes_on=any(m.frame <= index < m.last for m in marks),
        )
    with replacing(out) as temporary:
        sheet.image.save(temporary, "PNG", optimize=True)
    return out


def choose_frames(frames: int, fps: Fraction, marks: Sequence[Mark], columns: int) -> list[int]:
    """Which frames a sheet shows: evenly spread, moved onto the marks, in whole rows."""
    wanted = {0, frames - 1, *(m.frame for m in marks), *(m.last for m in marks)}
    target = min(max(round(frames / fps * _THUMBS_A_SECOND), _FEWEST), _MOST)
    target = -(-max(target, len(wanted)) // columns) * columns
    if frames <= target:
        return list(range(frames))
    chosen = set(wanted)
    grid = {round(place * (frames - 1) / (target - 1)) for place in range(target)}
    near = (frames - 1) / (target - 1) / 2
    chosen |= {g for g in grid if all(abs(g - must) > near for must in wanted)}
    while len(chosen) != target:
        order = sorted(chosen)
        if len(chosen) < target:
            low, high = max(pairwise(order), key=lambda gap: gap[1] - gap[0])
            chosen.add((low + high) // 2)
        else:
            # The frame whose neighbours are nearest to each other is missed the least.
            spare = [
                (after - before, here)
                for before, here, after in zip(order, order[1:], order[2:], strict=False)
                if here not in wanted
            ]
            chosen.remove(min(spare)[1])
    return sorted(chosen)


class _Sheet:
    """The picture being drawn."""

    def __init__(
        self,
        thumb: tuple[int, int],
        columns: int,
        *,
        labelled: Sequence[bool],
        facts: Sequence[str],
        marked: bool,
    ) -> None:
        self._thumb = thumb
        self._columns = columns
        self._legend = _LEGEND if marked else ""
        width = max(2 * _MARGIN + columns * thumb[0] + (columns - 1) * _GAP, _MIN_WIDTH)
        self._room = width - 2 * _MARGIN
        self._facts = _lines(facts, self._room, first=self._room - self._legend_room)
        self._tops = [_MARGIN + _HEAD + _HEAD_LINE * (len(self._facts) - 1)]
        for has_labels in labelled:
            below = _CAPTION + (_LABEL_LINE if has_labels else 0) + _GAP
            self._tops.append(self._tops[-1] + thumb[1] + below)
        height = self._tops[-1] - _GAP + _MARGIN
        self.image = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self.image)

    @property
    def _legend_room(self) -> float:
        return _LEGEND_ROOM + _font(_FACTS).getlength(self._legend) if self._legend else 0

    def head(self, title: str, banner: str | None) -> None:
        right = self.image.width - _MARGIN
        if banner:
            banner, font = _fitted(banner, _BANNER, (right - _MARGIN) // 2)
            width = font.getlength(banner)
            box = (right - width - 36, _MARGIN, right, _MARGIN + 52)
            self._draw.rounded_rectangle(box, radius=10, fill=_AMBER)
            self._draw.text((right - 18, _MARGIN + 26), banner, _PAPER, font, "rm")
            right = int(box[0]) - _GAP
        title, font = _fitted(title, _TITLE, right - _MARGIN)
        self._draw.text((_MARGIN, _MARGIN + 26), title, _INK, font, "lm")
        for number, line in enumerate(self._facts):
            baseline = _MARGIN + 84 + _HEAD_LINE * number
            beside = 0 if number else self._legend_room
            facts, font = _fitted(line, _FACTS, self._room - beside)
            self._draw.text((_MARGIN, baseline), facts, _FAINT, font, "lm")
            if beside:
                left = _MARGIN + font.getlength(facts) + 40
                self._draw.rectangle((left, baseline - 10, left + 30, baseline + 9), None, _RED, 4)
                self._draw.text((left + 42, baseline), self._legend, _FAINT, font, "lm")

    def cell(
        self,
        place: int,
        picture: Image.Image,
        time: str,
        label: str,
        *,
        marked: bool,
        goes_on: bool,
    ) -> None:
        row, column = divmod(place, self._columns)
        width, height = self._thumb
        x = _MARGIN + column * (width + _GAP)
        y = self._tops[row]
        self.image.paste(picture, (x, y))
        if marked:
            box = (x - _OUTLINE, y - _OUTLINE, x + width + _OUTLINE - 1, y + height + _OUTLINE - 1)
            self._draw.rectangle(box, None, _RED, _OUTLINE)
        if goes_on and column < self._columns - 1:
            middle = y + height // 2
            self._draw.rectangle((x + width, middle - 3, x + width + _GAP, middle + 2), _RED)
        ink = _INK if marked else _FAINT
        self._draw.text((x, y + height + 20), time, ink, _font(_TIME), "lm")
        if label:
            label, font = _fitted(label, _LABEL, width + _GAP // 2)
            self._draw.text((x, y + height + 46), label, _RED, font, "lm")


def _lines(facts: Sequence[str], room: float, *, first: float) -> list[str]:
    """The facts beside each other, in lines of this room, the first of its own; none is broken."""
    lines = [facts[0]]
    for fact in facts[1:]:
        longer = f"{lines[-1]}   {fact}"
        if drawable(longer).sized(_FACTS).getlength(longer) <= (room if lines[1:] else first):
            lines[-1] = longer
        else:
            lines.append(fact)
    return lines


def _thumb_size(width: int, height: int) -> tuple[int, int]:
    shown = max(_THUMB_MIN_WIDTH, round((_THUMB_AREA * width / height) ** 0.5))
    return shown, max(1, round(shown * height / width))


def _font(size: int) -> ImageFont.FreeTypeFont:
    """For digits and the sheet's own words."""
    return drawable("").sized(size)


def _fitted(text: str, size: int, width: float) -> tuple[str, ImageFont.FreeTypeFont]:
    """The text and a font in which it is at most `width` pixels wide: smaller, then cut."""
    shown = drawable(text)
    text, length = shown.text, shown.sized(size).getlength(shown.text)
    font = shown.sized(size if length <= width else max(size * 2 // 3, int(size * width / length)))
    if font.getlength(text) <= width:
        return text, font
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}...", font


def _seconds(frame: int, fps: Fraction) -> str:
    return f"{float(frame / fps):.2f} s"


def _number(value: Fraction) -> str:
    return f"{float(value):.3f}".rstrip("0").rstrip(".")
