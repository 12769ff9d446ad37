"""Clips: whatever a camera or an editor wrote -> lossless frames at the film's size and rate."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dreamontage.files import replacing
from dreamontage.media.fit import Fit, lay_out
from dreamontage.media.guard import open_video
from dreamontage.media.probe import MediaInfo, MediaKind, probe
from dreamontage.media.process import BITEXACT, decode_command, first_line, video_input
from dreamontage.timeline import Seconds, exact, frame_at

# Lossless RGB, every frame on its own. Slices and threads are fixed: FFV1 else cuts the picture
# by the number of cores, and the bytes would tell which machine wrote them.
FFV1 = {
    **BITEXACT,
    "vcodec": "ffv1",
    "pix_fmt": "bgr0",
    "level": 3,
    "slices": 4,
    "slicecrc": 1,
    "g": 1,
    "threads": 1,
    "f": "matroska",
}
_EXACT_SCALING = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
_HD_LINES = 720
_SPARE_FRAMES = 3
# A container that counts milliseconds tells a time up to one too late, and we ask on the dot.
_JITTER_MICROSECONDS = 2000


def ingest_clip(
    path: Path,
    *,
    width: int,
    height: int,
    fps: Fraction,
    fit: Fit,
    start: Seconds | None = None,
    end: Seconds | None = None,
    out: Path,
) -> Path:
    """Write the video from `start` to `end` (its own seconds) as lossless RGB at `fps` to `out`.

    Rotation, pixel aspect, colour matrix and range, interlacing and HDR (PQ, HLG) are brought
    to upright progressive sRGB. Output frame n is what is on screen at n / fps seconds, begun by
    then or within 2 ms, so a variable rate becomes a constant one without a drift. What is
    transparent lies over black; sound is left out. The same file gives the same bytes.

    Raises `ValueError` for what is no video or is broken, and for `in`/`out` times (as a
    storyboard calls them) that the video does not have.
    """
    framed, count = film_graph(
        path, probe(path), width=width, height=height, fps=fps, fit=fit, start=start, end=end
    )
    with replacing(out) as temporary:
        done = subprocess.run(
            decode_command(framed, temporary, fps, FFV1),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise ValueError(f"{path}: the video cannot be decoded ({first_line(done.stderr)})")
        if frame_count(temporary) != count:
            raise ValueError(f"{path}: the video ends sooner than its header says")
    return out


def frame_count(path: Path) -> int:
    """How many frames the film at `path` has; counted, not taken from its header."""
    with open_video(path) as (container, stream):
        return sum(packet.size > 0 for packet in container.demux(stream))


def read_frames(
    path: Path, first: int = 0, count: int | None = None
) -> Iterator[npt.NDArray[np.uint8]]:
    """The film's frames from `first` on, `frame_HWC` each; `count` of them, or all.

    One frame is in memory at a time. Raises `ValueError` when the film ends before them.
    """
    assert first >= 0
    stop = None if count is None else first + count
    index = 0
    with open_video(path) as (container, stream):
        for frame in container.decode(stream):
            if index == stop:
                return
            if index >= first:
                yield frame.to_ndarray(format="rgb24")
            index += 1
    if index < (first if stop is None else stop):
        raise ValueError(f"{path}: has {index} frames, not the {stop or first} that are asked for")


def film_graph(
    path: Path,
    info: MediaInfo,
    *,
    width: int,
    height: int,
    fps: Fraction,
    fit: Fit,
    start: Seconds | None,
    end: Seconds | None,
) -> tuple[Any, int]:
    """ffmpeg's filters from the file to frames of the film's size and rate, and how many."""
    if info.kind is not MediaKind.VIDEO:
        raise ValueError(f"{path}: is a still; a clip needs a video, so give it as a keyframe")
    first, count = _cut(path, info, fps, start, end)
    frames = _retime(video_input(path), fps, first, count, interlaced=info.interlaced)
    return _frame(_to_rgb(frames, info), info, width, height, fit), count


def _cut(
    path: Path, info: MediaInfo, fps: Fraction, start: Seconds | None, end: Seconds | None
) -> tuple[int, int]:
    """The first frame at `fps`, and how many: as many as the storyboard's rules count."""
    assert info.duration is not None
    begin = Fraction(0) if start is None else exact(start)
    stop = info.duration if end is None else exact(end)
    length = float(info.duration)
    if not 0 <= begin < info.duration:
        raise ValueError(f"{path}: in = {float(begin)} s is not within the video's {length:.3f} s")
    if stop <= begin:
        raise ValueError(f"{path}: out = {float(stop)} s must lie after in, {float(begin)} s")
    # An `out` written to milliseconds may stand past the true end by less than a frame.
    if stop > info.duration + 1 / fps:
        raise ValueError(f"{path}: out = {float(stop)} s lies past the video's end, {length:.3f} s")
    return frame_at(begin, fps), max(1, frame_at(stop - begin, fps))


