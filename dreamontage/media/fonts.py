"""A font for any text: Pillow's own where it has the letters, else one of the system's."""

from __future__ import annotations

import functools
import itertools
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

_PLACES = {
    "darwin": ("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts"),
    "win32": ("C:/Windows/Fonts",),
}.get(
    sys.platform,
    ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
)
_KINDS = {".ttf", ".otf", ".ttc"}
_MOST = 1000  # fonts that are looked into for one text
# A plain sans is looked for first; these are its cuts, or other styles.
_STYLED = ("bold", "italic", "oblique", "light", "thin", "black", "condensed", "mono", "serif")
_LOOKED_AT = 32  # pixels: large enough that no two letters look alike
_UNASSIGNED = "\U0010ffff"  # no font has it, so it is drawn as what is missing is


@dataclass(frozen=True)
class Drawable:
    """A text, and the font that has its letters; what none has is "?" there."""

    text: str
    missing: bool
    font: Path | None = None  # None: Pillow's own

    def sized(self, size: int) -> ImageFont.FreeTypeFont:
        return _open(self.font, size)


@functools.lru_cache(maxsize=64)
def drawable(text: str) -> Drawable:
    """The text in Pillow's font if that has its letters, else in the first system font that has.

    Where none has them all, in the one with the fewest missing.
    """
    best: Drawable | None = None
    fewest = len(text) + 1
    for font in itertools.chain([None], itertools.islice(_installed(), _MOST)):
        try:
            missing = _missing(_open(font, _LOOKED_AT), text)
        except OSError:  # a file that is no font, whatever it is called
            continue
        if len(missing) < fewest:
            fewest = len(missing)
            shown = "".join("?" if letter in missing else letter for letter in text)
            best = Drawable(text=shown, missing=bool(missing), font=font)
        if not missing:
            break
    assert best is not None, "Pillow has a font"
    return best


def _missing(font: ImageFont.FreeTypeFont, text: str) -> set[str]:
    absent = _drawn(font, _UNASSIGNED)
    return {
        letter
        for letter in set(text)
        # White space and marks that join others draw nothing of their own.
        if unicodedata.category(letter)[0] not in "ZCM" and _drawn(font, letter) == absent
    }


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def _installed() -> Iterator[Path]:
    """The system's fonts, plain sans ones first, otherwise in order of their names."""
    found = {
        path
        for place in _PLACES
        for path in Path(place).expanduser().rglob("*")
        if path.suffix.lower() in _KINDS
    }

    def rank(path: Path) -> tuple[bool, bool, str]:
        name = path.stem.lower()
        return any(style in name for style in _STYLED), "sans" not in name, str(path)

    return iter(sorted(found, key=rank))


@functools.lru_cache(maxsize=64)
def _open(path: Path | None, size: int) -> ImageFont.FreeTypeFont:
    if path is not None:
        return ImageFont.truetype(path, size)
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels have FreeType
    return font
