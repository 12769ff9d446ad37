"""Films are written to the frame, stream as they are written, and fail in words."""

import stat
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dreamontage import media
from tests.support.media import counter, numbers, quarters, sha256

RATES = [Fraction(16), Fraction(24), Fraction(24000, 1001), Fraction(30)]
COUNTS = [*range(1, 11), 37, 81]


def noise(frames: int, width: int = 64, height: int = 48) -> np.ndarray:
    shape = (frames, height, width, 3)
    return np.random.default_rng(frames).integers(0, 255, shape, dtype=np.uint8)


def write(path: Path, frames_THWC: np.ndarray, fps: Fraction, **options: Any) -> Path:
    _, height, width, _ = frames_THWC.shape
    with media.Encoder(path, width=width, height=height, fps=fps, **options) as encoder:
        encoder.write(frames_THWC)
    return path


def write_all(path: Path, parts: Iterable[np.ndarray]) -> None:
    parts = iter(parts)
    first_THWC = next(parts)
    _, height, width, _ = first_THWC.shape
    with media.Encoder(path, width=width, height=height, fps=Fraction(16)) as encoder:
        encoder.write(first_THWC)
        for frames_THWC in parts:
            encoder.write(frames_THWC)


@pytest.mark.parametrize("fps", RATES, ids=str)
def test_frame_count_and_duration_are_exact(fps: Fraction, tmp_path: Path) -> None:
    for count in COUNTS:
        path = write(tmp_path / f"{count}.mp4", noise(count), fps)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.duration * stream.time_base == count / fps
            assert stream.average_rate == fps
            shown = [frame.pts * stream.time_base for frame in container.decode(stream)]
        assert shown == [n / fps for n in range(count)]


