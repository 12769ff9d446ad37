"""Videos of every kind become upright sRGB frames at the film's size and rate."""

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from dreamontage import media
from dreamontage.media.fit import Fit
from dreamontage.timeline import frame_at
from tests.support.media import (
    UPRIGHT,
    corners,
    counter,
    numbers,
    quarters,
    run_ffmpeg,
    sha256,
    video_of,
)

H264 = ("-c:v", "libx264", "-crf", "4", "-pix_fmt", "yuv420p")
FPS = Fraction(16)


def ingest(
    path: Path,
    *,
    size: tuple[int, int] = (64, 48),
    fps: Fraction = FPS,
    fit: Fit = "crop",
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    out = path.parent / "ingested.mkv"
    media.ingest_clip(
        path, width=size[0], height=size[1], fps=fps, fit=fit, start=start, end=end, out=out
    )
    frames_THWC = np.stack(list(media.read_frames(out)))
    assert frames_THWC.shape[1:] == (size[1], size[0], 3)
    assert media.frame_count(out) == len(frames_THWC)
    return frames_THWC


def test_a_clip_at_the_films_own_rate_keeps_every_frame(tmp_path: Path) -> None:
    path = video_of(counter(30), tmp_path / "a.mp4", *H264)
    info = media.probe(path)
    assert (info.frames, info.fps, info.vfr) == (30, Fraction(16), False)
    assert info.duration == Fraction(30, 16)
    assert numbers(ingest(path)) == list(range(30))


def write_at(path: Path, times: list[Fraction], last: Fraction) -> Path:
    """A video whose frame n is frame n of `counter`, shown from times[n] on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "4", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 48_000)
        packets = []
        for time, frame_HWC in zip(times, counter(len(times)), strict=True):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            frame.pts, frame.time_base = int(time * 48_000), Fraction(1, 48_000)
            packets += stream.encode(frame)
        for packet, start, end in zip(
            packets + stream.encode(), times, [*times[1:], last], strict=True
        ):
            packet.duration = int((end - start) * 48_000)
            container.mux(packet)
    return path


def test_a_variable_frame_rate_becomes_a_constant_one_without_drift(tmp_path: Path) -> None:
    gaps = [Fraction(g, 48) for g in [1, 1, 5, 2, 9, 1, 1, 3, 12, 2, 2, 6, 1, 8, 3, 3]]
    times = [Fraction(0), *itertools.accumulate(gaps)]
    length = times[-1] + Fraction(4, 48)
    path = write_at(tmp_path / "vfr.mp4", times, length)
    info = media.probe(path)
    assert info.vfr
    assert (info.frames, info.duration) == (len(times), length)
    assert info.fps == len(times) / length

    found = numbers(ingest(path))
    assert len(found) == round(length * FPS)
    on_screen = [
        max(n for n, time in enumerate(times) if time <= index / FPS) for index in range(len(found))
    ]
    assert found == on_screen


def test_a_video_that_starts_late_is_counted_from_its_first_frame(tmp_path: Path) -> None:
    path = write_at(
        tmp_path / "late.mkv", [Fraction(80 + n, 16) for n in range(20)], Fraction(100, 16)
    )
    assert media.probe(path).duration == pytest.approx(20 / 16, abs=0.002)
    assert numbers(ingest(path)) == list(range(20))


@pytest.mark.parametrize("rate", ["8", "24000/1001", "25", "30", "60"])
def test_other_rates_keep_their_time(rate: str, tmp_path: Path) -> None:
    path = video_of(counter(48), tmp_path / "a.mp4", *H264, fps=rate)
    found = numbers(ingest(path))
    assert len(found) == frame_at(48 / Fraction(rate), FPS)
    slack = Fraction(2, 1000)  # a frame that begins within 2 ms counts as being there
    assert found == [int((index / FPS + slack) * Fraction(rate)) for index in range(len(found))]


def test_times_in_whole_milliseconds_lose_no_frame(tmp_path: Path) -> None:
    """Matroska says 0.063 s for what is 0.0625 s."""
    path = video_of(counter(40), tmp_path / "a.mkv", *H264)
    assert numbers(ingest(path)) == list(range(40))
    path = video_of(counter(40), tmp_path / "b.mkv", *H264, fps="30000/1001")
    assert numbers(ingest(path, fps=Fraction(30000, 1001))) == list(range(40))


def test_in_and_out_cut_to_the_frame(tmp_path: Path) -> None:
    path = video_of(counter(32), tmp_path / "a.mp4", *H264)
    assert numbers(ingest(path, start=0.5, end=1.25)) == list(range(8, 20))
    assert numbers(ingest(path, start=1.75)) == list(range(28, 32))
    assert numbers(ingest(path, end=0.0625)) == [0]
    # Lengths are counted as the storyboard counts them, wherever they lie on the grid.
    assert len(ingest(path, start=0.53, end=1.28)) == 12


@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        (2.0, None, r"in = 2\.0 s is not within the video's 2\.000 s"),
        (-0.5, None, r"in = -0\.5 s is not within"),
        (0.0, 2.5, r"out = 2\.5 s lies past the video's end, 2\.000 s"),
        (1.0, 1.0, r"out = 1\.0 s must lie after in, 1\.0 s"),
        (1.0, 0.5, r"out = 0\.5 s must lie after in, 1\.0 s"),
    ],
)
def test_times_that_the_video_lacks_are_refused(
    start: float, end: float | None, rule: str, tmp_path: Path
) -> None:
    path = video_of(counter(32), tmp_path / "a.mp4", *H264)
    with pytest.raises(ValueError, match=rf"a\.mp4: {rule}"):
        ingest(path, start=start, end=end)
    assert not (tmp_path / "ingested.mkv").exists()


@pytest.mark.parametrize("degrees", ["90", "180", "270"])
def test_a_phone_held_otherwise_is_turned_upright(degrees: str, tmp_path: Path) -> None:
    turned = np.rot90(quarters(96, 64), int(degrees) // 90)
    frames_THWC = np.broadcast_to(turned, (8, *turned.shape)).copy()
    video_of(frames_THWC, tmp_path / "stored.mp4", *H264)
    path = tmp_path / "phone.mp4"
    # ffmpeg counts the turn that shows it upright clockwise when it is negative.
    run_ffmpeg(
        *("-display_rotation", f"-{degrees}"), "-i", tmp_path / "stored.mp4", "-c", "copy", path
    )
    info = media.probe(path)
    assert (info.width, info.height, info.rotation) == (96, 64, int(degrees))
    assert corners(ingest(path, size=(96, 64))[0]) == UPRIGHT


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("-c:v", "libx264", "-pix_fmt", "yuv444p", "-crf", "0"), id="untagged"),
        pytest.param(("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-crf", "4"), id="10-bit"),
        pytest.param(("-c:v", "libx264", "-pix_fmt", "yuvj420p", "-crf", "4"), id="full range"),
        pytest.param(("-c:v", "libx264rgb", "-crf", "0"), id="rgb"),
        pytest.param(("-c:v", "prores_ks", "-pix_fmt", "yuv422p10le"), id="prores"),
        pytest.param(("-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-crf", "5"), id="vp9"),
        pytest.param(("-c:v", "mjpeg", "-q:v", "1", "-pix_fmt", "yuvj422p"), id="mjpeg"),
    ],
)
def test_colours_survive_whatever_the_encoding(options: tuple[str, ...], tmp_path: Path) -> None:
    frames_THWC = np.broadcast_to(quarters(96, 64), (8, 64, 96, 3)).copy()
    suffix = "webm" if "libvpx-vp9" in options else "mov"
    path = video_of(frames_THWC, tmp_path / f"a.{suffix}", *options)
    result = ingest(path, size=(96, 64))[4].astype(int)
    for y, x in ((16, 24), (16, 72), (48, 24), (48, 72)):
        assert np.abs(result[y, x] - frames_THWC[0, y, x]).max() <= 4


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
@pytest.mark.parametrize("range_", ["tv", "pc"])
def test_the_tagged_matrix_and_range_are_obeyed(matrix: str, range_: str, tmp_path: Path) -> None:
    frames_THWC = np.broadcast_to(quarters(96, 64), (8, 64, 96, 3)).copy()
    path = video_of(
        frames_THWC,
        tmp_path / "a.mp4",
        "-vf",
        f"scale=out_color_matrix={matrix}:out_range={range_},format=yuv420p",
        *("-colorspace", matrix, "-color_range", range_, "-crf", "4"),
    )
    info = media.probe(path)
    assert (info.matrix, info.full_range) == (matrix, range_ == "pc")
    result = ingest(path, size=(96, 64))[4].astype(int)
    for y, x in ((16, 24), (16, 72), (48, 24), (48, 72)):
        assert np.abs(result[y, x] - frames_THWC[0, y, x]).max() <= 4


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_brought_down_to_plausible_srgb(transfer: str, tmp_path: Path) -> None:
    """A grey ramp stays a ramp, neutral, and does not come out washed or black."""
    ramp_HWC = np.tile(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 1, 3))
    frames_THWC = np.broadcast_to(ramp_HWC, (4, 64, 96, 3)).copy()
    path = video_of(
        frames_THWC,
        tmp_path / "hdr.mov",
        *("-vf", f"zscale=tin=bt709:pin=bt709:min=bt709:rin=full:t={transfer}:p=bt2020:m=bt2020nc"),
        *("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-x265-params", "log-level=none:crf=4"),
        *("-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", transfer),
    )
    assert media.probe(path).transfer == transfer
    row_WC = ingest(path, size=(96, 64))[2][32].astype(int)
    assert np.ptp(row_WC, axis=1).max() <= 6
    grey_W = row_WC.mean(axis=1)
    assert np.all(np.diff(grey_W) > -2)
    assert grey_W[2] < 16
    assert grey_W[-3] > 120


def test_transparent_video_lies_over_black(tmp_path: Path) -> None:
    frames_THWC = np.full((6, 48, 64, 3), (200, 100, 50), np.uint8)
    path = video_of(
        frames_THWC,
        tmp_path / "alpha.mov",
        *("-vf", "format=rgba,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='if(lt(X,32),0,255)'"),
        *("-c:v", "qtrle"),
    )
    assert media.probe(path).has_alpha
    result = ingest(path)[3].astype(int)
    assert result[24, 10].tolist() == [0, 0, 0]
    assert np.abs(result[24, 50] - [200, 100, 50]).max() <= 2


def test_pixels_that_are_not_square_are_made_so(tmp_path: Path) -> None:
    frames_THWC = np.broadcast_to(quarters(64, 64), (4, 64, 64, 3)).copy()
    path = video_of(frames_THWC, tmp_path / "wide.mp4", "-vf", "setsar=2", *H264)
    info = media.probe(path)
    assert (info.width, info.height) == (128, 64)
    assert corners(ingest(path, size=(128, 64), fit="pad")[0]) == UPRIGHT


def test_odd_sizes_portrait_and_sound_do_no_harm(tmp_path: Path) -> None:
    frames_THWC = np.broadcast_to(quarters(95, 151), (8, 151, 95, 3)).copy()
    silent = video_of(frames_THWC, tmp_path / "odd.mov", "-c:v", "png")
    path = tmp_path / "loud.mov"
    sine = ("-f", "lavfi", "-i", "sine=d=3")
    run_ffmpeg("-i", silent, *sine, "-map", "0:v", "-map", "1:a", "-c:v", "copy", path)
    info = media.probe(path)
    assert (info.width, info.height, info.has_audio) == (95, 151, True)
    assert info.duration == Fraction(1, 2)
    frames = ingest(path, size=(64, 96))
    assert len(frames) == 8
    assert corners(frames[0]) == UPRIGHT


def test_interlaced_video_is_made_progressive(tmp_path: Path) -> None:
    path = tmp_path / "tv.mpg"
    run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=128x96:r=50:d=1", "-vf", "tinterlace=4"),
        *("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-q:v", "2", path),
    )
    assert media.probe(path).interlaced
    assert len(ingest(path)) == 16


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("source", [(200, 90), (90, 200), (123, 77)])
def test_a_clip_and_a_still_of_one_source_lie_on_each_other(
    source: tuple[int, int], fit: Fit, tmp_path: Path
) -> None:
    width, height = source
    y, x = np.mgrid[:height, :width]
    waves = np.dstack([np.sin(x / 9), np.sin(y / 7), np.sin((x + y) / 11)])
    image_HWC = (127 + 100 * waves).astype(np.uint8)
    Image.fromarray(image_HWC).save(tmp_path / "a.png")
    video_of(image_HWC[None], tmp_path / "a.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    out = tmp_path / "still.png"
    media.ingest_image(tmp_path / "a.png", width=96, height=64, fit=fit, out=out)
    still = media.read_image(out).astype(int)
    clip = ingest(tmp_path / "a.mkv", size=(96, 64), fit=fit)[0].astype(int)
    assert np.abs(still - clip).mean() < 1.5


def test_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    path = video_of(counter(30), tmp_path / "a.mp4", *H264, fps="25")
    digests = set()
    for _ in range(2):
        ingest(path)
        digests.add(sha256(tmp_path / "ingested.mkv"))
    assert len(digests) == 1


def test_frames_are_read_from_anywhere_and_never_too_few(tmp_path: Path) -> None:
    path = video_of(counter(10), tmp_path / "a.mp4", *H264)
    assert numbers(np.stack(list(media.read_frames(path, 4, 3)))) == [4, 5, 6]
    assert numbers(np.stack(list(media.read_frames(path, 8)))) == [8, 9]
    assert list(media.read_frames(path, 3, 0)) == []
    with pytest.raises(ValueError, match="has 10 frames, not the 12"):
        list(media.read_frames(path, 8, 4))


def test_a_video_that_was_trimmed_without_encoding_shows_what_players_show(tmp_path: Path) -> None:
    """Such a file still holds the frames that its edit list hides."""
    whole = video_of(counter(48), tmp_path / "whole.mp4", *H264, "-g", "16", "-bf", "2")
    path = tmp_path / "trimmed.mp4"
    run_ffmpeg("-ss", "1.25", "-i", whole, "-c", "copy", path)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 32  # from the keyframe before
    assert media.probe(path).duration == Fraction(28, 16)
    assert numbers(ingest(path)) == list(range(20, 48))


def test_music_with_a_cover_is_no_video(tmp_path: Path) -> None:
    Image.fromarray(quarters(64, 64)).save(tmp_path / "cover.png")
    sine = ("-f", "lavfi", "-i", "sine=d=0.5")
    tags = ("-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic")
    run_ffmpeg(*sine, "-i", tmp_path / "cover.png", *tags, tmp_path / "song.m4a")
    with pytest.raises(ValueError, match=r"song\.m4a: holds no video"):
        media.probe(tmp_path / "song.m4a")
