"""What is let in. Files come from users, and nothing that one says about itself is believed.

Only formats and containers that hold their own data are opened: a playlist that names other
files, or addresses, is not a video here.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from PIL import Image, UnidentifiedImageError

# Larger pictures are refused before they are decoded: a few kilobytes can claim gigapixels.
MAX_PIXELS = 80_000_000

# Pillow opens MPO, a phone's JPEG with more pictures behind the first, as a JPEG.
_IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM")

# For PyAV and ffmpeg alike; containers by the names of ffmpeg's demuxers.
DEMUXER_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mxf,ogg,flv,asf,"
    "gif,apng,yuv4mpegpipe",
}


def check_file(path: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty")


def check_pixels(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"{_too_large(path)}; this is {width}x{height}")


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open a still, its pixels not read yet.

    Raises `UnidentifiedImageError` when it is none, `ValueError` when it is one that must not,
    or cannot, be used.
    """
    check_file(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of what we refuse below, and of odd metadata, which we do not use.
            warnings.simplefilter("ignore")
            image = Image.open(path, formats=_IMAGE_FORMATS)
    except UnidentifiedImageError:
        raise
    except Image.DecompressionBombError:
        raise ValueError(_too_large(path)) from None
    except Exception as error:  # parsers of hostile bytes fail in every way there is
        raise ValueError(f"{path}: not a readable image ({reason(error)})") from None
    with image:
        check_pixels(path, image.width, image.height)
        if image.format == "WEBP" and is_animated(image):
            raise ValueError(f"{path}: an animated WebP cannot be read; save it as a video")
        yield image


def is_animated(image: Image.Image) -> bool:
    """Whether it moves. A phone's JPEG with a depth map or TIFF pages are several, but still."""
    return image.format in ("GIF", "PNG", "WEBP") and getattr(image, "n_frames", 1) > 1


@contextmanager
def open_video(path: Path) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Open a video at its first stream of moving pictures: not a cover, as music files have.

    Raises `ValueError` when there is none, or when reading it fails within the block.
    """
    check_file(path)
    try:
        with av.open(str(path.absolute()), options=DEMUXER_OPTIONS) as container:
            cover = av.stream.Disposition.attached_pic
            streams = [s for s in container.streams.video if not s.disposition & cover]
            if not streams:
                raise ValueError(f"{path}: holds no video")
            yield container, streams[0]
    except av.error.FFmpegError:
        raise ValueError(f"{path}: neither an image nor a video that can be read") from None


def reason(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _too_large(path: Path) -> str:
    return f"{path}: a picture may have at most {MAX_PIXELS // 1_000_000} million pixels"
