"""Tiles cover a picture, their weights sum to one, and their seams do not show."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest
import torch
from diffusers import UniPCMultistepScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamontage.families.tiling import ramps, tiles
from dreamontage.families.wan import WanModel
from dreamontage.families.wan_sr import WanSrTask
from dreamontage.models.random_weights import TEXT, Z
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.planning.upscale_settings import spans
from dreamontage.sampling.denoise import denoise
from dreamontage.sampling.guiders import Branch
from dreamontage.sampling.schedulers import with_timesteps
from dreamontage.sampling.state import DenoiseState
from tests.support.upscale import (
    sr_dit,
)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_tiles_cover_the_picture_and_their_weights_sum_to_one(data: st.DataObject) -> None:
    multiple = data.draw(st.sampled_from([1, 2]), "patch")
    size = multiple * data.draw(st.integers(1, 20), "tile")
    overlap = multiple * data.draw(st.integers(0, size // multiple - 1), "overlap")
    length = multiple * data.draw(st.integers(1, 80), "length")
    covering = spans(length, size, overlap, multiple)
    assert covering[0].start == 0
    assert covering[-1].stop == length
    assert {len(span) for span in covering} == {min(size, length)}
    for one, next_ in pairwise(covering):
        assert one.start < next_.start <= one.stop - overlap
        assert next_.start % multiple == 0
    if len(covering) > 1:  # no more tiles than are needed
        assert (len(covering) - 1) * (size - overlap) + overlap < length
    total = torch.zeros(length)
    for span, weight in zip(covering, ramps(covering), strict=True):
        assert (weight > 0).all()
        total[span.start : span.stop] += weight
    torch.testing.assert_close(total, torch.ones(length), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 40), width=st.integers(1, 40), overlap=st.integers(0, 5))
def test_weights_of_tiles_both_ways_sum_to_one(height: int, width: int, overlap: int) -> None:
    total = torch.zeros(height, width)
    for tile in tiles(height, width, size=(6, 9), overlap=overlap, patch=(1, 1)):
        tile.crop(total).add_(tile.weight_HW)
    torch.testing.assert_close(total, torch.ones(height, width), atol=1e-6, rtol=0)


def test_two_tiles_fade_linearly() -> None:
    left, right = ramps([range(6), range(3, 9)])
    torch.testing.assert_close(left, torch.tensor([1, 1, 1, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(right, torch.tensor([0.25, 0.5, 0.75, 1, 1, 1]))


def tiled(
    model: DreaMontageTransformer3DModel, film: torch.Tensor, size: tuple[int, int], overlap: int
) -> torch.Tensor:
    """A smooth film, denoised without added noise: noise would hide seams."""
    height, width = film.shape[3:]
    beside = torch.cat([torch.zeros(1, 4 + Z, *film.shape[2:]), film], dim=1)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    prompt = torch.randn(1, 5, TEXT, generator=torch.Generator().manual_seed(1))
    task = WanSrTask(
        model=WanModel(experts=[model], guiders=[[]], prompts={Branch.CONDITIONAL: prompt}),
        latents=film,
        scheduler=with_timesteps(scheduler, 6),
        generator=None,
        channels_BCLHW=beside,
        tiles=tiles(height, width, size=size, overlap=overlap, patch=(1, 1)),
    )
    start = DenoiseState(step=2, total=6, latents=film, scheduler={})
    return deque(denoise(task, start), maxlen=1)[0].latents


def border_step(film: torch.Tensor, size: tuple[int, int], overlap: int) -> float:
    """The mean step between neighbouring latents across the tiles' borders, over the mean step
    elsewhere. The worse of the two directions counts.
    """
    ratios = []
    for axis, length in ((3, film.shape[3]), (4, film.shape[4])):
        covering = spans(length, size[axis - 3], overlap)
        borders = {span.start - 1 for span in covering[1:]} | {
            span.stop - 1 for span in covering[:-1]
        }
        steps = film.diff(dim=axis).abs().mean([0, 1, 2, 7 - axis])
        across = steps[sorted(borders)]
        elsewhere = steps[sorted(set(range(length - 1)) - borders)]
        ratios.append(float(across.mean() / elsewhere.mean()))
    return max(ratios)


@pytest.mark.parametrize("seed", range(4))
def test_seams_of_tiles_do_not_show(seed: int) -> None:
    """The tokens of this random DiT depend on the rest of their tile more than usual, so tiles
    differ. Tiles without overlap show seams, and fail the measure.
    """
    model = sr_dit(seed, patch_size=(1, 1, 1))
    with torch.no_grad():
        for block in model.blocks:
            block.attn1.to_out[0].weight.mul_(5)
            block.scale_shift_table[:, 2] = 1  # the gate of self-attention
    place = torch.linspace(-1, 1, 24)[:, None] + torch.linspace(-2, 2, 48)
    phases = torch.arange(Z)[:, None] + torch.arange(3)
    film = (place + phases[..., None, None]).sin()[None]
    size = (12, 16)
    assert border_step(tiled(model, film, (24, 48), 0), size, 4) < 1.1, "untiled: no borders"
    assert border_step(tiled(model, film, size, 4), size, 4) < 1.2
    assert border_step(tiled(model, film, size, 0), size, 0) > 1.5
