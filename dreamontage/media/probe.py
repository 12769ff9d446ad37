"""What a file is: read with Pillow for stills and PyAV for videos, trusting no header alone."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

from dreamontage.media.guard import check_pixels, is_animated, open_image, open_video

_MIRRORED_OR_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_ORIENTATION = 0x0112
_EXIF_DEGREES = {3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}

# Presentation times are rounded to the container's clock, a millisecond at the coarsest usual.
_JITTER = Fraction(3, 2000)

# Containers whose header says how long the whole is; for others ffmpeg guesses by the bit rate.
_FORMATS_WITH_DURATION = ("mov", "matroska", "avi")

# 30 and 30000/1001 are a thousandth apart; a header that is off by more is wrong.
_RATE_TOLERANCE = Fraction(1, 2000)

# ISO 23091-2's colour codes, as ffmpeg's filters call them. 2 stands for "unspecified".
_MATRIX = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc", 10: "bt2020c"}
_FULL = 2  # ffmpeg's code for full range; what is untagged is limited
_TRANSFER = {16: "smpte2084", 18: "arib-std-b67"}  # those that mean HDR: PQ and HLG


class MediaKind(StrEnum):
    """What a file can be a condition as."""

    IMAGE = "image"  # a keyframe
    VIDEO = "video"  # a clip


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """A file's facts. Sizes are as shown: after rotation, in square pixels.

    For a video: `frames` counted, `fps` its mean rate, `duration` in seconds from its first
    frame's start to its last one's end; None for an image. `rotation` is in degrees, clockwise,
    a multiple of 90. `matrix` and `transfer` are ffmpeg's names, None where the file does not
    say (for `transfer`: or where it is an ordinary one, not PQ or HLG).
    """

    kind: MediaKind
    format: str
    width: int
    height: int
    pixel_format: str
    has_alpha: bool
    rotation: int = 0
    frames: int | None = None
    fps: Fraction | None = None
    duration: Fraction | None = None
    vfr: bool = False
    full_range: bool = True
    matrix: str | None = None
    transfer: str | None = None
    interlaced: bool = False
    has_audio: bool = False

    def to_json(self) -> dict[str, str | int | float | bool | None]:
        """The same for a JSON column: the rate as "24000/1001", the duration as a float."""
        fps = None if self.fps is None else str(self.fps)
        duration = None if self.duration is None else float(self.duration)
        return {**asdict(self), "kind": str(self.kind), "fps": fps, "duration": duration}


def probe(path: Path) -> MediaInfo:
    """What the file is. A video is read through once, without decoding more than a frame.

    An animated GIF or PNG is a video. Raises `ValueError` for what is missing, empty, cut
    short, too large, or neither an image nor a video.
    """
    try:
        with open_image(path) as image:
            if not is_animated(image):
                return _image_info(path, image)
    except UnidentifiedImageError:
        pass
    return _probe_video(path)


def _image_info(path: Path, image: Image.Image) -> MediaInfo:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # metadata that cannot be read says nothing
        orientation = 1
    width, height = image.size
    if orientation in _MIRRORED_OR_TURNED:
        width, height = height, width
    return MediaInfo(
        kind=MediaKind.IMAGE,
        format=(image.format or "").lower(),
        width=width,
        height=height,
        pixel_format=image.mode,
        has_alpha=image.has_transparency_data,
        rotation=_EXIF_DEGREES.get(orientation, 0),
    )


def _probe_video(path: Path) -> MediaInfo:
    frame = _first_frame(path)
    with open_video(path) as (container, stream):
        starts, last_length = _times(path, container, stream)
        gaps = [later - sooner for sooner, later in pairwise(starts)]
        last_length = last_length or (max(gaps) if gaps else 1 / _declared_rate(stream))
        duration = starts[-1] - starts[0] + last_length
        vfr = bool(gaps) and max(gaps) - min(gaps) > _JITTER
        square = Fraction(stream.sample_aspect_ratio or 1)
        width, height = max(1, round(frame.width * square)), frame.height
        rotation = -frame.rotation % 360
        if rotation % 180 == 90:
            width, height = height, width
        check_pixels(path, width, height)
        kind = frame.format
        return MediaInfo(
            kind=MediaKind.VIDEO,
            format=container.format.name,
            width=width,
            height=height,
            pixel_format=kind.name,
            has_alpha=kind.has_palette or any(part.is_alpha for part in kind.components),
            rotation=rotation,
            frames=len(starts),
            fps=_rate(stream, starts, duration, vfr),
            duration=duration,
            vfr=vfr,
            full_range=kind.is_rgb or kind.name.startswith("yuvj") or frame.color_range == _FULL,
            matrix=None if kind.is_rgb else _MATRIX.get(int(frame.colorspace)),
            transfer=_TRANSFER.get(int(frame.color_trc)),
            interlaced=frame.interlaced_frame,
            has_audio=bool(container.streams.audio),
        )


def _first_frame(path: Path) -> av.VideoFrame:
    with open_video(path) as (container, stream):
        check_pixels(path, stream.codec_context.width, stream.codec_context.height)
        for frame in container.decode(stream):
            return frame
    raise ValueError(f"{path}: holds no video frame")


def _times(
    path: Path, container: av.container.InputContainer, stream: av.VideoStream
) -> tuple[list[Fraction], Fraction]:
    """When the video's frames begin, in order, and how long the last one lasts (0: not said).

    Reads the file through, so that one that was cut short is found out.
    """
    size = path.stat().st_size
    truncated = any(entry.pos + entry.size > size for entry in stream.index_entries)
    shown = []
    end = Fraction(0)
    for packet in container.demux():
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or not packet.size:
            continue
        start, length = time * packet.time_base, (packet.duration or 0) * packet.time_base
        end = max(end, start + length)
        if packet.stream.index == stream.index and not packet.is_discard:
            shown.append((start, length))
    if not shown:
        raise ValueError(f"{path}: holds no video frame")
    if container.duration and container.format.name.startswith(_FORMATS_WITH_DURATION):
        declared = Fraction(container.duration, av.time_base)
        truncated = truncated or end < declared * Fraction(9, 10) - Fraction(1, 5)
    if truncated:
        raise ValueError(f"{path}: the file is cut short; its header promises more than it holds")
    shown.sort()
    return [start for start, _ in shown], shown[-1][1]


def _rate(
    stream: av.VideoStream, starts: list[Fraction], duration: Fraction, vfr: bool
) -> Fraction:
    """The mean rate, as an exact fraction where the header's agrees with the times."""
    if vfr:
        return len(starts) / duration
    declared = _declared_rate(stream)
    if len(starts) == 1:
        return declared
    span = starts[-1] - starts[0]
    off = abs((len(starts) - 1) / declared - span)
    return declared if off <= max(_JITTER, span * _RATE_TOLERANCE) else (len(starts) - 1) / span


def _declared_rate(stream: av.VideoStream) -> Fraction:
    return Fraction(stream.average_rate or stream.guessed_rate or 25)
