"""The storyboard's scalar types: how each is read, written back, and described in JSON Schema.

Readers raise `ValueError` with a sentence that follows a field's name: "= 1e9 s is more than …".
"""

from __future__ import annotations

import math
import re
import unicodedata
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from dreamontage import timeline
from dreamontage.storyboard import prompt_syntax
from dreamontage.storyboard.errors import show

# Shots of a storyboard, and keyframes, clips and prompts of a shot: as many of each.
MAX_ENTRIES = 200
MAX_SHOT_SECONDS = 600
MAX_FPS = 120
MAX_FRAMES = MAX_SHOT_SECONDS * MAX_FPS
# A clip may be cut from a long recording.
MAX_SECONDS = 24 * 3600
# How many times its size a film may be enlarged by the super-resolution model.
SCALES = (1.5, 2.0, 2.25)

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})
SIZE_PATTERN = r"^\s*\d+\s*[x×]\s*\d+\s*$"

# What cameras and editors mean when they show these.
_NTSC = {
    Fraction(text): Fraction(1000 * whole, 1001)
    for whole, texts in {
        24: ("23.976", "23.98"),
        30: ("29.97",),
        48: ("47.952", "47.95"),
        60: ("59.94",),
        120: ("119.88",),
    }.items()
    for text in texts
}


# Aliases can repeat a value some ten thousand times, and making a fraction is slow.
_exact = lru_cache(maxsize=1024)(timeline.exact)


def read_seconds(value: object) -> Fraction:
    """Seconds from a number, with the precision of the decimal it is written as."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | Fraction):
        raise ValueError(f"must be a number of seconds, not {show(value)}")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise ValueError("must be a finite number of seconds")
    if value < 0:
        raise ValueError(f"= {show(_shown(value))} s lies before 0")
    if value > MAX_SECONDS:
        raise ValueError(f"= {show(_shown(value))} s is more than a day, {MAX_SECONDS} s")
    # By way of a float, so that what is dumped as a number reads back as the same fraction.
    return _exact(float(value))


def _shown(value: int | float | Decimal | Fraction) -> int | float:
    return value if isinstance(value, int | float) else float(value)


def _number(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


Seconds = Annotated[
    Fraction,
    PlainValidator(read_seconds),
    PlainSerializer(_number),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_SECONDS}),
]


def read_fps(value: object) -> Fraction:
    """A frame rate from a number or a text such as "24000/1001"; 23.976 and its like are NTSC's."""
    rule = 'must be a number of frames a second, such as 16, 23.976 or "24000/1001"'
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal | Fraction):
        raise ValueError(f"{rule}, not {show(value)}")
    if isinstance(value, str) and not re.fullmatch(r"\d{1,9}(/\d{1,9}|\.\d{1,9})?", value.strip()):
        raise ValueError(f"{rule}, not {show(value)}")
    try:
        fps = Fraction(str(value))
    except (ValueError, ZeroDivisionError):  # nan, inf, "24/0", an integer too long to print
        raise ValueError(rule) from None
    fps = _NTSC.get(fps, fps)
    if not 1 <= fps <= MAX_FPS:
        raise ValueError(f"= {show(value)} must lie between 1 and {MAX_FPS}")
    if fps.denominator > 1001:
        raise ValueError(f"= {show(value)} is no rate that a film can have; write it as a fraction")
    return fps


def _rate(fps: Fraction) -> int | str:
    return int(fps) if fps.denominator == 1 else str(fps)


FrameRate = Annotated[
    Fraction,
    PlainValidator(read_fps),
    PlainSerializer(_rate),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 1, "maximum": MAX_FPS},
                {"type": "string", "pattern": r"^\d+(/\d+|\.\d+)?$"},
            ]
        }
    ),
]


class Frames(BaseModel):
    """A length that is counted in frames."""

    model_config = ConfigDict(frozen=True)
    frames: int


