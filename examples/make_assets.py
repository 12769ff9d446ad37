"""Make the examples' stills and clips again from the five photographs in `assets/`.

    python examples/make_assets.py [FOLDER]

The photographs are read from `assets/`; what is made goes to FOLDER, or beside them. Stills are
crops and stylisations, clips are camera moves over a photograph. They are made awkward on
purpose, as real input is: a still on its side with an EXIF orientation, a palette PNG, a
greyscale PNG, a clip at 25 fps and one with a variable frame rate.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image, ImageChops, ImageFilter, ImageOps

ASSETS = Path(__file__).parent / "assets"
CLIP_SIZE = (256, 160)
CLOCK = 1200  # ticks a second: frames at 16, 25 and 30 fps last a whole number of them
# No frame waits for a later one, so packets come in the order in which frames go in.
X264 = {"crf": "20", "threads": "1", "bf": "0", "g": "25"}
LANCZOS = Image.Resampling.LANCZOS
ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class View:
    """What the camera sees of a photograph: a centre and a width in its pixels, and a tilt."""

    x: float
    y: float
    width: float
    degrees: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Move:
    """A camera move over a photograph, seen at the given times (seconds)."""

    photo: str
    start: View
    end: View
    times: Sequence[Fraction]
    length: Fraction


def steady(fps: int, seconds: Fraction) -> list[Fraction]:
    return [Fraction(n, fps) for n in range(int(fps * seconds))]


def unsteady(seconds: Fraction) -> list[Fraction]:
    """A phone's rate: 30 a second, with one frame of five lost, and two in a row now and then."""
    lost = {4, 9, 14, 15, 19, 24, 29, 34, 35, 36, 39, 44, 49, 54}
    return [time for n, time in enumerate(steady(30, seconds)) if n not in lost]


CLIPS = {
    "rocket-rise.mp4": Move(
        photo="rocket.jpg",
        start=View(x=256, y=258, width=262),
        end=View(x=258, y=112, width=230),
        times=steady(16, Fraction(5, 2)),
        length=Fraction(5, 2),
    ),
    "coffee-dive.mp4": Move(
        photo="coffee.jpg",
        start=View(x=256, y=170, width=500, degrees=-4),
        end=View(x=245, y=117, width=120, degrees=12),
        times=unsteady(Fraction(2)),
        length=Fraction(2),
    ),
    "deep-field-drift.mp4": Move(
        photo="deep-field.jpg",
        start=View(x=300, y=200, width=130, degrees=18),
        end=View(x=256, y=223, width=400),
        times=steady(25, Fraction(3)),
        length=Fraction(3),
    ),
}


def main(folder: Path = ASSETS) -> None:
    for name, still in stills().items():
        if name == "astronaut-badge.jpg":
            save_sideways(still, folder / name)
        else:
            still.save(folder / name, quality=90, optimize=True)
        print(folder / name)
    for name, move in CLIPS.items():
        write_clip(folder / name, move)
        print(folder / name)


def photo(name: str) -> Image.Image:
    with Image.open(ASSETS / name) as image:
        return image.convert("RGB")


def stills() -> dict[str, Image.Image]:
    cat, astronaut, coffee = photo("cat.jpg"), photo("astronaut.jpg"), photo("coffee.jpg")
    return {
        "cat-eye.jpg": seen(cat, View(x=171, y=114, width=72), (320, 200)),
        "cat-face.jpg": seen(cat, View(x=215, y=150, width=230), (320, 200)),
        "astronaut-badge.jpg": seen(astronaut, View(x=170, y=386, width=128), (320, 200)),
        "astronaut-portrait.jpg": astronaut.crop((40, 0, 512, 295)),
        "coffee-drawing.png": drawing(coffee),
        "coffee-poster.png": poster(coffee, ("#1d1128", "#7a1e3a", "#e2592b", "#ffd9a0")),
        "coffee-poster-blue.png": poster(coffee, ("#0b1a2e", "#1f4e79", "#3fa7a3", "#f4ead5")),
    }


def seen(picture: Image.Image, view: View, size: tuple[int, int]) -> Image.Image:
    """What the camera sees, as a picture of `size`."""
    if view.degrees:
        picture = picture.rotate(view.degrees, Image.Resampling.BICUBIC, center=(view.x, view.y))
    half_width, half_height = view.width / 2, view.width * size[1] / size[0] / 2
    left = min(max(view.x - half_width, 0), picture.width - 2 * half_width)
    top = min(max(view.y - half_height, 0), picture.height - 2 * half_height)
    box = (left, top, left + 2 * half_width, top + 2 * half_height)
    return picture.resize(size, LANCZOS, box=box)


def drawing(picture: Image.Image) -> Image.Image:
    """A pencil drawing: a picture divided by its own blur leaves the edges."""
    grey = ImageOps.autocontrast(picture.convert("L"))
    blurred = ImageChops.invert(grey).filter(ImageFilter.GaussianBlur(5))
    levels = [
        min(255, 255 * tone // max(1, 255 - blur))
        for tone, blur in zip(grey.tobytes(), blurred.tobytes(), strict=True)
    ]
    return Image.frombytes("L", grey.size, bytes(levels)).point(lambda v: v * v // 255)


def poster(picture: Image.Image, colours: tuple[str, ...]) -> Image.Image:
    """A screen print: flat areas of four inks, from the darkest to the lightest."""
    smooth = picture.convert("L").filter(ImageFilter.MedianFilter(9))
    inks = ImageOps.equalize(smooth).point(lambda v: min(v * len(colours) // 256, 3))
    printed = Image.frombytes("P", inks.size, inks.tobytes())
    printed.putpalette([v for c in colours for v in bytes.fromhex(c[1:])])
    return printed


def save_sideways(picture: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn a quarter clockwise to look at it
    picture.transpose(Image.Transpose.ROTATE_90).save(path, quality=90, exif=exif)


def write_clip(path: Path, move: Move) -> None:
    picture = photo(move.photo)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        container.flags |= av.container.Flags.bitexact.value
        stream = container.add_stream("libx264", rate=30, options=X264)
        stream.width, stream.height = CLIP_SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK)
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace = 6  # BT.601, as for any small picture
        packets = []
        for time in move.times:
            view = between(move.start, move.end, time / move.length)
            frame = av.VideoFrame.from_image(seen(picture, view, CLIP_SIZE))
            frame = frame.reformat(format="yuv420p", dst_colorspace="ITU601")
            frame.pts = round(time * CLOCK)
            frame.time_base = Fraction(1, CLOCK)
            packets += stream.encode(frame)
        packets += stream.encode()
        ends = [*move.times[1:], move.length]
        for packet, start, end in zip(packets, move.times, ends, strict=True):
            packet.duration = round((end - start) * CLOCK)
            container.mux(packet)


def between(start: View, end: View, moment: Fraction) -> View:
    """Where the camera is: slow, fast, slow; widths as ratios, so a zoom is even."""
    t = float(moment * moment * (3 - 2 * moment))
    return View(
        x=start.x + t * (end.x - start.x),
        y=start.y + t * (end.y - start.y),
        width=start.width * (end.width / start.width) ** t,
        degrees=start.degrees + t * (end.degrees - start.degrees),
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
