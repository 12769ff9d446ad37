"""Small films whose faults are known, for the gate's tests.

A *world* is a procedural picture wider than the film: soft patches of colour, finer texture and
some hard-edged shapes. A film is a camera that moves over it. The faults are put in afterwards,
and so are the marks of a codec and of a barely trained model.

Shapes: T frames, H height, W width, C colour (RGB, uint8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dreamontage.media import Encoder, Profile
from dreamontage.scorer import Film, FrameMetric, Mark, Score
from dreamontage.scorer.film import working

Pixels = NDArray[np.uint8]

FPS = Fraction(16)
WIDTH, HEIGHT = 128, 80


@cache
def world(seed: int, *, contrast: float = 1.0, colour: float = 1.0, scale: int = 1) -> Pixels:
    """world_HWC of 256x400 times `scale`; low `contrast` gives fog, low `colour` nearly grey."""
    rng = np.random.default_rng(seed)
    height, width = 256, 400
    picture_HWC = np.zeros((height, width, 3), np.float32)
    for cells, strength in ((3, 60.0), (7, 30.0), (20, 16.0), (60, 9.0), (160, 5.0)):
        noise_HWC = rng.standard_normal((cells * 2 // 3 + 2, cells + 2, 3)).astype(np.float32)
        picture_HWC += strength * cv2.resize(
            noise_HWC, (width, height), interpolation=cv2.INTER_CUBIC
        )
    picture_HWC += rng.uniform(90, 160, 3)
    for _ in range(14):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        fill = tuple(float(value) for value in rng.uniform(20, 235, 3))
        if rng.random() < 0.5:
            cv2.circle(picture_HWC, centre, int(rng.integers(6, 26)), fill, -1, cv2.LINE_AA)
        else:
            far = (centre[0] + int(rng.integers(8, 50)), centre[1] + int(rng.integers(8, 50)))
            cv2.rectangle(picture_HWC, centre, far, fill, -1)
    grey_HW1 = picture_HWC.mean(axis=2, keepdims=True)
    picture_HWC = grey_HW1 + (picture_HWC - grey_HW1) * colour
    picture_HWC = 128 + (picture_HWC - 128) * contrast
    out_HWC = np.clip(picture_HWC, 0, 255).astype(np.uint8)
    if scale == 1:
        return out_HWC
    return cv2.resize(out_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def camera(
    world_HWC: Pixels,
    frames: int,
    *,
    start: tuple[float, float, float] = (0.35, 0.5, 1.0),
    stop: tuple[float, float, float] = (0.65, 0.5, 1.0),
    eased: bool = False,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Pixels:
    """frames_THWC of a camera going from `start` to `stop`, each (x, y, zoom) of the world."""
    height, width = world_HWC.shape[:2]
    scale = height / 256
    out = []
    for t in np.linspace(0.0, 1.0, frames):
        way = t * t * (3 - 2 * t) if eased else t
        x, y = (start[i] + (stop[i] - start[i]) * way for i in (0, 1))
        zoom = start[2] * (stop[2] / start[2]) ** way  # an even zoom is even in its logarithm
        ratio = zoom * size[0] / (WIDTH * scale)
        matrix = np.array(
            [
                [ratio, 0, size[0] / 2 - ratio * x * width],
                [0, ratio, size[1] / 2 - ratio * y * height],
            ]
        )
        out.append(
            cv2.warpAffine(
                world_HWC, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        )
    return np.stack(out)


def pan(seed: int, frames: int, **world_options: float) -> Pixels:
    return camera(world(seed, **world_options), frames)


def held(image_HWC: Pixels, frames: int) -> Pixels:
    return np.repeat(image_HWC[None], frames, axis=0)


def dissolve(first_HWC: Pixels, last_HWC: Pixels, frames: int) -> Pixels:
    way_T111 = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None, None]
    return np.rint(first_HWC * (1 - way_T111) + last_HWC * way_T111).astype(np.uint8)


def brightened(frames_THWC: Pixels, levels: float) -> Pixels:
    return np.clip(frames_THWC.astype(np.float32) + levels, 0, 255).astype(np.uint8)


def blurred(frames_THWC: Pixels, sigma: float) -> Pixels:
    return np.stack([cv2.GaussianBlur(frame_HWC, (0, 0), sigma) for frame_HWC in frames_THWC])


def noisy(frames_THWC: Pixels, sigma: float, seed: int = 0) -> Pixels:
    """Noise that is new in every frame."""
    noise = np.random.default_rng(seed).normal(0, sigma, frames_THWC.shape)
    return np.clip(np.rint(frames_THWC + noise), 0, 255).astype(np.uint8)


def psnr(a: Pixels, b: Pixels) -> float:
    error = float(np.mean((a.astype(np.float64) - b) ** 2))
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def _cosines(count: int) -> NDArray[np.float32]:
    rows, columns = np.mgrid[0:count, 0:count]
    basis = np.cos(np.pi * (columns + 0.5) * rows / count) * np.sqrt(2 / count)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def through_codec(frames_THWC: Pixels, coefficients: int = 64) -> Pixels:
    """Through blocks of 8x8 pixels by one latent's frames, the strongest coefficients kept.

    As a linear causal codec does: the first frame stands alone, then four frames at a time, so
    the picture is soft, its blocks show, and it pulses at the borders of latents. 64 gives about
    33 dB on these worlds.
    """
    frames, height, width, _ = frames_THWC.shape
    space = _cosines(8)
    rows, columns = np.mgrid[0:8, 0:8]
    out = np.empty(frames_THWC.shape, np.float32)
    first = 0
    while first < frames:
        count = 1 if first == 0 else min(4, frames - first)
        time = _cosines(count)
        block = frames_THWC[first : first + count].astype(np.float32) - 128
        block = block.reshape(count, height // 8, 8, width // 8, 8, 3)
        block = np.einsum("at,bi,cj,tyixjk->aybxck", time, space, space, block, optimize=True)
        # Coarse first, as a principal-component codec would choose: low in space and in time.
        order = (rows + columns)[None] + 3 * np.arange(count)[:, None, None]
        limit = np.sort(order.ravel())[min(order.size, coefficients // 3) - 1]
        block *= (order <= limit)[:, None, :, None, :, None]
        block = np.einsum("at,bi,cj,aybxck->tyixjk", time, space, space, block, optimize=True)
        out[first : first + count] = block.reshape(count, height, width, 3) + 128
        first += count
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def barely_trained(frames_THWC: Pixels, seed: int = 0) -> Pixels:
    """As a model after some minutes of training: soft, noisy, and blocks that swim with time."""
    frames, height, width, _ = frames_THWC.shape
    rng = np.random.default_rng(seed)
    tiles = rng.normal(0, 4, ((frames + 6) // 4, height // 8, width // 8, 3))
    tiles_THWC = np.repeat(np.repeat(np.repeat(tiles, 4, 0), 8, 1), 8, 2)[3 : frames + 3]
    return noisy(np.clip(blurred(frames_THWC, 2.0) + tiles_THWC, 0, 255), 3.0, seed)


def write(path: Path, frames_THWC: Pixels, fps: Fraction = FPS) -> Path:
    """A lossless film."""
    height, width = frames_THWC.shape[1:3]
    with Encoder(path, width=width, height=height, fps=fps, profile=Profile.MEZZANINE) as encoder:
        encoder.write(frames_THWC)
    return path


def watched(
    watcher: Callable[[Film], FrameMetric],
    frames_THWC: Pixels,
    *,
    marks: Sequence[Mark] = (),
    joins: Sequence[int] = (),
    loop: bool = False,
) -> dict[str, Score]:
    """One watcher's scores by name, without a file in between."""
    film = Film(path=Path("unread"), fps=FPS, marks=tuple(marks), joins=tuple(joins), loop=loop)
    watch = watcher(film)
    for index, frame_HWC in enumerate(frames_THWC):
        watch.update(index, working(frame_HWC))
    return {score.name: score for score in watch.compute()}


def still(image_HWC: Pixels, frame: int, label: str = "") -> Mark:
    return Mark(frame=frame, picture=image_HWC[None], label=label)


def ends(frames_THWC: Pixels) -> tuple[Mark, Mark]:
    """A film's first and last picture as its conditions."""
    return still(frames_THWC[0], 0), still(frames_THWC[-1], len(frames_THWC) - 1)
