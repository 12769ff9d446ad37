"""ffmpeg's commands: what is read, what is written, which program, and why it failed.

ffmpeg-python is imported here alone. It has no types, so that its streams are `Any`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import imageio_ffmpeg

from dreamontage.media.guard import DEMUXER_OPTIONS

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


def video_input(path: Path) -> Any:
    """The file's first stream of moving pictures; "V" leaves out a cover, as music files have.

    "file:" makes the path nothing but a file: no option, no protocol.
    """
    return ffmpeg.input(f"file:{path.absolute()}", **DEMUXER_OPTIONS)["V"]


def frames_input(width: int, height: int, fps: Fraction) -> Any:
    """RGB frames of 8 bits that come through standard input."""
    return ffmpeg.input(
        "pipe:",
        format="rawvideo",
        pixel_format="rgb24",
        video_size=(width, height),
        framerate=str(fps),
    )


def output_command(
    stream: Any, out: Path | str, options: Mapping[str, object], *flags: str
) -> list[str]:
    """The command that writes a stream to `out`, a file or "pipe:", and replaces what is there."""
    output = ffmpeg.output(stream, str(out), **options)
    output = output.global_args("-v", "error", "-nostdin", *flags).overwrite_output()
    command: list[str] = output.compile(cmd=ffmpeg_binary())
    return command


def decode_command(
    stream: Any, out: Path | str, fps: Fraction, options: Mapping[str, object]
) -> list[str]:
    """The same for a user's video: a constant rate, no sound, an end at the first broken frame."""
    return output_command(stream, out, {**options, "r": str(fps), "an": None}, "-xerror")
