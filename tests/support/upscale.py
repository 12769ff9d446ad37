"""A tiny super-resolution model, a smooth film for it, and a record of the model's calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from torch import nn

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from dreamontage.models.codec import LinearCodec
from dreamontage.models.random_weights import Z, tiny_text, tiny_transformer
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.pipeline.upscale import Upscaler, sr_channels, upscale
from dreamontage.pipeline.upscale.enlarge import enlarge
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import Segment, plan_shot
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.storyboard import PromptSpan

HEIGHT, WIDTH = 32, 48  # of the base film: 4 x 6 latents
FRAMES = 21  # 6 latents
STEPS = 5

Call = dict[str, Any]  # the keyword arguments of one call of the DiT


def sr_dit(seed: int = 0, **overrides: Any) -> DreaMontageTransformer3DModel:
    stock = tiny_transformer(sr_channels(Z), seed, **overrides)
    ours: DreaMontageTransformer3DModel = DreaMontageTransformer3DModel.from_config(stock.config)
    ours.eval()
    ours.load_state_dict(stock.state_dict())
    return ours


def smooth_film(seed: int, frames: int, height: int, width: int) -> torch.Tensor:
    coarse = torch.randn(1, 3, 4, 3, 4, generator=torch.Generator().manual_seed(seed))
    size = (frames, height, width)
    film = nn.functional.interpolate(coarse, size, mode="trilinear", align_corners=True)
    return film.tanh()


def linear_codec() -> LinearCodec:
    codec: LinearCodec = LinearCodec.fit(
        [smooth_film(seed, 9, HEIGHT, WIDTH) for seed in range(4)], z_dim=Z
    )
    return codec


@pytest.fixture(scope="module")
def sr_pipe() -> DreaMontagePipeline:
    """A tiny SR model. Its windows have 4 latents, of which 2 are the tail of the window before."""
    tokenizer, text_encoder = tiny_text()
    return DreaMontagePipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=linear_codec(),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=sr_dit(),
        window_latents=4,
        tail_latents=2,
        max_sequence_length=16,
        default_steps=STEPS,
        default_guidance=1.0,
        conditioning="interm",
    )


@pytest.fixture(scope="module")
def base_latents(sr_pipe: DreaMontagePipeline) -> torch.Tensor:
    return autoencoder.encode(sr_pipe.vae, smooth_film(7, FRAMES, HEIGHT, WIDTH))


def pictures(count: int, scale: float = 2.0) -> list[torch.Tensor]:
    film = smooth_film(8, count, int(HEIGHT * scale), int(WIDTH * scale))
    return list(film[0].unbind(1))


def still_and_clip(scale: float = 2.0) -> list[Keyframe | Clip]:
    """A still on latent 1 (its third frame) and a clip on latents 3 to 5."""
    still, *frames = pictures(10, scale)
    return [Keyframe(image=still, frame=3), Clip(frames=frames, frame=12)]


def segments_of(
    window: int, frames: int = FRAMES, tail: int = 2, loop: bool = False
) -> tuple[Segment, ...]:
    return plan_shot(
        frames=frames,
        fps=Fraction(16),
        prompts=[PromptSpan(text="the sea")],
        conditions=[],
        seed=3,
        geometry=Geometry(window_latents=window, tail_latents=tail),
        loop=loop,
    ).segments


def upscale_film(
    sr: DreaMontagePipeline,
    base: torch.Tensor,
    *,
    window: int = 4,
    tile: tuple[int, int] = (4, 6),
    overlap: int = 2,
    shared_rope: bool = True,
    strength: float = 0.7,
    spread: float | None = None,
    conditions: Sequence[Keyframe | Clip] | None = None,
    guidance: float = 1.0,
    seed: int = 5,
) -> torch.Tensor:
    """The base film at twice its size, by default with `still_and_clip` as its conditions."""
    upscaler = Upscaler(
        scale=2.0,
        tile_latents=tile,
        overlap_latents=overlap,
        shared_rope=shared_rope,
        strength=strength,
        spread=spread,
    )
    runs = upscale(
        base.split(1, dim=2),
        pipe=sr,
        upscaler=upscaler,
        segments=segments_of(window),
        height=HEIGHT,
        width=WIDTH,
        conditions=still_and_clip() if conditions is None else conditions,
        sampler=sr.sampler(STEPS, guidance),
        seed=seed,
    )
    return torch.cat(list(runs), dim=2)


def enlarged(sr: DreaMontagePipeline, base: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
    size = (int(HEIGHT * scale), int(WIDTH * scale))
    return torch.cat(list(enlarge(sr.vae, [base], size, size)), dim=2)


def track_of(sr: DreaMontagePipeline, scale: float = 2.0) -> IntermTrack:
    """`still_and_clip`, encoded at the target's size."""
    height, width = int(HEIGHT * scale), int(WIDTH * scale)
    return IntermTrack(
        each.place(lambda video: autoencoder.encode(sr.vae, video), height, width)
        for each in still_and_clip(scale)
    )


@contextmanager
def recorded_calls(model: nn.Module) -> Iterator[list[Call]]:
    """The arguments of every call of the DiT inside the block."""
    calls: list[Call] = []
    hook = model.register_forward_pre_hook(
        lambda _, __, inputs: calls.append(inputs), with_kwargs=True
    )
    try:
        yield calls
    finally:
        hook.remove()
