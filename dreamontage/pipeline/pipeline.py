"""``DreaMontagePipeline``: what a notebook user calls, and what the farm's workers hold in memory.

Built on diffusers' Wan pipelines for what they do well (text, loading, LoRA, offload) and on our
own loop for what they do not: conditions anywhere in time, segments, resumable states, constant
memory.

Shape legend: B batch, C channels, T pixel frames, L latent frames, H W height and width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Unpack

import torch
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from torch import Tensor

from dreamontage.families.tasks import prepare
from dreamontage.families.wan import Window
from dreamontage.models import autoencoder
from dreamontage.pipeline.coarse import coarse_condition, coarse_draft, fine_drafts, refinable
from dreamontage.pipeline.folder import FolderPipeline
from dreamontage.pipeline.interpolation import drafts_of
from dreamontage.pipeline.request import checked_request
from dreamontage.pipeline.revision import unsaved
from dreamontage.pipeline.sar import chain, fuse, tail_of
from dreamontage.pipeline.window import (
    TextOptions,
    draft_latents,
    image_embeds,
    noise_of,
    window_model,
    with_loop_head,
)
from dreamontage.planning.coarse import STRENGTH
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import Segment, ShotPlan
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.sampling.conditioning.model_inputs import (
    Conditioning,
    ShotConditions,
    fitted_picture,
    shot_conditions,
)
from dreamontage.sampling.conditioning.modes import ConditioningMode
from dreamontage.sampling.conditioning.pictures import Picture
from dreamontage.sampling.denoise import Sampler, denoise
from dreamontage.sampling.schedulers import check_scheduler, with_timesteps
from dreamontage.sampling.start import noised_state, start_step
from dreamontage.sampling.state import DenoiseState
from dreamontage.storyboard import DEFAULT_STRENGTH, Coarse


class DreaMontagePipeline(FolderPipeline):
    """Conditions anywhere in time, shots of any length, from a Wan folder or from one of ours.

    ``window_latents``: the longest window the model was trained on.
    ``tail_latents``: how many latents a segment hands to the next.
    ``initial_noise_scale``: the spread of the noise that films begin with, over what it was in
        training, in the first ``initial_noise_scale_channels`` of the latents, or in all. The lower
        it is, the nearer is a film to the mean of what the model holds for possible: what Kingma
        and Dhariwal, "Glow", 2018, call a temperature.
    ``conditioning``: "interm" for weights tuned on conditions encoded alone, "native" for stock Wan
        weights, which know them in a grey-filled film.
    ``release_stage``: "smoke" for weights too little trained to show; films made with them say so.
    ``superres``: what a super-resolution model brings of an `upscale.Upscaler`.
    ``batched_guidance``: whether the calls of a step are made in one batch (a speed option).
    """

    batched_guidance = False

    def __init__(  # noqa: PLR0913 (diffusers loads components and config by it)
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
        initial_noise_scale: float = 1.0,
        initial_noise_scale_channels: int | None = None,
        conditioning: str = "native",
        release_stage: str | None = None,
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
            initial_noise_scale=initial_noise_scale,
            initial_noise_scale_channels=initial_noise_scale_channels,
            conditioning=conditioning,
            release_stage=release_stage,
            superres=superres,
        )
        self.revision = unsaved()
        self.set_progress_bar_config(disable=True)

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
            mode=ConditioningMode.from_config(
                in_channels=config.in_channels,
                z_dim=self.vae.config.z_dim,
                expand_timesteps=self.config.expand_timesteps,
            ),
            conditioning=conditioning or self.config.conditioning,
            has_image_encoder=config.image_dim is not None,
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
        draft: Sequence[Picture] | Tensor | None = None,
        strength: float = DEFAULT_STRENGTH,
        height: int,
        width: int,
        sampler: Sampler,
        generator: torch.Generator | None = None,
        state: DenoiseState | None = None,
        **text: Unpack[TextOptions],
    ) -> Iterator[DenoiseState]:
        """Denoise one window of a shot, resumably. The last state holds the window's latents.

        Args:
            previous_BCLHW: the latents of the segment before; None for the first.
            head_BCLHW: the latents of the first segment, for the closing one of a loop.
            draft: pictures to start from instead of pure noise, of the shot's size, one for each
                of the frames of ``draft_window.window(segment)``; or their latents_BCLHW.
            strength: the noise level, in (0, 1], to which the draft is noised.
            generator: where the noise comes from, and with it what a scheduler draws in its steps;
                by default the segment's own seed, which is what makes it repeatable.
            state: a stored state of this very segment to go on from.
            text: negative prompt, embeddings and length, as `TextOptions` has them.

        Raises:
            ValueError: for what this model cannot take, and for a scheduler whose noise cannot be
                repeated.
        """
        check_scheduler(self.scheduler)
        # A scheduler that draws noise goes on drawing where the window's own noise ended.
        generator = generator or torch.Generator("cpu").manual_seed(segment.seed)
        noise_BCLHW = noise_of(self, segment, height, width, generator)
        tail_BCLHW = None if previous_BCLHW is None else tail_of(segment, previous_BCLHW)
        conditions, unconditional = with_loop_head(
            self, segment, head_BCLHW, track, track.unconditional()
        )
        if draft is not None and state is None:
            film_BCLHW = draft_latents(
                self,
                draft,
                segment,
                size=(height, width),
                tail_BCLHW=tail_BCLHW,
                head_BCLHW=head_BCLHW,
            )
            state = noised_state(
                self.scheduler,
                steps=sampler.steps,
                strength=strength,
                film=film_BCLHW,
                noise=noise_BCLHW,
            )
        # A draft is noised as in training, and nothing else begins with this noise then.
        channels = self.config.initial_noise_scale_channels
        noise_BCLHW[:, :channels] *= self.config.initial_noise_scale
        image_guided = sampler.image_guidance != 1 and segment.has_image_condition
        window = Window(
            segment=segment,
            conditions=conditions,
            unconditional=unconditional if image_guided else None,
            noise_BCLHW=noise_BCLHW,
            tail_BCLHW=tail_BCLHW,
            scheduler=with_timesteps(self.scheduler, sampler.steps, self._execution_device),
            generator=generator,
        )
        model = window_model(
            self,
            segment,
            sampler=sampler,
            image_guided=image_guided,
            image_BSD=image_embeds(self, segment, conditions, tail_BCLHW),
            text=text,
        )
        return denoise(prepare(window, model), state)

    @torch.no_grad()
    def __call__(  # noqa: PLR0913 (the arguments of diffusers' own call, and a shot's)
        self,
        prompt: str | None = None,
        negative_prompt: str = "",
        conditions: Sequence[Keyframe | Clip] = (),
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        fps: float = 16,
        loop: bool = False,
        coarse: Coarse = "off",
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
    ) -> WanPipelineOutput:
        """Render one shot, of any length. One longer than the window goes through segments.

        Args:
            prompt: plain, or time-stamped: ``"[0, 2.5] zoom in; [2.5, 5] he walks"``, in seconds.
            conditions: stills and clips, any number, anywhere; other sizes are resized as diffusers
                does it.
            loop: the first frame follows the last one without a seam. ``num_frames`` must be a
                multiple of four.
            coarse: render every 2nd, 4th or 8th frame first and refine from there, for conditions
                that lie further apart than a window reaches; "auto": where it is needed.
            draft: start from a draft film instead of pure noise: a picture for every frame, or
                "auto", which makes one of the conditions by optical flow. A coarse film starts from
                it, if there is one.
            strength: the noise level, in (0, 1], to which the draft is noised: the lower, the more
                of it stays.
            generator: where the segments' noise comes from, as in diffusers; without one, each
                segment's own seed.
            image_guidance_scale: how far the conditions move the film, over how far they would by
                themselves; other than 1 it calls the model once more a step.
            prompt_embeds: (1, S, D), in place of ``prompt``; the same for every segment.
            conditioning: how conditions are encoded; None for the checkpoint's own way.

        Returns:
            ``.frames``: (1, T, H, W, 3) float in [0, 1] for "np", a list of PIL images for "pil",
                (1, T, 3, H, W) for "pt", and the fused latents (1, C, L, h, w) for "latent"; in a
                tuple with ``return_dict=False``.

        Raises:
            ValueError: for a condition outside the shot or on another's place, an unreadable
                prompt, a size off the model's grid, a length that no loop can have, a draft that
                is too short or has nothing to be made of, or what this model cannot take.
        """
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("give either prompt or prompt_embeds")
        if guidance_scale_2 is not None and self.config.boundary_ratio is None:
            raise ValueError("guidance_scale_2 is for models of two experts; this one has one")
        request = checked_request(
            prompt=prompt or "",
            conditions=conditions,
            frames=num_frames,
            fps=fps,
            seed=seed,
            height=height,
            width=width,
            geometry=self.geometry,
            loop=loop,
            coarse=coarse,
        )
        plan = request.plan(self.geometry)
        sampler = self.sampler(
            num_inference_steps, guidance_scale, guidance_scale_2, image_guidance_scale
        )
        can_refine = refinable(self.scheduler, sampler.steps)
        level = request.coarse_level(self.geometry, refinable=can_refine)
        if draft is not None:
            start_step(self.scheduler, sampler.steps, strength)

        def fit(picture: Picture) -> Picture:
            return fitted_picture(picture, self.video_processor, height, width)

        def runs_of(
            plan: ShotPlan,
            conditions: Sequence[Keyframe | Clip],
            drafts: Callable[[Segment], Sequence[Picture] | None],
            strength: float,
        ) -> Iterator[Tensor]:
            track = self.track(conditions, height, width, conditioning)
            track.check(has_tail=len(plan.segments) > 1)

            def states(
                segment: Segment, previous_BCLHW: Tensor | None, first_BCLHW: Tensor | None
            ) -> Iterator[DenoiseState]:
                return self.denoise_segment(
                    segment,
                    track=track,
                    previous_BCLHW=previous_BCLHW,
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

            return fuse(chain(plan.segments, states))

        if level is None:
            drafts = drafts_of(draft, conditions=conditions, plan=plan, fit=fit)
            runs = runs_of(plan, conditions, drafts, strength)
        else:
            few = [coarse_condition(each, conditions[each.source]) for each in level.conditions]
            few_pictures = coarse_draft(draft, level, frames=num_frames)
            drafts = drafts_of(few_pictures, conditions=few, plan=level.plan, fit=fit)
            film_BCTHW = self._decoded(runs_of(level.plan, few, drafts, strength))
            drafts = fine_drafts(level, autoencoder.to_uint8(film_BCTHW))
            runs = runs_of(plan, conditions, drafts, STRENGTH)
        if output_type == "latent":
            frames: Any = torch.cat(list(runs), dim=2)
        else:
            video_BCTHW = self._decoded(runs)
            frames = self.video_processor.postprocess_video(
                video_BCTHW[:, :, :num_frames], output_type=output_type
            )
        self.maybe_free_model_hooks()
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)

    def _decoded(self, runs: Iterator[Tensor]) -> Tensor:
        return torch.cat(list(autoencoder.decode(self.vae, runs)), dim=2)
