"""``DreaMontagePipeline``: what a notebook user calls, and what the farm's workers hold in memory.

Built on diffusers' Wan pipelines for what they do well (text, loading, LoRA, offload) and on our
own loop for what they do not: conditions anywhere in time, segments, resumable states, constant
memory.

Shape legend: B batch, C channels, T pixel frames, L latent frames, H W height and width.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from dreamontage.conditioning import Clip, Keyframe
from dreamontage.feed import (
    Conditioning,
    Feed,
    ShotConditions,
    fitted_picture,
    shot_conditions,
)
from dreamontage.inbetween import drafts_of
from dreamontage.models import autoencoder
from dreamontage.models.folder import folder_revision
from dreamontage.models.loading import bars_only_on_a_terminal, experts_of
from dreamontage.pictures import Picture, as_image, pixels
from dreamontage.plan import Geometry, Segment
from dreamontage.request import plan_request
from dreamontage.sampling import Denoiser, DenoiseState, Sampler, Unled, denoise, entered, entry
from dreamontage.sar import fuse, head_of, tail_of
from dreamontage.storyboard import DEFAULT_STRENGTH

# diffusers' Wan attention tells image tokens from text by counting this many from the end.
_TEXT_BESIDE_IMAGE = 512


class DreaMontagePipeline(WanImageToVideoPipeline):  # type: ignore[misc]
    """Conditions anywhere in time, shots of any length, from a Wan folder or from one of ours.

    ``window_latents``: the longest window the model was trained on. ``tail_latents``: how many
        latents a segment hands to the next. ``temperature``: the spread of the noise that films
        begin with, over what it was in training, in the first ``tempered_channels`` of the latents,
        or in all: the lower, the nearer is a film to the mean of what the model holds for possible
        (Kingma and Dhariwal, "Glow", 2018). ``conditioning``: "interm" for weights tuned on
        conditions encoded alone, "native" for stock Wan weights, which know them in a grey-filled
        film. ``maturity``: "smoke" for weights too little trained to show; films made with them say
        so. ``superres``: what a super-resolution model brings of an `upscale.Upscaler`.
    """

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: Any,
        vae: Any,
        scheduler: Any,
        image_processor: Any = None,
        image_encoder: Any = None,
        transformer: Any = None,
        transformer_2: Any = None,
        boundary_ratio: float | None = None,
        expand_timesteps: bool = False,
        window_latents: int = 21,
        tail_latents: int = 2,
        max_sequence_length: int = 512,
        default_steps: int = 50,
        default_guidance: float = 5.0,
        default_image_guidance: float = 1.0,
        temperature: float = 1.0,
        tempered_channels: int | None = None,
        conditioning: str = "native",
        maturity: str | None = None,
        superres: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            scheduler=scheduler,
            image_processor=image_processor,
            image_encoder=image_encoder,
            transformer=transformer,
            transformer_2=transformer_2,
            boundary_ratio=boundary_ratio,
            expand_timesteps=expand_timesteps,
        )
        self.register_to_config(
            window_latents=window_latents,
            tail_latents=tail_latents,
            max_sequence_length=max_sequence_length,
            default_steps=default_steps,
            default_guidance=default_guidance,
            default_image_guidance=default_image_guidance,
            temperature=temperature,
            tempered_channels=tempered_channels,
            conditioning=conditioning,
            maturity=maturity,
            superres=superres,
        )
        # What segments are kept under. Only an untouched folder has one that may be met again.
        self.revision = f"unsaved-{uuid.uuid4().hex}"
        self.set_progress_bar_config(disable=True)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a model folder: ours, or a Wan checkpoint in diffusers' layout, unchanged.

        ``kwargs`` are diffusers' own; a component given there takes the place of the folder's.

        Raises:
            ValueError: if the folder holds no ``model_index.json``.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir() and not folder.is_absolute() and len(folder.parts) == 2:
            folder = Path(cls.download(str(pretrained_model_name_or_path)))  # a hub's owner/name
        with bars_only_on_a_terminal():
            experts = experts_of(folder, kwargs)
            pipe: Self = super().from_pretrained(str(folder), **kwargs, **experts)
        # A component left out (None) leaves the others the folder's.
        if all(kwargs.get(name) is None for name in pipe.components):
            pipe.revision = folder_revision(folder)
        return pipe

    def load_lora_weights(self, *args: Any, **kwargs: Any) -> None:
        """As diffusers'. From then on no segment counts as known: the folder alone no longer
        determines what this pipeline makes.
        """
        super().load_lora_weights(*args, **kwargs)
        self.revision = f"unsaved-{uuid.uuid4().hex}"

    @property
    def geometry(self) -> Geometry:
        spatial = self.vae.config.scale_factor_spatial * max(self.transformer.config.patch_size[1:])
        return Geometry(
            window_latents=self.config.window_latents,
            tail_latents=self.config.tail_latents,
            spatial_multiple=max(16, spatial),
        )

    def sampler(
        self,
        steps: int | None = None,
        guidance: float | None = None,
        guidance_low_noise: float | None = None,
        image_guidance: float | None = None,
    ) -> Sampler:
        """The given settings, and the model's own for those not given."""
        own = self.config
        return Sampler(
            steps=own.default_steps if steps is None else steps,
            guidance=own.default_guidance if guidance is None else guidance,
            guidance_low_noise=guidance_low_noise,
            image_guidance=own.default_image_guidance if image_guidance is None else image_guidance,
        )

    def track(
        self,
        conditions: Sequence[Keyframe | Clip],
        height: int,
        width: int,
        conditioning: Conditioning | None = None,
    ) -> ShotConditions:
        """Put the conditions onto the shot's latent timeline, encoded as the model was trained to
        see them. Pictures of other sizes are resized as diffusers does it.
        """

        def encode(video_BCTHW: Tensor) -> Tensor:
            return autoencoder.encode(self.vae, video_BCTHW)

        config = self.transformer.config
        return shot_conditions(
            conditions,
            feed=Feed.of(
                in_channels=config.in_channels,
                z_dim=self.vae.config.z_dim,
                expand_timesteps=self.config.expand_timesteps,
            ),
            conditioning=conditioning or self.config.conditioning,
            sighted=config.image_dim is not None,
            encode=encode,
            processor=self.video_processor,
            height=height,
            width=width,
        )

    @torch.no_grad()
    def denoise_segment(
        self,
        segment: Segment,
        *,
        track: ShotConditions,
        previous_BCLHW: Tensor | None,
        head_BCLHW: Tensor | None = None,
        draft: Sequence[Picture] | None = None,
        strength: float = DEFAULT_STRENGTH,
        height: int,
        width: int,
        sampler: Sampler,
        negative_prompt: str = "",
        generator: torch.Generator | None = None,
        state: DenoiseState | None = None,
        max_sequence_length: int | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> Iterator[DenoiseState]:
        """Denoise one window of a shot, resumably. The last state holds the window's latents.

        Args:
            previous_BCLHW: the latents of the segment before; None for the first.
            head_BCLHW: the latents of the first segment, for the closing one of a loop.
            draft: pictures to start from instead of pure noise, of the shot's size, one for each
                of the frames of ``draft.window(segment)``.
            strength: the noise level, in (0, 1], to which the draft is noised.
            generator: where the noise comes from; by default the segment's own seed, which is what
                makes it repeatable.
            state: a stored state of this very segment to go on from.
            max_sequence_length: tokens of the prompt; None for the model's own.
            prompt_embeds: (1, S, D), in the stead of the segment's prompt.

        Raises:
            ValueError: for what this model cannot take.
        """
        device = self._execution_device
        z, scale = int(self.vae.config.z_dim), int(self.vae.config.scale_factor_spatial)
        noise_BCLHW = randn_tensor(
            (1, z, segment.latents, height // scale, width // scale),
            generator or torch.Generator("cpu").manual_seed(segment.seed),
            device,
            torch.float32,
        )
        tail_BCLHW = None if previous_BCLHW is None else tail_of(segment, previous_BCLHW)
        bare = track.bare()
        if segment.head:
            assert head_BCLHW is not None, "a loop is closed with what it began with"
            picture_BCTHW = autoencoder.StreamingDecoder(self.vae)(head_BCLHW[:, :, :1])
            end = head_of(segment, head_BCLHW), picture_BCTHW[0, :, 0]
            track, bare = track.closed(segment, *end), bare.closed(segment, *end)
        if draft is not None and state is None:
            state = entered(
                self.scheduler,
                steps=sampler.steps,
                strength=strength,
                film_BCLHW=self._drafted(draft, segment, height, width, tail_BCLHW, head_BCLHW),
                noise_BCLHW=noise_BCLHW,
            )
        # A draft is noised as in training, and nothing else begins with this noise then.
        noise_BCLHW[:, : self.config.tempered_channels] *= self.config.temperature
        condition_BCLHW, given = track.inputs(segment, tail_BCLHW, noise_BCLHW)
        unled = None
        if sampler.image_guidance != 1 and segment.led:
            without_BCLHW, still_given = bare.inputs(segment, tail_BCLHW, noise_BCLHW)
            unled = Unled(
                guidance=sampler.image_guidance,
                condition_BCLHW=without_BCLHW,
                given=still_given,
                pure_noise=self.scheduler.config.num_train_timesteps,
            )
        guided = sampler.guidance > 1
        prompt_BSD, negative_prompt_BSD = self.encode_prompt(
            prompt=None if prompt_embeds is not None else segment.prompt,
            negative_prompt=negative_prompt,
            do_classifier_free_guidance=guided,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            max_sequence_length=max_sequence_length or self.config.max_sequence_length,
            device=device,
        )
        if track.sight is not None and prompt_BSD.shape[1] != _TEXT_BESIDE_IMAGE:
            raise ValueError(
                f"max_sequence_length = {prompt_BSD.shape[1]} must be {_TEXT_BESIDE_IMAGE} for a "
                "model with an image encoder"
            )
        dtype = self.transformer.dtype
        low = sampler.guidance_low_noise
        experts, guidances, boundary = [self.transformer], [sampler.guidance], None
        if self.config.boundary_ratio is not None:
            experts.append(self.transformer_2)
            guidances.append(sampler.guidance if low is None else low)
            boundary = self.config.boundary_ratio * self.scheduler.config.num_train_timesteps
        denoiser = Denoiser(
            experts=experts,
            guidance=guidances,
            prompt_BSD=prompt_BSD.to(device, dtype),
            negative_prompt_BSD=negative_prompt_BSD.to(device, dtype) if guided else None,
            image_BSD=self._seen(segment, track, tail_BCLHW),
            condition_BCLHW=condition_BCLHW,
            given=given,
            unled=unled,
            boundary=boundary,
        )
        return denoise(
            denoiser, self.scheduler, noise_BCLHW=noise_BCLHW, steps=sampler.steps, state=state
        )

    def _drafted(
        self,
        draft: Sequence[Picture],
        segment: Segment,
        height: int,
        width: int,
        tail_BCLHW: Tensor | None,
        head_BCLHW: Tensor | None,
    ) -> Tensor:
        """A window's draft, latents_BCLHW; what the film has already is in its place there."""
        device = self._execution_device
        video_BCTHW = pixels(draft, height, width)
        latents_BCLHW = autoencoder.encode(self.vae, video_BCTHW).to(device)
        if tail_BCLHW is not None:
            latents_BCLHW[:, :, : segment.tail] = tail_BCLHW.to(device)
        if head_BCLHW is not None and segment.head:
            behind_BCLHW = head_of(segment, head_BCLHW)[:, :, 1:]
            latents_BCLHW[:, :, segment.tail + segment.new :] = behind_BCLHW.to(device)
        return latents_BCLHW

    def _seen(
        self, segment: Segment, conditions: ShotConditions, tail_BCLHW: Tensor | None
    ) -> Tensor | None:
        """CLIP's tokens for a window, (1, S, D) a picture, for a DiT that asks for them."""
        if conditions.sight is None:
            return None
        opening = None
        if tail_BCLHW is not None:
            frame_BCTHW = autoencoder.StreamingDecoder(self.vae)(tail_BCLHW[:, :, :1])
            opening = as_image(frame_BCTHW[0, :, 0])
        embedder = self.transformer.condition_embedder.image_embedder
        pictures = conditions.sight.window(
            segment.start + segment.tail,
            segment.stop,
            opening=opening,
            both_ends=embedder.pos_embed is not None,
        )
        return self.encode_image(pictures, self._execution_device).to(self.transformer.dtype)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | None = None,
        negative_prompt: str = "",
        conditions: Sequence[Keyframe | Clip] = (),
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        fps: float = 16,
        loop: bool = False,
        draft: Literal["auto"] | Sequence[Picture] | None = None,
        strength: float = DEFAULT_STRENGTH,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_scale_2: float | None = None,
        image_guidance_scale: float | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: str = "np",
        max_sequence_length: int | None = None,
        conditioning: Conditioning | None = None,
        return_dict: bool = True,
    ) -> WanPipelineOutput | tuple[Any]:
        """Render one shot. Longer than the window, it goes through segments; ``num_frames`` may be
        any count.

        Args:
            prompt: plain, or time-stamped: ``"[0, 2.5] zoom in; [2.5, 5] he walks"``, in seconds.
            conditions: stills and clips, any number, anywhere; other sizes are resized as diffusers
                does it.
            loop: the last frame leads on into the first. ``num_frames`` must be a multiple of four.
            draft: start from a draft film instead of pure noise: a picture for every frame, or
                "auto", which makes one of the conditions by optical flow.
            strength: the noise level, in (0, 1], to which the draft is noised: the lower, the more
                of it stays.
            generator: where the segments' noise comes from, as in diffusers; without one, each
                segment's own seed.
            image_guidance_scale: how far the conditions lead the film, over how far they would by
                themselves; other than 1 it asks the model once more a step.
            prompt_embeds: (1, S, D), in the stead of ``prompt``; the same for every segment.
            conditioning: how conditions are encoded, if not as the checkpoint's config says.

        Returns:
            ``.frames``: (1, T, H, W, 3) float in [0, 1] for "np", a list of PIL images for "pil",
                (1, T, 3, H, W) for "pt", and the fused latents (1, C, L, h, w) for "latent".

        Raises:
            ValueError: for a condition outside the shot or on another's place, an unreadable
                prompt, a size off the model's grid, a length that no loop can have, a draft that
                is too short or has nothing to be made of, or what this model cannot take.
        """
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("give either prompt or prompt_embeds")
        if guidance_scale_2 is not None and self.config.boundary_ratio is None:
            raise ValueError("guidance_scale_2 is for models of two experts; this one has one")
        plan = plan_request(
            prompt=prompt or "",
            conditions=conditions,
            frames=num_frames,
            fps=fps,
            seed=seed,
            height=height,
            width=width,
            geometry=self.geometry,
            loop=loop,
        )
        track = self.track(conditions, height, width, conditioning)
        track.check(hands_over=len(plan.segments) > 1)
        sampler = self.sampler(
            num_inference_steps, guidance_scale, guidance_scale_2, image_guidance_scale
        )
        if draft is not None:
            entry(self.scheduler, sampler.steps, strength)
        drafts = drafts_of(
            draft,
            conditions=conditions,
            plan=plan,
            fit=lambda picture: fitted_picture(picture, self.video_processor, height, width),
        )

        def windows() -> Iterator[tuple[Segment, Tensor]]:
            latents_BCLHW: Tensor | None = None
            first_BCLHW: Tensor | None = None
            for segment in plan.segments:
                states = self.denoise_segment(
                    segment,
                    track=track,
                    previous_BCLHW=latents_BCLHW,
                    head_BCLHW=first_BCLHW,
                    height=height,
                    width=width,
                    draft=drafts(segment),
                    strength=strength,
                    sampler=sampler,
                    negative_prompt=negative_prompt,
                    generator=generator,
                    max_sequence_length=max_sequence_length,
                    prompt_embeds=prompt_embeds,
                    negative_prompt_embeds=negative_prompt_embeds,
                )
                latents_BCLHW = deque(states, maxlen=1)[0].latents_BCLHW
                if loop and first_BCLHW is None:
                    first_BCLHW = latents_BCLHW
                yield segment, latents_BCLHW

        runs = fuse(windows())
        if output_type == "latent":
            frames: Any = torch.cat(list(runs), dim=2)
        else:
            video_BCTHW = torch.cat(list(autoencoder.decode(self.vae, runs)), dim=2)
            frames = self.video_processor.postprocess_video(
                video_BCTHW[:, :, :num_frames], output_type=output_type
            )
        self.maybe_free_model_hooks()
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)
