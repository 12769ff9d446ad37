"""Finding ffmpeg, saying why it failed, and files that appear whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import imageio_ffmpeg

# Same input, same bytes: no encoder version, date or random id in the file.
BITEXACT = {"fflags": "+bitexact", "flags:v": "+bitexact", "map_metadata": "-1"}

_NOISE = re.compile(r"^(\[[^\]]*@ 0x[0-9a-f]+\]\s*)+")
_TAIL_LINES = 8


def ffmpeg_binary() -> str:
    """The ffmpeg to run: `DREAMONTAGE_FFMPEG` where set, else the one in imageio-ffmpeg's wheel."""
    chosen = os.environ.get("DREAMONTAGE_FFMPEG")
    if chosen and shutil.which(chosen) is None:
        raise ValueError(f"DREAMONTAGE_FFMPEG = {chosen} is not a program that can be run")
    return chosen or str(imageio_ffmpeg.get_ffmpeg_exe())


def last_lines(stderr: str) -> str:
    """The end of what ffmpeg said, on one line, without its memory addresses."""
    return "; ".join(_message_lines(stderr)[-_TAIL_LINES:])


def first_line(stderr: str) -> str:
    """The first of what ffmpeg said: the cause, before what followed from it."""
    return _message_lines(stderr)[0]


def _message_lines(stderr: str) -> list[str]:
    lines = [_NOISE.sub("", line).strip() for line in stderr.splitlines()]
    return list(dict.fromkeys(line for line in lines if line)) or ["ffmpeg gave no reason"]


def as_input(path: Path) -> str:
    """A path that ffmpeg can take for nothing but a file: no option, no protocol."""
    return f"file:{path.absolute()}"
