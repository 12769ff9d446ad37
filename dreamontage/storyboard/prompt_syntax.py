"""Time-stamped prompts as the paper writes them: "[0, 5] zoom in; [5, 10] he walks" (seconds).

`;` followed by `[` separates two spans; commas, semicolons and brackets may stand in a text
otherwise. A prompt that does not start with `[` is plain text and holds for the whole shot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from dreamontage.storyboard.errors import show

_NUMBER = r"\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}"
_MARK = re.compile(rf"\[\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\]")
_SEPARATOR = re.compile(r";\s*(?=\[)")


def parse(text: str) -> tuple[list[dict[str, object]], list[str]]:
    """The spans of a prompt, as mappings of start, end and text, and what is wrong with it."""
    text = text.strip()
    if not text:
        return [], []
    if not text.startswith("["):
        if _MARK.search(text):
            return [], ["has text before its first span; start with `[`, or use no spans"]
        return [{"text": text}], []
    spans: list[dict[str, object]] = []
    problems: list[str] = []
    for piece in map(str.strip, _SEPARATOR.split(text)):
        mark = _MARK.match(piece)
        if mark is None:
            problems.append(f"= {show(piece)} must start with a span such as [0, 5]")
            continue
        words = piece[mark.end() :].strip().rstrip(";").rstrip()
        if not words:
            problems.append(f"= {show(piece)} says nothing; leave the span out instead")
        elif inner := _MARK.search(words):
            problems.append(f"lacks a `;` before {show(inner[0])}")
        else:
            spans.append({"start": Decimal(mark[1]), "end": Decimal(mark[2]), "text": words})
    return spans, problems


def write(spans: Sequence[tuple[Fraction, Fraction, str]]) -> str:
    """The spans as one text; times to the hundredth of a second, without trailing zeros."""
    return "; ".join(f"[{_trim(start)}, {_trim(end)}] {text}" for start, end, text in spans)


def _trim(seconds: Fraction) -> str:
    whole, cents = divmod(round(seconds * 100), 100)
    return f"{whole}.{cents:02d}".rstrip("0").rstrip(".")