def test_a_film_is_fit_for_every_player(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", noise(20), Fraction(16))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert container.streams.video[0].codec_context.name == "h264"
        assert frame.format.name == "yuv420p"
        # ISO 23091-2: 1 is BT.709, and ffmpeg's range 1 is limited.
        tags = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
        assert [int(tag) for tag in tags] == [1, 1, 1, 1]
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat")


def test_colours_come_back_as_they_went_in(tmp_path: Path) -> None:
    frames_THWC = np.broadcast_to(quarters(96, 64), (6, 64, 96, 3)).copy()
    path = write(tmp_path / "a.mp4", frames_THWC, Fraction(16))
    result = np.stack(list(media.read_frames(path))).astype(int)
    for y, x in ((16, 24), (16, 72), (48, 24), (48, 72)):
        assert np.abs(result[:, y, x] - frames_THWC[:, y, x]).max() <= 3


def test_the_mezzanine_is_lossless(tmp_path: Path) -> None:
    frames_THWC = noise(9)
    path = write(
        tmp_path / "a.mkv", frames_THWC, Fraction(24000, 1001), profile=media.Profile.MEZZANINE
    )
    assert np.array_equal(np.stack(list(media.read_frames(path))), frames_THWC)
    assert media.probe(path).fps == Fraction(24000, 1001)


@pytest.mark.parametrize("profile", list(media.Profile))
def test_the_same_frames_give_the_same_bytes(profile: media.Profile, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.{profile}" for name in "ab"]
    for path in paths:
        write(path, noise(40), Fraction(16), profile=profile, metadata={"title": "x"})
    assert sha256(paths[0]) == sha256(paths[1])


def test_title_and_comment_are_stored_exactly(tmp_path: Path) -> None:
    metadata = {"title": "a=b; 'c' \"d\" é 日本", "comment": "-y [0] \\ two\nlines"}
    path = write(tmp_path / "a.mp4", noise(3), Fraction(16), metadata=metadata)
    with av.open(str(path)) as container:
        assert {key: container.metadata[key] for key in metadata} == metadata


def test_frames_can_come_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with media.Encoder(path, width=64, height=48, fps=Fraction(16)) as encoder:
        for frame_HWC in counter(7):
            encoder.write(frame_HWC)
            assert not path.exists()
        encoder.write(counter(10)[7:])
        assert encoder.frames == 10
    assert numbers(np.stack(list(media.read_frames(path)))) == list(range(10))


def test_a_film_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield noise(30)
        raise KeyError("halfway")

    with pytest.raises(KeyError, match="halfway"):
        write_all(tmp_path / "a.mp4", broken())
    with (
        pytest.raises(ValueError, match=r"a\.mp4: a film needs at least one frame"),
        media.Encoder(tmp_path / "a.mp4", width=64, height=48, fps=Fraction(16)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    frames: list[Any] = [noise(2, 48, 64), noise(2).astype(np.float32), noise(2)[..., :1]]
    for wrong in frames:
        with (
            pytest.raises(ValueError, match=r"frames = .* uint8 RGB of 48 rows and 64 columns"),
            media.Encoder(path, width=64, height=48, fps=Fraction(16)) as encoder,
        ):
            encoder.write(wrong)
    with pytest.raises(ValueError, match="size = 63x48"):
        media.Encoder(path, width=63, height=48, fps=Fraction(16))


def dying_ffmpeg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that says much, reads a little, and dies."""
    path = folder / "ffmpeg"
    path.write_text(
        "#!/bin/sh\n"
        "i=0; while [ $i -lt 3000 ]; do echo a long line of complaints that fills a pipe >&2; "
        "i=$((i+1)); done\n"
        "head -c 1000 >/dev/null\n"
        "echo '[libx264 @ 0x55d0] the disk is full' >&2\n"
        "exit 3\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("DREAMONTAGE_FFMPEG", str(path))


def test_an_ffmpeg_crash_is_reported_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying_ffmpeg(tmp_path, monkeypatch)
    with pytest.raises(RuntimeError, match=r"could not write a\.mp4: .*disk is full") as raised:
        write_all(tmp_path / "a.mp4", (noise(1, 640, 480) for _ in range(50)))
    assert "0x55d0" not in str(raised.value)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]


def test_an_ffmpeg_crash_at_the_end_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying_ffmpeg(tmp_path, monkeypatch)
    with (
        pytest.raises(RuntimeError, match="the disk is full"),
        media.Encoder(tmp_path / "a.mp4", width=8, height=8, fps=Fraction(16)) as encoder,
    ):
        encoder.write(noise(1, 8, 8))


def test_another_ffmpeg_can_be_chosen_if_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = media.ffmpeg_binary()
    monkeypatch.setenv("DREAMONTAGE_FFMPEG", "/no/such/ffmpeg")
    with pytest.raises(ValueError, match="DREAMONTAGE_FFMPEG = /no/such/ffmpeg"):
        media.ffmpeg_binary()
    monkeypatch.setenv("DREAMONTAGE_FFMPEG", usual)
    assert media.ffmpeg_binary() == usual


def test_shots_are_joined_frame_after_frame(tmp_path: Path) -> None:
    fps = Fraction(24000, 1001)
    parts = [counter(60)[:17], counter(60)[17:18], counter(60)[18:]]
    mezzanines = [
        write(tmp_path / f"{n}.mkv", part, fps, profile="mezzanine") for n, part in enumerate(parts)
    ]
    film = media.concat(mezzanines, tmp_path / "film.mp4", fps=fps, metadata={"title": "Film"})
    assert numbers(np.stack(list(media.read_frames(film)))) == list(range(60))
    info = media.probe(film)
    assert (info.frames, info.fps, info.duration) == (60, fps, 60 / fps)


def test_shots_of_two_sizes_are_not_joined(tmp_path: Path) -> None:
    sizes = [(64, 48), (48, 64)]
    mezzanines = [
        write(tmp_path / f"{n}.mkv", noise(2, *size), Fraction(16), profile="mezzanine")
        for n, size in enumerate(sizes)
    ]
    with pytest.raises(ValueError, match=r"1\.mkv: is 48x64, the film is 64x48"):
        media.concat(mezzanines, tmp_path / "film.mp4", fps=Fraction(16))
    assert not (tmp_path / "film.mp4").exists()
