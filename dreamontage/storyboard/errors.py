"""What is wrong with a user's file: one fault a field, all of them in one error."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

_LONGEST = 60
_DIGITS = re.compile(r"([0-9]+)").split
# Python refuses to print integers of more than some thousand digits.
_HUGE = 10**18


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """A field by its path, such as `shots[1].keyframes[0].at`, and the rule that it breaks."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field} {self.message}" if self.field else self.message

    def sort_key(self) -> list[tuple[int, str]]:
        """A key that sorts faults by field, `shots[2]` before `shots[10]`."""
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS(self.field)]

    def prefixed(self, prefix: str) -> FieldError:
        """The same error, with a longer path to its field."""
        return FieldError(field=f"{prefix}{self.field}", message=self.message)


class StoryboardError(ValueError):
    """A storyboard, or a matrix of variants, that cannot be used; `faults` holds every reason."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        assert self.errors
        super().__init__("\n".join(map(str, self.errors)))


def show(value: object) -> str:
    """A value as it may stand in a message: short, printable, containers by kind only."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if isinstance(value, int) and abs(value) > _HUGE:
        return "a huge number"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        text = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
        return ascii(text) if not text.isprintable() else f"'{text}'"
    if isinstance(value, list | tuple):
        return "a list"
    return "a mapping" if isinstance(value, dict) else f"a {type(value).__name__}"


def show_seconds(seconds: Fraction) -> str:
    return f"{round(float(seconds), 6)} s"


def show_path(parts: Iterable[str | int]) -> str:
    """A path of keys and indices, as one writes it: `shots[1].keyframes[0].at`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if len(part) <= _LONGEST else part[: _LONGEST - 1] + "…"
            name = name if name.isprintable() and name else ascii(name)
            text += f".{name}" if text else name
    return text
