"""Stills: whatever a camera, a scanner or a paint program wrote -> an 8-bit sRGB PNG."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from dreamontage.files import replacing
from dreamontage.media.fit import Fit, lay_out
from dreamontage.media.guard import is_animated, open_image, reason

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# A profile is used only on the kind of picture that it speaks of.
_PROFILE_SPACE = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_BLACK = (0, 0, 0)


def ingest_image(path: Path, *, width: int, height: int, fit: Fit, out: Path) -> Path:
    """Write `path` as a PNG of `width` x `height` to `out`, and return that.

    EXIF's orientation is applied, an ICC profile converted to sRGB, every depth and colour mode
    brought to 8-bit RGB. What is transparent is laid over black, like the bars of "pad"
    **[ours]**. The same file gives the same bytes. Raises `ValueError` for what is not a still.
    """
    try:
        with open_image(path) as image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if is_animated(image):
                raise ValueError(f"{path}: moves; a keyframe needs a still, so give it as a clip")
            picture = _to_srgb(path, _load(path, image))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: not an image of a kind that can be read") from None
    layout = lay_out(source=picture.size, frame=(width, height), fit=fit)
    scaled = picture.resize((layout.scaled_width, layout.scaled_height), Image.Resampling.LANCZOS)
    framed = Image.new("RGB", (width, height), _BLACK)
    framed.paste(scaled, (layout.x, layout.y))
    with replacing(out) as temporary:
        framed.save(temporary, "PNG", compress_level=6)
    return out


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """The pixels of an ingested still, `image_HWC`."""
    with Image.open(path, formats=("PNG",)) as image:
        return np.array(image.convert("RGB"))


def _load(path: Path, image: Image.Image) -> Image.Image:
    try:
        image.load()
        return ImageOps.exif_transpose(image)
    except Exception as error:  # decoders of hostile bytes fail in every way there is
        raise ValueError(f"{path}: the image is broken or cut short ({reason(error)})") from None


def _to_srgb(path: Path, image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    colour, alpha = _split_alpha(path, image)
    colour = _apply_profile(colour, profile) if profile else colour.convert("RGB")
    if alpha is None:
        return colour
    return Image.composite(colour, Image.new("RGB", colour.size, _BLACK), alpha)


def _split_alpha(path: Path, image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The picture in a mode that a profile can speak of (RGB, L, CMYK), and its alpha."""
    if image.mode.startswith("I"):
        image = _from_16_bits(image)
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        alpha = with_alpha.getchannel("A")
        return (image if image.mode == "LA" else with_alpha).convert(
            "L" if image.mode == "LA" else "RGB"
        ), alpha
    if image.mode in _PROFILE_SPACE:
        return image, None
    if image.mode == "1":
        return image.convert("L"), None
    if image.mode in ("P", "RGBX", "YCbCr", "HSV"):
        return image.convert("RGB"), None
    raise ValueError(f"{path}: colour mode {image.mode} is not supported; save it as 8-bit RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    # Pillow's own conversion clips at 255 where it should scale.
    levels_HW = np.asarray(image).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((levels_HW + 128) // 257).astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _PROFILE_SPACE[image.mode]:
            return image.convert("RGB")
        converted = ImageCms.profileToProfile(
            image,
            source,
            _SRGB,
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        # A broken profile says nothing about the colours: viewers show such files as sRGB.
        return image.convert("RGB")
    assert converted is not None
    return converted
