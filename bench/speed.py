"""Our pipeline beside diffusers' own: the same weights, one process, taking turns.

The weights are random: the arithmetic is the same, and so is the film, which is checked first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench import models
from bench.clock import between, in_turns, now, seconds, step_seconds
from bench.models import SHAPE
from dreamontage import Keyframe
from dreamontage.models import autoencoder
from dreamontage.pipeline.request import checked_request

GUIDANCE = 5.0  # so that the model is asked twice a step
PROMPT = "a cat walks"


@torch.no_grad()
def table(folder: Path) -> list[tuple[str, float, float, float]]:
    """What, our seconds, diffusers' seconds, and the ratio: less than 1 means that ours is faster.

    Args:
        folder: of weights, from ``models.save``.
    """
    ours, theirs = models.ours(folder), models.theirs(folder)
    height, width, frames = (SHAPE.call[name] for name in ("height", "width", "num_frames"))
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    still = Image.fromarray(pixels)
    asked: dict[str, Any] = {
        "prompt": PROMPT,
        "negative_prompt": "",
        "num_inference_steps": SHAPE.steps,
        "guidance_scale": GUIDANCE,
        **SHAPE.call,
    }

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def our_film() -> Any:
        conditions = [Keyframe(image=still, frame=0)]
        made: Any = ours(conditions=conditions, generator=seeded(), **asked)
        return made.frames

    def their_film() -> Any:
        return theirs(image=still, generator=seeded(), **asked).frames

    assert np.array_equal(our_film(), their_film()), "both have to make the same film"

    (segment,) = (
        checked_request(
            prompt=PROMPT,
            conditions=[],
            frames=frames,
            fps=16,
            seed=0,
            height=height,
            width=width,
            geometry=ours.geometry,
        )
        .plan(ours.geometry)
        .segments
    )
    track = ours.track([Keyframe(image=still, frame=0)], height, width)

    def our_step() -> float:
        return step_seconds(
            ours.denoise_segment(
                segment,
                track=track,
                previous_BCLHW=None,
                height=height,
                width=width,
                sampler=ours.sampler(SHAPE.steps, GUIDANCE),
                max_sequence_length=SHAPE.call["max_sequence_length"],
            )
        )

    def their_step() -> float:
        stamps: list[float] = []

        def stamp(*_: Any) -> dict[str, Any]:
            stamps.append(now())
            return {}

        theirs(
            image=still,
            generator=seeded(),
            output_type="latent",
            callback_on_step_end=stamp,
            **asked,
        )
        return between(stamps)

    scale = ours.vae.config.scale_factor_spatial
    latents_BCLHW = torch.randn(
        1, ours.vae.config.z_dim, segment.latents, height // scale, width // scale
    ).to(ours.vae.device)

    def their_decode() -> Any:
        video_BCTHW = theirs.vae.decode(autoencoder.denormalise(theirs.vae, latents_BCLHW)).sample
        return video_BCTHW.float().cpu()

    def our_decode() -> Any:
        return list(autoencoder.decode(ours.vae, [latents_BCLHW]))

    assert torch.equal(torch.cat(our_decode(), dim=2), their_decode())

    turns = SHAPE.turns
    return [
        ("a denoise step", *in_turns(our_step, their_step, turns)),
        (
            f"decode of {frames} frames",
            *in_turns(lambda: seconds(our_decode), lambda: seconds(their_decode), turns),
        ),
        (
            f"end to end, {SHAPE.steps} steps",
            *in_turns(lambda: seconds(our_film), lambda: seconds(their_film), turns),
        ),
    ]
