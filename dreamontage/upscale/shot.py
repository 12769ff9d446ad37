"""A shot of a notebook's, enlarged: the pipeline's own call, and this one with the same words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from torch import Tensor

from dreamontage.conditioning import Clip, Keyframe, with_pictures
from dreamontage.feed import fitted_picture
from dreamontage.models import autoencoder
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.request import plan_request
from dreamontage.upscale.stage import upscale
from dreamontage.upscale.upscaler import Upscaler


def upscale_shot(
    latents_BZLHW: Tensor,
    pipe: DreaMontagePipeline,
    upscaler: Upscaler | float = 2.0,
    *,
    prompt: str,
    negative_prompt: str = "",
    conditions: Sequence[Keyframe | Clip] = (),
    height: int,
    width: int,
    num_frames: int,
    fps: float = 16,
    loop: bool = False,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    seed: int = 0,
    output_type: str = "np",
) -> WanPipelineOutput:
    """Enlarge and refine what a base pipeline rendered with ``output_type="latent"``; the words
    that both calls have are given to both alike.

    Args:
        latents_BZLHW: the base film's.
        pipe: the SR model, on the same autoencoder.
        upscaler: or only its scale, 1.5, 2 or 2.25; all else is then as the model has it.
        conditions: in any size, as for the base; the larger they are, the more there is to see.
        height, width: of the base film, in pixels.

    Returns:
        ``.frames``, in the forms that the pipeline's own call has.

    Raises:
        ValueError: as the pipeline's call, and for a model or a size that does not fit.
    """
    if not isinstance(upscaler, Upscaler):
        upscaler = Upscaler.of(pipe.config.superres or {}, scale=upscaler)
    rows, columns = upscaler.size(height, width)
    plan = plan_request(
        prompt=prompt,
        conditions=conditions,
        frames=num_frames,
        fps=fps,
        seed=seed,
        height=height,
        width=width,
        # The base film is as it is; the large one is made up to the grid.
        geometry=replace(pipe.geometry, spatial_multiple=1),
        loop=loop,
    )

    def fit(picture: Any) -> Tensor:
        return fitted_picture(picture, pipe.video_processor, rows, columns)

    runs = upscale(
        latents_BZLHW.split(1, dim=2),
        pipe=pipe,
        upscaler=upscaler,
        segments=plan.segments,
        height=height,
        width=width,
        conditions=[with_pictures(each, fit) for each in conditions],
        sampler=pipe.sampler(num_inference_steps, guidance_scale),
        negative_prompt=negative_prompt,
        seed=seed,
    )
    if output_type == "latent":
        return WanPipelineOutput(frames=torch.cat(list(runs), dim=2))
    video_BCTHW = torch.cat(
        [part[..., :rows, :columns] for part in autoencoder.decode(pipe.vae, runs)], dim=2
    )
    return WanPipelineOutput(
        frames=pipe.video_processor.postprocess_video(
            video_BCTHW[:, :, :num_frames], output_type=output_type
        )
    )
