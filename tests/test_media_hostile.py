"""Files that must not be used: refused in one line that names them, with no other noise."""

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreamontage import media
from tests.support.media import counter, quarters, run_ffmpeg, video_of


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


def moving() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 255, (40, 48, 64, 3), dtype=np.uint8)


def whole(folder: Path, name: str) -> bytes:
    path = folder / f"whole-{name}"
    if name.endswith(".mp4"):
        video_of(moving(), path, "-pix_fmt", "yuv420p", "-movflags", "+faststart")
    elif name.endswith(".mkv"):
        video_of(moving(), path, "-pix_fmt", "yuv420p")
    else:
        noise_HWC = np.random.default_rng(5).integers(0, 255, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(noise_HWC).save(path)
    content = path.read_bytes()
    path.unlink()
    return content


def overwritten(content: bytes) -> bytes:
    """Noise in the middle, where the pictures are."""
    middle = len(content) // 2
    return content[:middle] + bytes(range(256)) * 4 + content[middle + 1024 :]


def sound(folder: Path) -> bytes:
    path = folder / "sound.m4a"
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=0.2", path)
    return path.read_bytes()


def playlist(folder: Path) -> bytes:
    video_of(moving(), folder / "private.ts", "-pix_fmt", "yuv420p")
    return f"#EXTM3U\n#EXTINF:2,\n{folder}/private.ts\n#EXT-X-ENDLIST\n".encode()


def animated_webp(folder: Path) -> bytes:
    first, *rest = (Image.fromarray(frame_HWC) for frame_HWC in counter(5))
    first.save(folder / "x.webp", save_all=True, append_images=rest)
    return (folder / "x.webp").read_bytes()


CASES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "empty": ("a.png", lambda _: b""),
    "empty video": ("a.mp4", lambda _: b""),
    "text": ("a.jpg", lambda _: b"this is no picture\n" * 50),
    "random": ("a.mp4", lambda _: np.random.default_rng(1).bytes(5000)),
    "svg": ("a.svg", lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/a"/></svg>'),
    "postscript": (
        "a.eps",
        lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    ),
    "sound": ("a.mp4", sound),
    "playlist of another file": ("a.mp4", playlist),
    "list of other files": ("a.mkv", lambda f: f"ffconcat version 1.0\nfile '{f}/x'\n".encode()),
    "animated webp": ("a.webp", animated_webp),
    "truncated jpeg": ("a.jpg", lambda f: whole(f, "a.jpg")[:20_000]),
    "truncated png": ("a.png", lambda f: whole(f, "a.png")[:20_000]),
    "truncated mp4, index at its front": ("a.mp4", lambda f: whole(f, "a.mp4")[:-20_000]),
    "truncated mp4, no index": ("a.mp4", lambda f: whole(f, "a.mp4")[:500]),
    "truncated mkv": ("a.mkv", lambda f: whole(f, "a.mkv")[:30_000]),
    "overwritten png": ("a.png", lambda f: overwritten(whole(f, "a.png"))),
    "overwritten mp4": ("a.mp4", lambda f: overwritten(whole(f, "a.mp4"))),
    "claims 3600 million pixels": ("a.png", lambda _: png_claiming(60_000, 60_000)),
    "claims 81 million pixels": ("a.png", lambda _: png_claiming(9_000, 9_000)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name, make = CASES[case]
    path = tmp_path / name
    path.write_bytes(make(tmp_path))
    before = sorted(tmp_path.iterdir())
    capfd.readouterr()
    with pytest.raises(ValueError, match=name) as as_still:
        media.ingest_image(path, width=64, height=64, fit="crop", out=tmp_path / "out.png")
    with pytest.raises(ValueError, match=name) as as_clip:
        media.ingest_clip(
            path, width=64, height=64, fps=Fraction(16), fit="crop", out=tmp_path / "out.mkv"
        )
    for raised in (as_still, as_clip):
        message = str(raised.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        assert len(message) < 400
    assert capfd.readouterr() == ("", "")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("case", "rule"),
    [
        ("empty", "the file is empty"),
        ("sound", "holds no video"),
        ("truncated mp4, index at its front", "cut short"),
        ("truncated mkv", "cut short"),
        ("claims 3600 million pixels", "at most 80 million pixels"),
        ("claims 81 million pixels", "at most 80 million pixels; this is 9000x9000"),
        ("animated webp", "an animated WebP cannot be read"),
        ("text", "neither an image nor a video"),
        ("playlist of another file", "neither an image nor a video"),
    ],
)
def test_the_rule_is_named(case: str, rule: str, tmp_path: Path) -> None:
    name, make = CASES[case]
    (tmp_path / name).write_bytes(make(tmp_path))
    with pytest.raises(ValueError, match=rule):
        media.probe(tmp_path / name)


def test_missing_things_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png: there is no such file"):
        media.probe(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="there is no such file"):
        media.probe(tmp_path)


def test_a_still_is_no_clip_and_a_moving_gif_no_keyframe(tmp_path: Path) -> None:
    still, gif = tmp_path / "still.png", tmp_path / "moves.gif"
    Image.fromarray(quarters(64, 48)).save(still)
    video_of(counter(10), gif)
    assert media.probe(gif).kind is media.MediaKind.VIDEO
    with pytest.raises(ValueError, match=r"still\.png: is a still"):
        media.ingest_clip(
            still, width=64, height=48, fps=Fraction(16), fit="crop", out=tmp_path / "out.mkv"
        )
    with pytest.raises(ValueError, match=r"moves\.gif: moves"):
        media.ingest_image(gif, width=64, height=48, fit="crop", out=tmp_path / "out.png")


@pytest.mark.parametrize("name", ["-y.mp4", "a:b c'd%03d.mp4", "http:x.mp4", "日本.mp4"])
def test_a_name_is_only_a_name(name: str, tmp_path: Path) -> None:
    video_of(counter(8), tmp_path / "plain.mp4", "-pix_fmt", "yuv420p")
    path = (tmp_path / "plain.mp4").rename(tmp_path / name)
    out = media.ingest_clip(
        path, width=64, height=48, fps=Fraction(16), fit="crop", out=tmp_path / "out.mkv"
    )
    assert media.frame_count(out) == 8
