"""Videos as a folder in the wild holds them: good ones, and each fault that others have."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.photos import load_photos
from tests.support.media import run_ffmpeg, video_of
from tests.support.scorer_films import camera, world

WIDTH, HEIGHT, FRAMES = 160, 96, 49
ASSETS = Path(__file__).parents[2] / "examples" / "assets"


def shot(seed: int, frames: int = FRAMES) -> np.ndarray:
    """One shot of a procedural world or an example's photo, frames_THWC."""
    scenes = worlds.sample(
        seed, 6, frames=frames, height=HEIGHT, width=WIDTH, photos_NCHW=load_photos(ASSETS)
    )
    video_BCTHW = scenes.render()
    return (
        ((video_BCTHW[scenes.unbroken()[0]].permute(1, 2, 3, 0) + 1) * 127.5)
        .round()
        .clamp(0, 255)
        .byte()
        .numpy()
    )


def pan(seed: int, frames: int = FRAMES) -> np.ndarray:
    """A camera that goes over a world at an even pace."""
    return camera(world(seed), frames, size=(WIDTH, HEIGHT))


def cut(first: np.ndarray, second: np.ndarray, at: int) -> np.ndarray:
    return np.concatenate([first[:at], second[at:]])


def dissolved(first: np.ndarray, second: np.ndarray, at: int, frames: int) -> np.ndarray:
    share_T = np.clip((np.arange(len(first)) - at + 1) / (frames + 1), 0, 1)
    share_T111 = share_T[:, None, None, None]
    return np.rint(first * (1 - share_T111) + second * share_T111).astype(np.uint8)


def flashed(frames: np.ndarray, at: int) -> np.ndarray:
    out = frames.copy()
    out[at : at + 2] = np.clip(out[at : at + 2].astype(int) + 90, 0, 255)
    return out


def at_dusk(frames: np.ndarray) -> np.ndarray:
    """The same while the light goes, and turns warm."""
    last = np.array([0.5, 0.4, 0.25])
    share_T111 = np.linspace(0, 1, len(frames))[:, None, None, None]
    return np.rint(frames * (1 + share_T111 * (last - 1))).astype(np.uint8)


def handheld(frames: np.ndarray, pixels: float, seed: int = 0) -> np.ndarray:
    """The same with a hand that trembles, cut to what is always seen."""
    rng, edge = random.Random(seed), 12
    height, width = frames.shape[1:3]
    out = []
    for frame in frames:
        shift = np.array([[1, 0, rng.gauss(0, pixels)], [0, 1, rng.gauss(0, pixels)]], np.float32)
        moved = cv2.warpAffine(frame, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        out.append(moved[edge:-edge, edge:-edge])
    return np.stack(out)


def everywhere(frames: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([change(frame) for frame in frames]).astype(np.uint8)


def barred(frame: np.ndarray) -> np.ndarray:
    out = frame.copy()
    out[:14], out[-14:] = 2, 2
    return out


def h264(frames: np.ndarray, path: Path, *options: str, fps: str = "16", crf: int = 20) -> Path:
    """As most videos come."""
    given = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-crf", str(crf))
    return video_of(frames, path, *given, *options, fps=fps)


def sound_only(path: Path) -> Path:
    run_ffmpeg("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "aac", path)
    return path


def uneven(frames: np.ndarray, path: Path) -> Path:
    """A phone's variable frame rate: about 24 a second, with gaps."""
    steady = h264(frames, path.with_suffix(".steady.mkv"), fps="24")
    drop = "select=not(eq(mod(n\\,7)\\,3)+eq(mod(n\\,11)\\,5))"
    run_ffmpeg("-i", steady, "-vf", drop, "-fps_mode", "vfr", "-c:v", "libx264", path)
    steady.unlink()
    return path


def turned(frames: np.ndarray, path: Path) -> Path:
    """Filmed upright: stored on its side, with a note that says so."""
    lying = h264(np.rot90(frames, 1, (1, 2)), path.with_suffix(".lying.mp4"))
    run_ffmpeg("-display_rotation", "-90", "-i", lying, "-c", "copy", path)
    lying.unlink()
    return path
