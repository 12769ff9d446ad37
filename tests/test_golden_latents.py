"""Golden latents of the shipped nano weights: they hold the arithmetic, where keys hold the inputs.

The values hold on every CPU, to a tolerance; the digest holds for the kind of machine that it was
made on. `python -m tests.test_golden_latents` prints this machine's entry of the golden file.
"""

from __future__ import annotations

import json
import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.digests import digest
from dreamontage.models import bundled
from dreamontage.models.machine import machine_kind

GOLDEN = Path(__file__).parent / "data" / "golden-latents.json"
HEIGHT, WIDTH, FRAMES, STEPS = 64, 64, 65, 4
TOLERANCE = 1e-3  # of values of about 1: CPUs differ in the order of their sums
SAMPLES = 24

# By name, whether the film has keyframes.
FILMS = {"two keyframes, two segments": True, "text alone": False}


@cache
def kind() -> str:
    """All that the bits depend on: the library's machine kind, the processor, and torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    processor = " ".join(fields.get(name, "") for name in ("model name", "cpu family", "model"))
    return (
        f"{machine_kind('cpu')}, {processor or platform.processor()},"
        f" {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    )


def picture(seed: int) -> Image.Image:
    coarse_HWC = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse_HWC).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


@cache
def latents(film: str) -> Tensor:
    """latents_BCLHW of the film, from the shipped weights."""
    pipe = DreaMontagePipeline.from_pretrained(bundled.weights("nano"))
    pipe.set_progress_bar_config(disable=True)
    made: Any = pipe(
        prompt="[0, 2] pan left; [2, 4] zoom in",
        conditions=[
            Keyframe(image=picture(each), frame=frame)
            for each, frame in enumerate((0, FRAMES - 1))
            if FILMS[film]
        ],
        height=HEIGHT,
        width=WIDTH,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        seed=7,
        output_type="latent",
    )
    found = made.frames
    assert isinstance(found, Tensor)
    return found


def samples(latents_BCLHW: Tensor) -> list[float]:
    """Values at even distances, and the mean and standard deviation."""
    flat = latents_BCLHW.double().flatten()
    picked = flat[:: len(flat) // SAMPLES][:SAMPLES]
    return [round(float(each), 5) for each in (*picked, flat.mean(), flat.std())]


def bits(latents_BCLHW: Tensor) -> str:
    return digest(latents_BCLHW.contiguous().numpy().tobytes().hex())


@pytest.mark.parametrize("film", FILMS)
def test_latents_have_their_golden_values(film: str) -> None:
    golden = json.loads(GOLDEN.read_text())[film]
    found = latents(film)
    assert list(found.shape) == golden["shape"]
    assert samples(found) == pytest.approx(golden["values"], abs=TOLERANCE)


@pytest.mark.parametrize("film", FILMS)
def test_latents_have_their_golden_bits_on_this_kind_of_machine(film: str) -> None:
    known = json.loads(GOLDEN.read_text())[film]["digests"]
    if kind() not in known:
        pytest.skip(f"no golden bits for {kind()}; there are for: {'; '.join(known)}")
    assert bits(latents(film)) == known[kind()]


if __name__ == "__main__":
    from tests.support.alignment import aligned_loads

    with aligned_loads():
        entries = {
            film: {
                "shape": list(latents(film).shape),
                "values": samples(latents(film)),
                "digests": {kind(): bits(latents(film))},
            }
            for film in FILMS
        }
    print(json.dumps(entries, indent=2))
