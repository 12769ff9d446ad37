"""Far keyframes with and without a coarse level: ``python -m bench.coarse [--sheet FILE.png]``.

For each shot, with ``coarse`` off and at its stride: the largest step between two frames over the
median step, and the seconds. A film that moves evenly has little more than 1, one that jumps tens.
The control is optical flow between the keyframes, without a model. Takes ten minutes of a core.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.clock import machine
from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.pipeline.interpolation import FrameInterpolation
from dreamontage.pipeline.request import placed
from dreamontage.planning.coarse import stride_for

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "examples" / "assets"
HEIGHT, WIDTH, FPS = 80, 128, 16
COLUMNS = 12

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class FarShot:
    """Stills by the second at which they are given. The last second is the last frame's."""

    name: str
    prompt: str
    stills: dict[float, str]
    seconds: float

    @property
    def frames(self) -> int:
        return round(self.seconds * FPS) + 1

    def keyframes(self) -> list[Keyframe]:
        def still(name: str) -> Image.Image:
            with Image.open(ASSETS / name) as image:
                return image.convert("RGB").resize((WIDTH, HEIGHT))

        return [
            Keyframe(image=still(name), frame=round(second * FPS))
            for second, name in self.stills.items()
        ]


CAT = ("cat-eye.jpg", "cat-face.jpg", "cat.jpg")
STYLES = ("coffee-drawing.png", "coffee-poster.png", "coffee.jpg")
SHOTS = (
    FarShot(
        name="cat, 4 s apart",
        prompt="zoom out",
        stills=dict(zip((0.0, 4.0, 8.0), CAT, strict=True)),
        seconds=8,
    ),
    FarShot(
        name="styles, 4 s apart",
        prompt="a cup of coffee",
        stills=dict(zip((0.0, 4.0, 8.0), STYLES, strict=True)),
        seconds=8,
    ),
    FarShot(
        name="cat, 8 s apart",
        prompt="zoom out",
        stills=dict(zip((0.0, 8.0, 16.0), CAT, strict=True)),
        seconds=16,
    ),
    FarShot(name="only the last, 4 s", prompt="dusk", stills={4.0: "rocket.jpg"}, seconds=4),
    FarShot(name="only the first, 6 s", prompt="a cat", stills={0.0: "cat-face.jpg"}, seconds=6),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    shot: FarShot
    stride: int
    off: tuple[float, float]
    """Largest step over the median one, and seconds."""
    coarse: tuple[float, float]
    flow: float
    """Largest step over the median one, of optical flow between the keyframes."""
    films: tuple[Pixels, Pixels]


def measure(pipe: DreaMontagePipeline, shot: FarShot) -> Row:
    keyframes = shot.keyframes()

    def film(coarse: bool) -> tuple[Pixels, float]:
        begin = time.process_time()
        frames_THWC = pipe(
            prompt=shot.prompt,
            conditions=keyframes,
            height=HEIGHT,
            width=WIDTH,
            num_frames=shot.frames,
            fps=FPS,
            seed=1,
            coarse="auto" if coarse else "off",
        ).frames[0]
        return np.rint(frames_THWC * 255).astype(np.uint8), time.process_time() - begin

    (off, off_seconds), (on, on_seconds) = film(coarse=False), film(coarse=True)
    flow = FrameInterpolation({each.frame: each.image for each in keyframes})(range(shot.frames))
    return Row(
        shot=shot,
        stride=stride_for(frames=shot.frames, conditions=placed(keyframes), geometry=pipe.geometry),
        off=(largest_step(off), off_seconds),
        coarse=(largest_step(on), on_seconds),
        flow=largest_step(np.stack(flow)),
        films=(off, on),
    )


def largest_step(frames_THWC: Pixels) -> float:
    """The largest difference of two neighbours over the median one; 1 for a film that stands."""
    steps_T = np.abs(np.diff(frames_THWC.astype(np.float32), axis=0)).mean((1, 2, 3))
    return float(steps_T.max() / max(float(np.median(steps_T)), 0.05))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.coarse", description=__doc__)
    parser.add_argument("--weights", type=Path, default=ROOT / "weights" / "nano")
    parser.add_argument("--sheet", type=Path, help="write the films' frames, a row a film")
    options = parser.parse_args()
    pipe = DreaMontagePipeline.from_pretrained(options.weights, dtype=torch.float32)
    shown = Table(
        *("shot", "stride", "largest step: off", "coarse", "flow", "seconds: off", "coarse"),
        title=f"Far keyframes on {machine()}: the largest step over the median one, and the time",
    )
    rows: list[Pixels] = []
    console = Console(width=110)
    for shot in SHOTS:
        row = measure(pipe, shot)
        for film_THWC in row.films:
            chosen = np.linspace(0, len(film_THWC) - 1, COLUMNS).round().astype(int)
            rows.append(np.concatenate([film_THWC[index] for index in chosen], axis=1))
        shown.add_row(
            *(shot.name, str(row.stride), f"{row.off[0]:.1f}", f"{row.coarse[0]:.1f}"),
            *(f"{row.flow:.1f}", f"{row.off[1]:.0f}", f"{row.coarse[1]:.0f}"),
        )
        console.print(f"{shot.name}: done")
    console.print(shown)
    if options.sheet is not None:
        Image.fromarray(np.concatenate(rows)).save(options.sheet)


if __name__ == "__main__":
    main()