def read_duration(value: object) -> Fraction | Frames:
    """A shot's length: seconds, or `{frames: 81}`, or "81f"."""
    rule = 'must be seconds, such as 10, or frames, such as {frames: 81} or "81f"'
    if isinstance(value, Frames):
        return value
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,9})\s*f\s*", value)
        if match is None:
            raise ValueError(f"{rule}, not {show(value)}")
        value = {"frames": int(match[1])}
    if isinstance(value, dict):
        frames = value.get("frames")
        if set(value) != {"frames"} or not isinstance(frames, int) or isinstance(frames, bool):
            raise ValueError(rule)
        if not 1 <= frames <= MAX_FRAMES:
            raise ValueError(f"= {show(frames)} frames must lie between 1 and {MAX_FRAMES}")
        return Frames(frames=frames)
    if not isinstance(value, int | float | Decimal | Fraction) or isinstance(value, bool):
        raise ValueError(f"{rule}, not {show(value)}")
    seconds = read_seconds(value)
    if seconds == 0:
        raise ValueError("= 0 s must be longer than that")
    if seconds > MAX_SHOT_SECONDS:
        raise ValueError(f"= {float(seconds)} s is longer than a shot may be, {MAX_SHOT_SECONDS} s")
    return seconds


def _duration(value: Fraction | Frames) -> int | float | dict[str, int]:
    return {"frames": value.frames} if isinstance(value, Frames) else _number(value)


Duration = Annotated[
    Fraction | Frames,
    PlainValidator(read_duration),
    PlainSerializer(_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SHOT_SECONDS},
                {"type": "string", "pattern": r"^\s*\d+\s*f\s*$"},
                {
                    "type": "object",
                    "properties": {
                        "frames": {"type": "integer", "minimum": 1, "maximum": MAX_FRAMES}
                    },
                    "required": ["frames"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


def read_scale(value: object) -> float:
    """How many times its size a film is to have."""
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if not is_number or value not in SCALES:
        scales = ", ".join(f"{scale:g}" for scale in SCALES)
        raise ValueError(f"= {show(value)} must be one of {scales}")
    return float(value)


Scale = Annotated[
    float, PlainValidator(read_scale), WithJsonSchema({"enum": [*map(float, SCALES)]})
]


class OrText:
    """Marks a field that may also be written as one text; a validator before it reads that."""

    def __init__(self, pattern: str = "") -> None:
        self.text = {"type": "string", "pattern": pattern} if pattern else {"type": "string"}

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [self.text, handler(schema)]}


def read_list(value: object) -> object:
    """A list of no more entries than there may be; none of a longer one is looked at."""
    if isinstance(value, list | tuple) and len(value) > MAX_ENTRIES:
        raise ValueError(f"has {len(value)} entries; at most {MAX_ENTRIES} are allowed")
    return value


def read_size(value: object) -> object:
    """A picture's size: "128x80", or a mapping of width and height."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d{1,9})\s*[x×]\s*(\d{1,9})\s*", value)
    if match is None:
        raise ValueError(f"must be a width and a height such as 128x80, not {show(value)}")
    return {"width": int(match[1]), "height": int(match[2])}


def read_prompts(value: object) -> object:
    """Prompts: a list of spans, or one text in the notation of `prompt_syntax.py`."""
    if not isinstance(value, str):
        return read_list(value)
    spans, problems = prompt_syntax.parse(value)
    if problems:
        raise PydanticCustomError("notation", "{text}", {"text": problems[0], "all": problems})
    return read_list(spans)


def tidy(value: object) -> object:
    """Text with its white space made single; control characters are refused."""
    if not isinstance(value, str):
        return value
    text = " ".join(value.split())
    if any(unicodedata.category(letter) == "Cc" for letter in text):
        raise ValueError("holds control characters")
    return text


def read_name(value: object) -> object:
    """A name that can stand in a file's."""
    if isinstance(value, str) and not re.fullmatch(_NAME, value):
        raise ValueError(
            f"= {show(value)} must be 1 to 64 letters, digits, dots, dashes and underscores, "
            "starting with a letter or digit: files are named for it"
        )
    return value


def read_path(value: object) -> object:
    """A path below, or beside, the storyboard's file."""
    if not isinstance(value, str):
        return value
    return _checked_path(value)


@lru_cache(maxsize=1024)
def _checked_path(value: str) -> str:
    if not value.strip() or len(value) > 1000 or not value.isprintable():
        raise ValueError(f"= {show(value)} is no path of a file")
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or "://" in value:
        raise ValueError(f"= {show(value)} must be relative to the storyboard's file")
    return value
