"""``DreaMontagePipeline``: what a notebook user calls, and what the farm's workers hold in memory.

Built on diffusers' Wan pipelines for what they do well (text, loading, LoRA, offload) and on our
own loop for what they do not: conditions anywhere in time, segments, resumable states, constant
memory.

Shape legend: B batch, C channels, T pixel frames, L latent frames, H W height and width.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from dreamontage import notation
from dreamontage.conditioning import (
    MASK_CHANNELS,
    Clip,
    IntermTrack,
    Keyframe,
    NativeTrack,
    Picture,
    Track,
)
from dreamontage.models import autoencoder
from dreamontage.models.folder import folder_revision
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.plan import Geometry, Placed, Segment, plan_shot
from dreamontage.sampling import Denoiser, DenoiseState, denoise
from dreamontage.sar import fuse, tail_of
from dreamontage.storyboard import PromptSpan

Conditioning = Literal["native", "interm"]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How a segment is denoised. ``guidance`` of 1 asks the model once a step instead of twice."""

    steps: int
    guidance: float
    guidance_low_noise: float | None = None  # for the second expert; None: the same


class DreaMontagePipeline(WanImageToVideoPipeline):  # type: ignore[misc]
    """Conditions anywhere in time, shots of any length, from a Wan folder or from one of ours.

    ``window_latents``: the longest window the model was trained on. ``tail_latents``: how many
        latents a segment hands to the next. ``conditioning``: "interm" for weights tuned on
        conditions encoded alone, "native" for stock Wan weights, which know them in a grey-filled
        film. ``maturity``: "smoke" for weights too little trained to show; films made with them say
        so.
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
        conditioning: str = "native",
        maturity: str | None = None,
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
            conditioning=conditioning,
            maturity=maturity,
        )
        self.revision = "unsaved"
        self.set_progress_bar_config(disable=True)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a model folder: ours, or a Wan checkpoint in diffusers' layout, unchanged.

        Raises:
            ValueError: if the folder holds no ``model_index.json``.
        """
        folder = Path(pretrained_model_name_or_path)
        if (
            not folder.is_dir() and not folder.is_absolute() and len(folder.parts) == 2
        ):  # a hub's owner/name
            folder = Path(cls.download(str(pretrained_model_name_or_path)))
        index_file = folder / "model_index.json"
        if not index_file.is_file():
            raise ValueError(f"{folder} is no model folder: it holds no model_index.json")
        index = json.loads(index_file.read_text())
        dtype = kwargs.get("dtype")
        for name in ("transformer", "transformer_2"):
            # A stock folder names diffusers' class here; ours loads the same files. Our own
            # folders name ours, which diffusers finds by itself.
            if name not in kwargs and index.get(name, [None])[0] == "diffusers":
                kwargs[name] = DreaMontageTransformer3DModel.from_pretrained(
                    folder / name, dtype=dtype
                )
        pipe: Self = super().from_pretrained(str(folder), **kwargs)
        pipe.revision = folder_revision(folder)
        return pipe

    @property
    def geometry(self) -> Geometry:
        spatial = self.vae.config.scale_factor_spatial * max(self.transformer.config.patch_size[1:])
        return Geometry(
            window_latents=self.config.window_latents,
            tail_latents=self.config.tail_latents,
            spatial_multiple=max(16, spatial),
        )

    @property
    def takes_conditions(self) -> bool:
        """Whether the DiT has channels for the mask and the condition latents."""
        z = int(self.vae.config.z_dim)
        return bool(self.transformer.config.in_channels == z + MASK_CHANNELS + z)

    def sampler(
        self,
        steps: int | None = None,
        guidance: float | None = None,
        guidance_low_noise: float | None = None,
    ) -> Sampler:
        """The given settings, and the model's own for those not given."""
        return Sampler(
            steps=self.config.default_steps if steps is None else steps,
            guidance=self.config.default_guidance if guidance is None else guidance,
            guidance_low_noise=guidance_low_noise,
        )

    def track(
        self,
        conditions: Sequence[Keyframe | Clip],
        height: int,
        width: int,
        conditioning: Conditioning | None = None,
    ) -> Track:
        """Put the conditions onto the shot's latent timeline, encoded as the model was trained to
        see them.
        """

        def encode(video_BCTHW: Tensor) -> Tensor:
            return autoencoder.encode(self.vae, video_BCTHW)

        if (conditioning or self.config.conditioning) == "native":
            return NativeTrack(conditions, encode, height, width)
        return IntermTrack(condition.place(encode, height, width) for condition in conditions)

    def denoise_segment(
        self,
        segment: Segment,
        *,
        track: Track,
        previous_BCLHW: Tensor | None,
        height: int,
        width: int,
        sampler: Sampler,
        negative_prompt: str = "",
        generator: torch.Generator | None = None,
        state: DenoiseState | None = None,
    ) -> Iterator[DenoiseState]:
        """Denoise one window of a shot, resumably. The last state holds the window's latents.

        Args:
            previous_BCLHW: the latents of the segment before; None for the first.
            generator: where the noise comes from; by default the segment's own seed, which is what
                makes it repeatable.
            state: a stored state of this very segment to go on from.
        """
        device = self._execution_device
        z, scale = int(self.vae.config.z_dim), int(self.vae.config.scale_factor_spatial)
        shape = (1, z, segment.latents, height // scale, width // scale)
        noise_BCLHW = randn_tensor(
            shape,
            generator or torch.Generator("cpu").manual_seed(segment.seed),
            device,
            torch.float32,
        )
        tail_BCLHW = None if previous_BCLHW is None else tail_of(segment, previous_BCLHW)
        condition_BCLHW = None
        if self.takes_conditions:
            condition_BCLHW = track.window(segment.start, segment.stop, tail_BCLHW, noise_BCLHW)
        elif not track.empty or tail_BCLHW is not None:
            raise ValueError(
                f"this model has {self.transformer.config.in_channels} input channels and so takes "
                "no conditions: "
                "use image-to-video weights, or tune text-to-video weights grown by grow_input()"
            )
        guidances = [sampler.guidance]
        experts = [self.transformer]
        boundary = None
        if self.config.boundary_ratio is not None:
            experts.append(self.transformer_2)
            low = sampler.guidance_low_noise
            guidances.append(sampler.guidance if low is None else low)
            boundary = self.config.boundary_ratio * self.scheduler.config.num_train_timesteps
        prompt_BSD, negative_prompt_BSD = self.encode_prompt(
            prompt=segment.prompt,
            negative_prompt=negative_prompt,
            do_classifier_free_guidance=sampler.guidance > 1,
            max_sequence_length=self.config.max_sequence_length,
            device=device,
            dtype=self.transformer.dtype,
        )
        denoiser = Denoiser(
            experts=experts,
            guidance=guidances,
            prompt_BSD=prompt_BSD,
            negative_prompt_BSD=negative_prompt_BSD,
            condition_BCLHW=condition_BCLHW,
            boundary=boundary,
        )
        return denoise(
            denoiser, self.scheduler, noise_BCLHW=noise_BCLHW, steps=sampler.steps, state=state
        )

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        negative_prompt: str = "",
        conditions: Sequence[Keyframe | Clip] = (),
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        fps: float = 16,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_scale_2: float | None = None,
        generator: torch.Generator | None = None,
        seed: int = 0,
        output_type: str = "np",
        conditioning: Conditioning | None = None,
        return_dict: bool = True,
    ) -> WanPipelineOutput | tuple[Any]:
        """Render one shot. Longer than the window, it goes through segments; ``num_frames`` may be
        any count.

        Args:
            prompt: plain, or time-stamped: ``"[0, 2.5] zoom in; [2.5, 5] he walks"``, in seconds.
            conditions: stills and clips, any number, anywhere; other sizes are resized as diffusers
                does it.
            generator: where the segments' noise comes from, as in diffusers; without one, each
                segment's own seed.
            conditioning: how conditions are encoded, if not as the checkpoint's config says.

        Returns:
            ``.frames``: (1, T, H, W, 3) float in [0, 1] for "np", a list of PIL images for "pil",
                (1, T, 3, H, W) for "pt", and the fused latents (1, C, L, h, w) for "latent".

        Raises:
            ValueError: for a condition outside the shot, an unreadable prompt, or a size off the
                model's grid.
        """
        multiple = self.geometry.spatial_multiple
        if height % multiple or width % multiple:
            raise ValueError(
                f"height and width must be multiples of {multiple}, and are {height} and {width}"
            )
        for index, condition in enumerate(placed(conditions)):
            if condition.stop > num_frames:
                raise ValueError(
                    f"conditions[{index}] reaches frame {condition.stop - 1}, past the shot's "
                    f"last frame, {num_frames - 1}"
                )
        spans, problems = notation.parse(prompt)
        if problems:
            raise ValueError("; ".join(f"prompt {problem}" for problem in problems))
        conditions = [self._prepared(condition, height, width) for condition in conditions]
        plan = plan_shot(
            frames=num_frames,
            fps=Fraction(str(fps)),
            prompts=[PromptSpan.model_validate(span) for span in spans],
            conditions=placed(conditions),
            seed=seed,
            geometry=self.geometry,
        )
        sampler = self.sampler(num_inference_steps, guidance_scale, guidance_scale_2)
        track = self.track(conditions, height, width, conditioning)

        def windows() -> Iterator[tuple[Segment, Tensor]]:
            latents_BCLHW: Tensor | None = None
            for segment in plan.segments:
                states = self.denoise_segment(
                    segment,
                    track=track,
                    previous_BCLHW=latents_BCLHW,
                    height=height,
                    width=width,
                    sampler=sampler,
                    negative_prompt=negative_prompt,
                    generator=generator,
                )
                latents_BCLHW = deque(states, maxlen=1)[0].latents_BCLHW
                yield segment, latents_BCLHW

        runs = fuse(windows())
        if output_type == "latent":
            frames: Any = torch.cat(list(runs), dim=2)
        else:
            video_BCTHW = torch.cat(list(autoencoder.decode(self.vae, runs)), dim=2)[
                :, :, :num_frames
            ]
            frames = self.video_processor.postprocess_video(video_BCTHW, output_type=output_type)
        self.maybe_free_model_hooks()
        return WanPipelineOutput(frames=frames) if return_dict else (frames,)

    def _prepared(self, condition: Keyframe | Clip, height: int, width: int) -> Keyframe | Clip:
        """The condition with its pictures as (3, H, W) tensors, resized and scaled as diffusers
        does it.
        """

        def tensor(picture: Picture) -> Tensor:
            if isinstance(picture, np.ndarray):
                picture = Image.fromarray(picture)
            pixels_BCHW: Tensor = self.video_processor.preprocess(
                picture, height=height, width=width
            )
            return pixels_BCHW[0]

        if isinstance(condition, Keyframe):
            return Keyframe(image=tensor(condition.image), frame=condition.frame)
        return Clip(frames=[tensor(picture) for picture in condition.frames], frame=condition.frame)


def placed(conditions: Sequence[Keyframe | Clip]) -> list[Placed]:
    """The conditions as the planner knows them."""
    return [
        Placed(index=index, kind="clip", frame=condition.frame, frames=len(condition.frames))
        if isinstance(condition, Clip)
        else Placed(index=index, kind="keyframe", frame=condition.frame, frames=1)
        for index, condition in enumerate(conditions)
    ]
