"""What one window of a shot needs of a loaded pipeline: noise, draft, prompts, pictures, model.

Shape legend: B batch, C channels, T pixel frames, L latent frames, H W height and width, S tokens,
D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypedDict

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from dreamontage.families.wan import WanModel
from dreamontage.models import autoencoder
from dreamontage.pipeline.sar import head_of
from dreamontage.planning.segments import Segment
from dreamontage.sampling.conditioning.model_inputs import ShotConditions
from dreamontage.sampling.conditioning.pictures import Picture, as_image, pixels
from dreamontage.sampling.denoise import Sampler
from dreamontage.sampling.guiders import Branch, Guider, ImageGuidance, PromptGuidance

if TYPE_CHECKING:
    from diffusers import WanImageToVideoPipeline

# diffusers' Wan attention tells image tokens from text by counting this many from the end.
_TEXT_TOKENS_WITH_IMAGE = 512


class TextOptions(TypedDict, total=False):
    """The text of a segment beside its own prompt.

    ``negative_prompt``: "" if not given.
    ``prompt_embeds``: (1, S, D), in place of the segment's prompt.
    ``negative_prompt_embeds``: (1, S, D), in place of ``negative_prompt``.
    ``max_sequence_length``: tokens of the prompt; the model's own if None or not given.
    """

    negative_prompt: str
    prompt_embeds: Tensor | None
    negative_prompt_embeds: Tensor | None
    max_sequence_length: int | None


def noise_of(
    pipe: WanImageToVideoPipeline,
    segment: Segment,
    height: int,
    width: int,
    generator: torch.Generator,
) -> Tensor:
    """A window's noise, (1, C, L, H, W), float32, on the pipeline's device."""
    z, scale = int(pipe.vae.config.z_dim), int(pipe.vae.config.scale_factor_spatial)
    noise_BCLHW: Tensor = randn_tensor(
        (1, z, segment.latents, height // scale, width // scale),
        generator,
        pipe._execution_device,
        torch.float32,
    )
    return noise_BCLHW


def with_loop_head(
    pipe: WanImageToVideoPipeline,
    segment: Segment,
    head_BCLHW: Tensor | None,
    *conditions: ShotConditions,
) -> list[ShotConditions]:
    """The conditions of a window; those of a loop's closing one hold the film's head once more."""
    if not segment.head:
        return list(conditions)
    assert head_BCLHW is not None, "a loop is closed with what it began with"
    picture_BCTHW = autoencoder.StreamingDecoder(pipe.vae)(head_BCLHW[:, :, :1])
    end = head_of(segment, head_BCLHW), picture_BCTHW[0, :, 0]
    return [each.with_loop_head(segment, *end) for each in conditions]


def draft_latents(
    pipe: WanImageToVideoPipeline,
    draft: Sequence[Picture] | Tensor,
    segment: Segment,
    *,
    size: tuple[int, int],
    tail_BCLHW: Tensor | None,
    head_BCLHW: Tensor | None,
) -> Tensor:
    """A window's draft, latents_BCLHW; what the film has already replaces the draft there.

    Args:
        draft: pictures, or what they are encoded.
        size: the shot's height and width.
    """
    device = pipe._execution_device
    if isinstance(draft, Tensor):
        latents_BCLHW = draft.to(device, copy=True)
    else:
        latents_BCLHW = autoencoder.encode(pipe.vae, pixels(draft, *size)).to(device)
    if tail_BCLHW is not None:
        latents_BCLHW[:, :, : segment.tail] = tail_BCLHW.to(device)
    if head_BCLHW is not None and segment.head:
        behind_BCLHW = head_of(segment, head_BCLHW)[:, :, 1:]
        latents_BCLHW[:, :, segment.tail + segment.new :] = behind_BCLHW.to(device)
    return latents_BCLHW


def image_embeds(
    pipe: WanImageToVideoPipeline,
    segment: Segment,
    conditions: ShotConditions,
    tail_BCLHW: Tensor | None,
) -> Tensor | None:
    """CLIP's tokens for a window, (1, S, D) a picture, for a DiT that takes them."""
    if conditions.clip_inputs is None:
        return None
    opening = None
    if tail_BCLHW is not None:
        frame_BCTHW = autoencoder.StreamingDecoder(pipe.vae)(tail_BCLHW[:, :, :1])
        opening = as_image(frame_BCTHW[0, :, 0])
    embedder = pipe.transformer.condition_embedder.image_embedder
    pictures = conditions.clip_inputs.window(
        segment.start + segment.tail,
        segment.stop,
        opening=opening,
        both_ends=embedder.pos_embed is not None,
    )
    image_BSD: Tensor = pipe.encode_image(pictures, pipe._execution_device)
    return image_BSD.to(pipe.transformer.dtype)


def window_model(
    pipe: WanImageToVideoPipeline,
    segment: Segment,
    *,
    sampler: Sampler,
    image_guided: bool = False,
    image_BSD: Tensor | None = None,
    text: TextOptions,
) -> WanModel:
    """The pipeline's experts with a window's prompts and guiders.

    Args:
        image_guided: whether the conditions guide.
        image_BSD: as :func:`image_embeds` returns them.

    Raises:
        ValueError: for prompts of a length that a model with an image encoder cannot take.
    """
    device, dtype = pipe._execution_device, pipe.transformer.dtype
    prompt_guided = sampler.guidance > 1
    prompt_embeds = text.get("prompt_embeds")
    prompt_BSD, negative_prompt_BSD = pipe.encode_prompt(
        prompt=None if prompt_embeds is not None else segment.prompt,
        negative_prompt=text.get("negative_prompt", ""),
        do_classifier_free_guidance=prompt_guided,
        prompt_embeds=prompt_embeds,
        negative_prompt_embeds=text.get("negative_prompt_embeds"),
        max_sequence_length=text.get("max_sequence_length") or pipe.config.max_sequence_length,
        device=device,
    )
    if image_BSD is not None and prompt_BSD.shape[1] != _TEXT_TOKENS_WITH_IMAGE:
        raise ValueError(
            f"max_sequence_length = {prompt_BSD.shape[1]} must be {_TEXT_TOKENS_WITH_IMAGE} for a "
            "model with an image encoder"
        )
    prompt_BSD = prompt_BSD.to(device, dtype)
    prompts = {Branch.CONDITIONAL: prompt_BSD, Branch.IMAGE_UNCONDITIONAL: prompt_BSD}
    if prompt_guided:
        prompts[Branch.PROMPT_UNCONDITIONAL] = negative_prompt_BSD.to(device, dtype)

    def guiders(scale: float) -> list[Guider]:
        found: list[Guider] = [PromptGuidance(scale=scale)] if prompt_guided else []
        if image_guided:
            found.append(ImageGuidance(scale=sampler.image_guidance))
        return found

    low = sampler.guidance_low_noise
    experts, guidance, boundary = [pipe.transformer], [sampler.guidance], None
    if pipe.config.boundary_ratio is not None:
        experts.append(pipe.transformer_2)
        guidance.append(sampler.guidance if low is None else low)
        boundary = pipe.config.boundary_ratio * pipe.scheduler.config.num_train_timesteps
    return WanModel(
        experts=experts,
        guiders=[guiders(scale) for scale in guidance],
        prompts=prompts,
        image_BSD=image_BSD,
        boundary=boundary,
        batched=pipe.batched_guidance,
    )
