"""Target sizes of the super-resolution stage, and the settings and inputs that it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from dreamontage import DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from dreamontage.models.random_weights import Z, tiny_transformer
from dreamontage.pipeline.upscale import Upscaler, upscale
from dreamontage.pipeline.upscale.stage import grid_of
from tests.support.upscale import (
    HEIGHT,
    STEPS,
    WIDTH,
    pictures,
    recorded_calls,
    segments_of,
    smooth_film,
    upscale_film,
)


@pytest.mark.parametrize(
    ("scale", "height", "width", "target", "padded"),
    [
        (1.5, 32, 64, (48, 96), (48, 96)),
        (2, 16, 48, (32, 96), (32, 96)),
        (2.25, 64, 128, (144, 288), (144, 288)),
        (2.25, 480, 832, (1080, 1872), (1088, 1872)),
        (1.5, 32, 48, (48, 72), (48, 80)),
    ],
)
def test_a_target_is_what_was_asked_for_and_worked_at_on_the_grid(
    sr_pipe: DreaMontagePipeline,
    scale: float,
    height: int,
    width: int,
    target: tuple[int, int],
    padded: tuple[int, int],
) -> None:
    upscaler = Upscaler(scale=scale)
    assert upscaler.size(height, width) == target
    assert upscaler.padded(height, width, multiple=grid_of(sr_pipe)) == padded


def test_a_target_of_half_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^width = 90 times 2.25 is 202.5, .* a multiple of 4$"):
        Upscaler(scale=2.25).size(64, 90)


def test_off_the_grid_the_last_rows_and_columns_are_repeated_and_nothing_is_squeezed(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    """48x32 times 1.5 is 72x48, on the grid of 16: 80x48."""
    upscaler = Upscaler(scale=1.5, tile_latents=(6, 10), overlap_latents=2)
    still = smooth_film(8, 1, 48, 72)[0, :, 0]
    with recorded_calls(sr_pipe.transformer) as calls:
        runs = upscale(
            [base_latents],
            pipe=sr_pipe,
            upscaler=upscaler,
            segments=segments_of(6),
            height=HEIGHT,
            width=WIDTH,
            conditions=[Keyframe(image=still, frame=0)],
            sampler=sr_pipe.sampler(STEPS, 1.0),
        )
        film = torch.cat(list(runs), dim=2)
    assert film.shape[3:] == (6, 10)
    channels = calls[0]["hidden_states"]
    wide = torch.cat([still, still[:, :, -1:].expand(-1, -1, 8)], dim=2)
    expected = autoencoder.encode(sr_pipe.vae, wide[None, :, None])
    assert torch.equal(channels[:, 8:12, :1], expected)
    frames = torch.cat(list(autoencoder.decode(sr_pipe.vae, [base_latents])), dim=2)[0].transpose(
        0, 1
    )
    large = torch.nn.functional.interpolate(frames, (48, 72), mode="bicubic")
    large = torch.nn.functional.pad(large, (0, 8, 0, 0), mode="replicate").clamp(-1, 1)
    assert torch.equal(
        channels[:, 12:], autoencoder.encode(sr_pipe.vae, large.transpose(0, 1)[None])
    )
    with pytest.raises(ValueError, match="picture is 80x48, the shot is 72x48"):
        upscale(
            [base_latents],
            pipe=sr_pipe,
            upscaler=upscaler,
            segments=segments_of(6),
            height=HEIGHT,
            width=WIDTH,
            conditions=[Keyframe(image=wide, frame=0)],
        )


@pytest.mark.parametrize("scale", [1.5, 2, 2.25])
def test_every_scale_gives_a_film_of_its_size(sr_pipe: DreaMontagePipeline, scale: float) -> None:
    film = smooth_film(9, 5, 64, 64)
    runs = upscale(
        [autoencoder.encode(sr_pipe.vae, film)],
        pipe=sr_pipe,
        upscaler=Upscaler(scale=scale, tile_latents=(8, 8), overlap_latents=2),
        segments=segments_of(4, frames=5),
        height=64,
        width=64,
    )
    video = torch.cat(list(autoencoder.decode(sr_pipe.vae, runs)), dim=2)
    assert video.shape == (1, 3, 5, 64 * scale, 64 * scale)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 3.0}, "scale = 3.0 must be one of 1.5, 2.0, 2.25"),
        ({"scale": 2.0, "overlap_latents": 60}, "overlap_latents = 60 must be"),
        ({"scale": 2.0, "strength": 0.0}, "strength = 0.0 must lie above 0"),
        ({"scale": 2.0, "spread": 0.1}, "spread = 0.1 must be at least 0, and strength = 0.7 then"),
        ({"scale": 2.0, "spread": -1, "strength": 1}, "spread = -1 must be at least 0"),
    ],
)
def test_settings_name_their_rule(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Upscaler(**fields)


def test_errors_are_reported_before_anything_runs(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    def start(**overrides: Any) -> Iterator[torch.Tensor]:
        call: dict[str, Any] = {
            "pipe": sr_pipe,
            "upscaler": Upscaler(scale=2),
            "height": HEIGHT,
            "width": WIDTH,
        }
        return upscale([base_latents], segments=segments_of(4), **(call | overrides))

    with pytest.raises(
        ValueError, match="tile_latents' height, 5, and overlap_latents = 2 must be"
    ):
        start(upscaler=Upscaler(scale=2, tile_latents=(5, 6), overlap_latents=2))
    with pytest.raises(ValueError, match=r"strength = 0.1 is below the last noise level of 5"):
        start(upscaler=Upscaler(scale=2, strength=0.1))
    with pytest.raises(ValueError, match="picture is 48x32, the shot is 96x64"):
        start(conditions=[Keyframe(image=pictures(1, 1.0)[0], frame=0)])
    no_sr = DreaMontagePipeline(**sr_pipe.components | {"transformer": tiny_transformer(2 * Z + 4)})
    with pytest.raises(ValueError, match=r"transformer.in_channels = 12, .* has 16"):
        start(pipe=no_sr)


def test_latents_and_segments_must_agree(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    for latents, message in [
        (base_latents[:, :, :5], "latents end at 5, the segments at 6"),
        (torch.cat([base_latents, base_latents[:, :, -1:]], dim=2), "latents go on after 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            upscale_film(sr_pipe, latents)
