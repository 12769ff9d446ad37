"""A video's frames one by one are those that a file of them would hold."""

from __future__ import annotations

from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dreamontage import media
from dreamontage.timeline import frame_at
from tests.support.media import UPRIGHT, corners, counter, numbers, quarters, run_ffmpeg, video_of

SIZE: dict[str, Any] = {"width": 64, "height": 48, "fps": Fraction(16)}
H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "12")


def stream(path: Path, **options: Any) -> list[np.ndarray]:
    return list(media.stream_clip(path, media.probe(path), **{**SIZE, "fit": "crop"} | options))


@pytest.mark.parametrize("fps", ["16", "25", "60"])
def test_streamed_frames_are_the_ingested_ones(fps: str, tmp_path: Path) -> None:
    path = video_of(counter(40), tmp_path / "a.mp4", *H264, fps=fps)
    film = media.ingest_clip(path, out=tmp_path / "a.mkv", fit="crop", **SIZE)
    frames = stream(path)
    assert np.array_equal(np.stack(frames), np.stack(list(media.read_frames(film))))
    half = stream(path, end=Fraction(20) / Fraction(fps))
    assert np.array_equal(np.stack(half), np.stack(frames[: len(half)]))
    assert len(half) == frame_at(Fraction(20) / Fraction(fps), SIZE["fps"])


def test_whoever_stops_early_leaves_no_process(tmp_path: Path) -> None:
    path = video_of(counter(60), tmp_path / "a.mp4", *H264)
    frames = media.stream_clip(path, media.probe(path), fit="crop", **SIZE)
    assert numbers(np.stack([next(frames), next(frames)])) == [0, 1]
    assert [child for child in psutil.Process().children() if "ffmpeg" in child.name()]
    assert isinstance(frames, Generator)
    frames.close()
    assert not [child for child in psutil.Process().children() if "ffmpeg" in child.name()]


def test_a_truncated_video_is_reported_after_its_frames(tmp_path: Path) -> None:
    path = video_of(
        np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8),
        tmp_path / "a.mp4",
        *H264,
        "-g",
        "10",
    )
    info = media.probe(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) * 2 // 3] = bytes(len(data) * 2 // 3 - len(data) // 3)
    path.write_bytes(data)
    frames = media.stream_clip(path, info, fit="crop", **SIZE)
    seen = [next(frames)]
    with pytest.raises(ValueError, match=r"a\.mp4: the video (cannot be decoded|ends sooner)"):
        seen += frames
    assert len(seen) < 40


def test_samples_are_the_videos_own_pictures_upright(tmp_path: Path) -> None:
    still = np.repeat(quarters(80, 48)[None], 30, 0)
    lying = video_of(np.rot90(still, 1, (1, 2)), tmp_path / "lying.mp4", *H264, "-g", "5")
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", "-90", "-i", lying, "-c", "copy", turned)
    samples = media.sample_pictures(turned, media.probe(turned), 4)
    assert [picture.shape for picture in samples] == [(48, 80, 3)] * 4
    assert all(corners(picture) == UPRIGHT for picture in samples)
