"""The super-resolution stage is the model called directly, and each setting has an effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from dreamontage import DreaMontagePipeline
from dreamontage.models.random_weights import Z
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.pipeline.upscale import Upscaler, sr_channels
from dreamontage.pipeline.upscale.model import SrModel
from dreamontage.pipeline.upscale.stage import sr_model
from dreamontage.storyboard.seeds import derive
from tests.support.upscale import (
    STEPS,
    enlarged,
    sr_dit,
    track_of,
    upscale_film,
)


@torch.no_grad()
def reference(sr: DreaMontagePipeline, base: torch.Tensor, *, shared_rope: bool) -> torch.Tensor:
    """The whole film in one window and one tile, written out without any tiling code."""
    film, track = enlarged(sr, base), track_of(sr)
    noise = torch.cat([noise_of(latent) for latent in range(film.shape[2])], dim=2)
    beside = torch.cat([track.window(0, 6, None, film), film], dim=1)
    prompt, _ = sr.encode_prompt("the sea", "", False, max_sequence_length=16, device="cpu")
    scheduler = UniPCMultistepScheduler.from_config(sr.scheduler.config)
    scheduler.set_timesteps(STEPS)
    first = next(i for i, level in enumerate(scheduler.sigmas.tolist()) if level <= 0.7)
    latents: torch.Tensor = torch.lerp(film, noise, scheduler.sigmas[first].item())
    shared: dict[str, Any] = {}
    if shared_rope:
        still, clip = track.placements
        third, last = torch.zeros(2, 1, 4, 1, 8, 12)
        third[:, 2], last[:, 3] = 1, 1  # a still on its latent's third frame, a clip from the last
        clip_latent = clip.latents_BCLHW[:, :, :1]
        frames = [
            torch.cat([latent, mask, latent, latent], dim=1)
            for latent, mask in [(still.latents_BCLHW, third), (clip_latent, last)]
        ]
        shared = {"shared_states": torch.cat(frames, dim=2), "shared_frames": [1, 3]}
    for t in scheduler.timesteps[first:]:
        (velocity,) = sr.transformer(
            torch.cat([latents, beside], dim=1), t.expand(1), prompt, return_dict=False, **shared
        )
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
    return latents


def noise_of(latent: int) -> torch.Tensor:
    """A latent's noise depends on the seed and on its place in the shot, not on its window."""
    generator = torch.Generator().manual_seed(derive(5, "upscale", latent))
    return torch.randn(1, Z, 1, 8, 12, generator=generator)


@pytest.mark.parametrize("shared_rope", [True, False])
def test_one_tile_and_one_window_are_the_model_called_directly(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor, shared_rope: bool
) -> None:
    """Bit for bit. With Shared-RoPE off that is plain channel concat and nothing else."""
    expected = reference(sr_pipe, base_latents, shared_rope=shared_rope)
    assert torch.equal(
        upscale_film(sr_pipe, base_latents, window=6, tile=(8, 12), shared_rope=shared_rope),
        expected,
    )
    assert torch.equal(
        upscale_film(sr_pipe, base_latents, window=9, tile=(20, 40), shared_rope=shared_rope),
        expected,
    )


def test_shared_rope_tiles_and_windows_each_do_something(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    whole = upscale_film(sr_pipe, base_latents, window=6, tile=(8, 12))
    for other in (
        upscale_film(sr_pipe, base_latents, window=6, tile=(8, 12), shared_rope=False),
        upscale_film(sr_pipe, base_latents, window=6, tile=(4, 6)),
        upscale_film(sr_pipe, base_latents, window=4, tile=(8, 12)),
        upscale_film(sr_pipe, base_latents, window=6, tile=(8, 12), conditions=[]),
    ):
        assert other.shape == whole.shape
        assert (other - whole).abs().max() > 1e-4


def test_without_conditions_shared_rope_changes_nothing(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    assert torch.equal(
        upscale_film(sr_pipe, base_latents, conditions=[]),
        upscale_film(sr_pipe, base_latents, conditions=[], shared_rope=False),
    )


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_an_untrained_flow_that_starts_from_the_film_changes_nothing(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor, spread: float
) -> None:
    untrained = sr_dit()
    torch.nn.init.zeros_(untrained.proj_out.weight)
    torch.nn.init.zeros_(untrained.proj_out.bias)
    pipe = DreaMontagePipeline(**sr_pipe.components | {"transformer": untrained})
    made = upscale_film(pipe, base_latents, strength=1.0, spread=spread)
    noise = torch.cat([noise_of(latent) for latent in range(made.shape[2])], 2)
    assert torch.allclose(made, enlarged(sr_pipe, base_latents) + spread * noise, atol=1e-3)


def test_the_seed_and_nothing_else_decides_the_noise(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    torch.manual_seed(0)
    one = upscale_film(sr_pipe, base_latents)
    torch.manual_seed(1)
    assert torch.equal(one, upscale_film(sr_pipe, base_latents))
    assert not torch.equal(one, upscale_film(sr_pipe, base_latents, seed=6))


def test_guidance_changes_the_film(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    assert not torch.equal(
        upscale_film(sr_pipe, base_latents), upscale_film(sr_pipe, base_latents, guidance=3.0)
    )


def test_an_sr_model_is_a_grown_base_model_in_a_folder_like_any_other(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor, tmp_path: Path
) -> None:
    """Saved and loaded, it gives the same film, and has the same settings of an `Upscaler`."""
    transformer = DreaMontageTransformer3DModel.from_config(
        sr_pipe.transformer.config | {"in_channels": 12}
    )
    transformer.grow_input(sr_channels(Z))
    grown = DreaMontagePipeline(**sr_pipe.components | {"transformer": transformer.eval()})
    own = {"tile_latents": [4, 6], "overlap_latents": 2, "strength": 0.5}
    grown.register_to_config(max_sequence_length=16, superres=own)
    grown.save_pretrained(tmp_path)
    again = DreaMontagePipeline.from_pretrained(tmp_path)
    # Where weights lie in memory may change a product's last bit.
    torch.testing.assert_close(
        upscale_film(again, base_latents), upscale_film(grown, base_latents), rtol=0, atol=1e-5
    )
    assert SrModel.from_folder(tmp_path).upscaler(2.0) == sr_model(again).upscaler(2.0)
    assert sr_model(again).upscaler(2.0) == Upscaler(
        scale=2.0, tile_latents=(4, 6), overlap_latents=2, strength=0.5
    )
