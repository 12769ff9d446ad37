"""Stills of every kind become the same upright 8-bit sRGB picture."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from dreamontage import media
from dreamontage.media.fit import Fit
from tests.support.media import UPRIGHT, corners, quarters, sha256

SIZE = (128, 96)


def ingest(path: Path, fit: Fit = "crop", size: tuple[int, int] = SIZE) -> np.ndarray:
    out = path.parent / "ingested.png"
    return media.read_image(
        media.ingest_image(path, width=size[0], height=size[1], fit=fit, out=out)
    )


def picture() -> Image.Image:
    return Image.fromarray(quarters(*SIZE))


# How a camera that was held in each of EXIF's eight ways would have stored the upright picture.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int, tmp_path: Path) -> None:
    how = STORED[orientation]
    stored = picture() if how is None else picture().transpose(how)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.jpg", quality=95, exif=exif)
    info = media.probe(tmp_path / "photo.jpg")
    assert (info.kind, info.width, info.height) == (media.MediaKind.IMAGE, *SIZE)
    assert corners(ingest(tmp_path / "photo.jpg")) == UPRIGHT


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tiff", "ppm", "avif"])
def test_every_format_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{suffix}"
    picture().save(path)
    assert media.probe(path).kind is media.MediaKind.IMAGE
    result = ingest(path)
    assert result.shape == (96, 128, 3)
    assert result.dtype == np.uint8
    assert corners(result) == UPRIGHT


def test_a_palette_and_a_cmyk_picture_are_read(tmp_path: Path) -> None:
    picture().quantize(8).save(tmp_path / "palette.png")
    assert corners(ingest(tmp_path / "palette.png")) == UPRIGHT
    picture().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert media.probe(tmp_path / "print.jpg").pixel_format == "CMYK"
    assert corners(ingest(tmp_path / "print.jpg")) == UPRIGHT


def test_grey_of_1_8_and_16_bits_keeps_its_levels(tmp_path: Path) -> None:
    ramp_HW = np.tile(np.linspace(0, 255, SIZE[0]).astype(np.uint8), (SIZE[1], 1))
    Image.fromarray(ramp_HW).save(tmp_path / "8.png")
    Image.fromarray(ramp_HW.astype(np.uint16) * 257).save(tmp_path / "16.png")
    Image.fromarray(ramp_HW.astype(np.uint16) * 257).save(tmp_path / "16.tiff")
    for name in ("8.png", "16.png", "16.tiff"):
        assert np.array_equal(ingest(tmp_path / name), np.dstack([ramp_HW] * 3)), name
    Image.fromarray(ramp_HW > 127).save(tmp_path / "1.png")
    assert np.array_equal(ingest(tmp_path / "1.png")[..., 0], (ramp_HW > 127) * np.uint8(255))


def test_what_is_transparent_lies_over_black(tmp_path: Path) -> None:
    half = Image.new("RGBA", SIZE, (200, 100, 50, 255))
    half.paste((200, 100, 50, 128), (0, 0, 64, 96))
    half.paste((255, 255, 255, 0), (0, 0, 32, 96))
    half.save(tmp_path / "alpha.png")
    assert media.probe(tmp_path / "alpha.png").has_alpha
    result = ingest(tmp_path / "alpha.png")
    assert result[48, 10].tolist() == [0, 0, 0]
    assert np.abs(result[48, 48].astype(int) - [100, 50, 25]).max() <= 1
    assert result[48, 100].tolist() == [200, 100, 50]


def test_transparency_is_found_in_palette_and_grey_too(tmp_path: Path) -> None:
    grey = Image.new("LA", SIZE, (180, 255))
    grey.paste((180, 0), (0, 0, 64, 96))
    grey.save(tmp_path / "grey.png")
    assert ingest(tmp_path / "grey.png")[48, [20, 100]].tolist() == [[0] * 3, [180] * 3]
    palette = Image.new("P", SIZE, 1)
    palette.putpalette([255, 255, 255, 10, 200, 10])
    palette.paste(0, (0, 0, 64, 96))
    palette.save(tmp_path / "palette.png", transparency=0)
    assert ingest(tmp_path / "palette.png")[48, [20, 100]].tolist() == [[0] * 3, [10, 200, 10]]


def swapped_profile() -> bytes:
    """sRGB with its red and green primaries exchanged, so that using it cannot go unseen."""
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return plain.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    Image.new("RGB", SIZE, (220, 30, 30)).save(tmp_path / "a.png", icc_profile=swapped_profile())
    red, green, blue = ingest(tmp_path / "a.png")[48, 64].astype(int)
    assert abs(red - 30) < 4
    assert abs(green - 220) < 4
    assert abs(blue - 30) < 4
    with Image.open(tmp_path / "ingested.png") as image:
        assert "icc_profile" not in image.info


def test_a_profile_that_is_broken_or_of_another_kind_is_left_aside(tmp_path: Path) -> None:
    Image.new("RGB", SIZE, (220, 30, 30)).save(tmp_path / "broken.png", icc_profile=b"no profile")
    assert ingest(tmp_path / "broken.png")[48, 64].tolist() == [220, 30, 30]
    Image.new("L", SIZE, 77).save(tmp_path / "grey.png", icc_profile=swapped_profile())
    assert ingest(tmp_path / "grey.png")[48, 64].tolist() == [77] * 3


def test_crop_covers_the_frame_and_pad_shows_all_between_black_bars(tmp_path: Path) -> None:
    wide = np.zeros((40, 160, 3), np.uint8)
    wide[:, :40], wide[:, 40:120], wide[:, 120:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    cropped = ingest(tmp_path / "wide.png", "crop", (80, 40))
    assert np.array_equal(cropped, np.broadcast_to(np.array([0, 255, 0], np.uint8), (40, 80, 3)))
    padded = ingest(tmp_path / "wide.png", "pad", (80, 40))
    assert not padded[:10].any()
    assert not padded[30:].any()
    assert padded[20, [5, 40, 75]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (3, 999), (999, 3), (127, 79), (128, 96)])
def test_any_shape_gives_the_frame(size: tuple[int, int], fit: Fit, tmp_path: Path) -> None:
    Image.new("RGB", size, (9, 200, 90)).save(tmp_path / "a.png")
    result = ingest(tmp_path / "a.png", fit, (112, 64))
    assert result.shape == (64, 112, 3)
    assert (result == [9, 200, 90]).all(axis=2)[31:33, 55:57].any()


def test_the_same_picture_gives_the_same_bytes_whatever_lies_around_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "b.png", exif=exif, compress_level=1)
    digests = set()
    for name in ("a.png", "a.png", "b.png"):
        ingest(tmp_path / name)
        digests.add(sha256(tmp_path / "ingested.png"))
    assert len(digests) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png", "ingested.png"]
