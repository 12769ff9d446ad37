"""Our pipeline beside diffusers' own, on the same weights, in one process, taking turns.

The weights are random, of Wan's shape made small: the arithmetic is the same, and both give the
same film, which is checked. Ratios are medians over turns: a shared machine is noisy.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from tests.fixtures.tiny import save_tiny_wan

_CALL = {
    "prompt": "a cat",
    "height": 96,
    "width": 96,
    "num_frames": 33,
    "guidance_scale": 1.0,
}


def _turns(ours: Callable[[], object], theirs: Callable[[], object], turns: int) -> float:
    """Our seconds over theirs: the median of the turns' ratios."""
    ratios = []
    for _ in range(turns):
        began = time.perf_counter()
        ours()
        middle = time.perf_counter()
        theirs()
        ratios.append((middle - began) / (time.perf_counter() - middle))
    return statistics.median(ratios)


@torch.no_grad()
def table(turns: int = 7) -> dict[str, float]:
    """Ratios, ours over diffusers': less than 1 is faster."""
    with tempfile.TemporaryDirectory() as folder:
        weights = save_tiny_wan(Path(folder) / "i2v", "i2v")
        ours = DreaMontagePipeline.from_pretrained(weights)
        theirs = WanImageToVideoPipeline.from_pretrained(weights)
    theirs.set_progress_bar_config(disable=True)
    still = Image.fromarray(np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8))

    def our_film(steps: int = 4, output: str = "np") -> np.ndarray:
        return ours(
            conditions=[Keyframe(image=still, frame=0)],
            num_inference_steps=steps,
            output_type=output,
            generator=torch.Generator().manual_seed(0),
            **_CALL,
        ).frames

    def their_film(steps: int = 4, output: str = "np") -> np.ndarray:
        return theirs(
            image=still,
            num_inference_steps=steps,
            output_type=output,
            generator=torch.Generator().manual_seed(0),
            **_CALL,
        ).frames

    assert np.array_equal(our_film(), their_film()), "both have to make the same film"
    latents_BCLHW = torch.randn(1, ours.vae.config.z_dim, 9, 12, 12)
    return {
        "denoise steps": _turns(
            lambda: our_film(12, "latent"), lambda: their_film(12, "latent"), turns
        ),
        "decode": _turns(
            lambda: list(autoencoder.decode(ours.vae, [latents_BCLHW])),
            lambda: theirs.vae.decode(autoencoder.denormalise(theirs.vae, latents_BCLHW)).sample,
            turns,
        ),
        "end to end": _turns(our_film, their_film, turns),
    }
