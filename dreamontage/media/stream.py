"""Looking into videos without writing anything: their frames as a film would have them, and some
of their own pictures as they are."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dreamontage.media.clips import film_graph
from dreamontage.media.fit import Fit
from dreamontage.media.guard import open_video
from dreamontage.media.probe import MediaInfo
from dreamontage.media.process import decode_command, first_line
from dreamontage.timeline import Seconds


def stream_clip(
    path: Path,
    info: MediaInfo,
    *,
    width: int,
    height: int,
    fps: Fraction,
    fit: Fit,
    end: Seconds | None = None,
) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames that `ingest_clip` would write, `frame_HWC` each, without a file between.

    `info` is what `probe` found. One frame is in memory at a time, and whoever stops early stops
    ffmpeg. Raises `ValueError` as `ingest_clip` does, after the frames that could be decoded.
    """
    framed, count = film_graph(
        path, info, width=width, height=height, fps=fps, fit=fit, start=None, end=end
    )
    command = decode_command(framed, "pipe:", fps, {"format": "rawvideo", "pix_fmt": "rgb24"})
    size = width * height * 3
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, bufsize=size
        )
        try:
            assert process.stdout is not None
            for _ in range(count):
                data = process.stdout.read(size)
                if len(data) < size:
                    break
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            else:
                return  # what comes after the last frame is nobody's concern
            if process.wait():
                stderr.seek(0)
                message = first_line(stderr.read().decode(errors="replace"))
                raise ValueError(f"{path}: the video cannot be decoded ({message})")
            raise ValueError(f"{path}: the video ends sooner than its header says")
        finally:
            process.kill()
            process.communicate()


def sample_pictures(path: Path, info: MediaInfo, most: int) -> list[npt.NDArray[np.uint8]]:
    """At most `most` of the video's own pictures, `image_HWC`, upright and otherwise as they are.

    Pictures that stand alone in the stream, evenly chosen: what a codec did to them still shows.
    Raises `ValueError` when the video cannot be decoded.
    """
    with open_video(path) as (container, stream):
        times = [
            packet.pts
            for packet in container.demux(stream)
            if packet.is_keyframe and packet.size and packet.pts is not None
        ]
    chosen = {times[round(place)] for place in np.linspace(0, len(times) - 1, most) if times}
    pictures = []
    with open_video(path) as (container, stream):
        stream.codec_context.skip_frame = "NONKEY"
        for frame in container.decode(stream):
            if not times or frame.pts in chosen:
                picture_HWC = frame.to_ndarray(format="rgb24")
                pictures.append(np.ascontiguousarray(np.rot90(picture_HWC, -info.rotation // 90)))
            if len(pictures) == most:
                break
    return pictures
