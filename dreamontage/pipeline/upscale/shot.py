"""A shot enlarged from a notebook: by a call like the pipeline's own, with its arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack

import torch
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from torch import Tensor

from dreamontage.models import autoencoder
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.pipeline.request import checked_request
from dreamontage.pipeline.upscale.stage import upscale
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe, map_pictures
from dreamontage.sampling.conditioning.model_inputs import fitted_picture


class SamplingOptions(TypedDict, total=False):
    """How the pipeline's own call and this one sample; by default as the model's folder says."""

    negative_prompt: str
    num_inference_steps: int | None
    guidance_scale: float | None
    seed: int


def upscale_shot(
    latents_BZLHW: Tensor,
    pipe: DreaMontagePipeline,
    upscaler: Upscaler | float = 2.0,
    *,
    prompt: str,
    conditions: Sequence[Keyframe | Clip] = (),
    height: int,
    width: int,
    num_frames: int,
    fps: float = 16,
    loop: bool = False,
    output_type: str = "np",
    **sampling: Unpack[SamplingOptions],
) -> WanPipelineOutput:
    """Enlarge and refine what a base pipeline rendered with ``output_type="latent"``; the
    arguments that both calls have are given to both alike.

    Args:
        latents_BZLHW: the base film's.
        pipe: the SR model, on the same autoencoder.
        upscaler: or only its scale, 1.5, 2 or 2.25; all else is then as the model has it.
        conditions: in any size, as for the base; the larger they are, the more detail they give.
        height, width: of the base film, in pixels.

    Returns:
        ``.frames``, in the forms that the pipeline's own call has.

    Raises:
        ValueError: as the pipeline's call, and for a model or a size that does not fit.
    """
    if not isinstance(upscaler, Upscaler):
        upscaler = Upscaler.of(pipe.config.superres or {}, scale=upscaler)
    seed = sampling.get("seed", 0)
    rows, columns = upscaler.size(height, width)
    plan = checked_request(
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
    ).plan(pipe.geometry)

    def fit(picture: Any) -> Tensor:
        return fitted_picture(picture, pipe.video_processor, rows, columns)

    runs = upscale(
        latents_BZLHW.split(1, dim=2),
        pipe=pipe,
        upscaler=upscaler,
        segments=plan.segments,
        height=height,
        width=width,
        conditions=[map_pictures(each, fit) for each in conditions],
        sampler=pipe.sampler(sampling.get("num_inference_steps"), sampling.get("guidance_scale")),
        negative_prompt=sampling.get("negative_prompt", ""),
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