def _retime(stream: Any, fps: Fraction, first: int, count: int, *, interlaced: bool) -> Any:
    if interlaced:
        stream = stream.filter("bwdif", mode="send_frame")
    return (
        stream.filter("settb", "1/1000000")
        # "up" holds a frame until the next one begins; "near" would show that one too soon.
        .setpts(f"PTS-STARTPTS-{_JITTER_MICROSECONDS}")
        .filter("fps", fps=str(fps), round="up")
        # Where rounding asks for a frame more than there is, the last one is shown a little longer.
        .filter("tpad", stop_mode="clone", stop=_SPARE_FRAMES)
        .trim(start_frame=first, end_frame=first + count)
        .setpts("PTS-STARTPTS")
    )


def _to_rgb(stream: Any, info: MediaInfo) -> Any:
    """To full-range 8-bit RGB at the source's own size, where the size must wait for it."""
    if info.transfer:
        # Light, not code values, is what tone mapping works on. 100 nits: SDR's white.
        return (
            stream.filter("setparams", colorspace=info.matrix or "bt2020nc")
            .filter("setparams", color_primaries="bt2020", color_trc=info.transfer)
            .filter("zscale", transfer="linear", npl=100)
            .filter("format", "gbrpf32le")
            .filter("zscale", primaries="bt709")
            .filter("tonemap", tonemap="hable", desat=0)
            .filter("zscale", transfer="iec61966-2-1", range="full")
            .filter("format", "gbrp")
        )
    if info.has_alpha:
        return (
            stream.filter("scale", **_colour(info))
            .filter("format", "gbrap")
            .filter("premultiply", inplace=1)
            .filter("format", "gbrp")
        )
    return stream


def _colour(info: MediaInfo) -> dict[str, str]:
    """How to read the source's YUV; untagged, by the convention of players: HD is BT.709."""
    if info.pixel_format.startswith(("rgb", "bgr", "gbr", "argb", "abgr", "pal", "0rgb", "x2")):
        return {"flags": _EXACT_SCALING}
    untagged = "bt709" if info.height >= _HD_LINES else "smpte170m"
    matrix = info.matrix or untagged
    return {
        "flags": _EXACT_SCALING,
        "in_color_matrix": "bt2020" if matrix.startswith("bt2020") else matrix,
        "in_range": "full" if info.full_range else "limited",
        "out_range": "full",
    }


def _frame(stream: Any, info: MediaInfo, width: int, height: int, fit: Fit) -> Any:
    layout = lay_out(source=(info.width, info.height), frame=(width, height), fit=fit)
    already_rgb = bool(info.transfer) or info.has_alpha
    colour = {"flags": _EXACT_SCALING} if already_rgb else _colour(info)
    stream = stream.filter("scale", layout.scaled_width, layout.scaled_height, **colour).filter(
        "format", "bgr0"
    )
    if fit == "crop":
        stream = stream.filter("crop", width, height, -layout.x, -layout.y)
    else:
        stream = stream.filter("pad", width, height, layout.x, layout.y, color="black")
    return stream.filter("setsar", 1)
