"""Frames to files, streamed: a lossless mezzanine, or the H.264 film that is delivered."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
import numpy.typing as npt

from dreamontage.files import replacing
from dreamontage.media.clips import FFV1, read_frames
from dreamontage.media.process import BITEXACT, frames_input, last_lines, output_command

_H264 = {
    **BITEXACT,
    "vcodec": "libx264",
    "preset": "medium",
    "crf": 16,
    "pix_fmt": "yuv420p",
    "profile:v": "high",
    # x264's output depends on how many threads it has; the machine must not decide that.
    "threads": 4,
    "movflags": "+faststart",
    "f": "mp4",
}
_TO_BT709 = {
    "out_color_matrix": "bt709",
    "out_range": "limited",
    "flags": "lanczos+accurate_rnd+full_chroma_inp+bitexact",
}
# Tags go on the frames: on the output alone they would be taken back from what frames say.
_BT709_TAGS = {
    "colorspace": "bt709",
    "color_primaries": "bt709",
    "color_trc": "bt709",
    "range": "limited",
}
_KEYFRAME_SECONDS = 2


class Profile(StrEnum):
    """What a film is encoded for."""

    MEZZANINE = "mezzanine"  # FFV1 in Matroska: our own files, the frames bit for bit
    H264 = "h264"  # MP4 that plays everywhere: yuv420p, BT.709, the index at the front


class Encoder:
    """Write a film frame by frame:

        with Encoder(out, width=128, height=80, fps=Fraction(16)) as encoder:
            for frames_THWC in decoded:
                encoder.write(frames_THWC)

    `out` appears, whole, when the block ends well, and not otherwise. Frame count and duration
    are exact. Raises `ValueError` for frames of another shape and for a film of none,
    `RuntimeError` with ffmpeg's last words when that fails.
    """

    def __init__(
        self,
        out: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        profile: Profile | str = Profile.H264,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.frames = 0
        self._profile = Profile(profile)
        if self._profile is Profile.H264 and (width % 2 or height % 2):
            raise ValueError(f"size = {width}x{height}: an H.264 film needs even sides")
        self._shape = (height, width, 3)
        self._out = out
        self._fps = fps
        self._metadata = dict(metadata or {})
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            temporary = opening.enter_context(replacing(self._out))
            # A file, not a pipe: ffmpeg can never block on what nobody reads.
            self._stderr: IO[bytes] = opening.enter_context(tempfile.TemporaryFile())
            self._process = subprocess.Popen(
                self._command(temporary),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
            )
            self._cleanup = opening.pop_all()
        return self

    def write(self, frames: npt.NDArray[np.uint8]) -> None:
        """Add a frame (`frame_HWC`) or several (`frames_THWC`)."""
        frames_THWC = frames[None] if frames.ndim == 3 else frames
        if frames_THWC.shape[1:] != self._shape or frames_THWC.dtype != np.uint8:
            height, width, _ = self._shape
            raise ValueError(
                f"frames = {frames.dtype} of shape {frames.shape}: this film takes uint8 RGB of "
                f"{height} rows and {width} columns"
            )
        assert self._process.stdin is not None
        try:
            for frame_HWC in frames_THWC:
                self._process.stdin.write(np.ascontiguousarray(frame_HWC).data)
                self.frames += 1
        except BrokenPipeError:
            self._process.wait()
            raise self._failure() from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
            self._end()
            self._cleanup.__exit__(kind, error, traceback)
            return
        with self._cleanup:
            if self._end():
                raise self._failure()
            if not self.frames:
                raise ValueError(f"{self._out.name}: a film needs at least one frame")

    def _end(self) -> int:
        """Tell ffmpeg that there is no more, and wait until it is done."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        return self._process.wait()

    def _failure(self) -> RuntimeError:
        self._stderr.seek(0)
        message = last_lines(self._stderr.read().decode(errors="replace"))
        return RuntimeError(f"ffmpeg could not write {self._out.name}: {message}")

    def _command(self, temporary: Path) -> list[str]:
        height, width, _ = self._shape
        frames = frames_input(width, height, self._fps)
        # An option that repeats takes a stream specifier to tell its uses apart: "g" is the file.
        metadata = {
            f"metadata:g:{index}": f"{key}={value}"
            for index, (key, value) in enumerate(self._metadata.items())
        }
        if self._profile is Profile.MEZZANINE:
            options = {**FFV1, **metadata}
        else:
            frames = frames.filter("scale", **_TO_BT709).filter("format", "yuv420p")
            frames = frames.filter("setparams", **_BT709_TAGS)
            options = {**_H264, **metadata, "g": max(1, round(_KEYFRAME_SECONDS * self._fps))}
        return output_command(frames, temporary, options)


def concat(
    mezzanines: Sequence[Path],
    out: Path,
    *,
    fps: Fraction,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Join films of one size into one H.264 film, frame after frame, encoded once.

    Timestamps come from the frames' order alone, so nothing is rounded where two films meet.
    Raises `ValueError` when the sizes differ.
    """
    if not mezzanines:
        raise ValueError("mezzanines = []: a film needs at least one shot")
    height, width, _ = next(read_frames(mezzanines[0])).shape
    with Encoder(out, width=width, height=height, fps=fps, metadata=metadata) as encoder:
        for mezzanine in mezzanines:
            for frame_HWC in read_frames(mezzanine):
                if frame_HWC.shape != (height, width, 3):
                    found = f"{frame_HWC.shape[1]}x{frame_HWC.shape[0]}"
                    raise ValueError(f"{mezzanine}: is {found}, the film is {width}x{height}")
                encoder.write(frame_HWC)
    return out
