"""Tiles of a picture, and a denoiser that asks its model tile by tile.

At every step the tiles' velocities are blended into one by linear ramps across the overlaps, so
tiles cannot drift apart. Each tile counts its positions from 0 **[ours]**: rotary attention sees
differences of positions only, and a tile of the training size holds none that training did not.

Shape legend: B batch, C channels, L latent frames, N appended frames, H W height and width in
latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from dreamontage.sampling import Denoiser
from dreamontage.upscale.upscaler import spans


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of the picture, and how much each of its latents counts in the blend."""

    rows: slice
    columns: slice
    weight_HW: Tensor

    def of(self, picture: Tensor) -> Tensor:
        """The tile's part of any tensor that ends in H, W; a view."""
        return picture[..., self.rows, self.columns]


def ramps(covering: Sequence[range]) -> list[Tensor]:
    """Each span's weights: linear across the overlaps with its neighbours; at every place the
    weights of all spans sum to one.
    """
    weights = [torch.ones(len(span)) for span in covering]
    neighbours = zip(pairwise(covering), pairwise(weights), strict=True)
    for (left, right), (left_weight, right_weight) in neighbours:
        overlap = left.stop - right.start
        rise = torch.arange(1, overlap + 1) / (overlap + 1)
        # Where more than two spans overlap, the lower of a span's two ramps holds.
        left_weight[len(left) - overlap :].clamp_(max=rise.flip(0))
        right_weight[:overlap].clamp_(max=rise)
    total = torch.zeros(covering[-1].stop)
    for span, weight in zip(covering, weights, strict=True):
        total[span.start : span.stop] += weight
    return [
        weight / total[span.start : span.stop]
        for span, weight in zip(covering, weights, strict=True)
    ]


def tiles(
    height: int, width: int, *, size: tuple[int, int], overlap: int, patch: tuple[int, int]
) -> list[Tile]:
    """Cover a picture of ``height`` x ``width`` with tiles of ``size``, all in latents.

    Size and overlap must be multiples of the model's ``patch``, as the picture is.
    """
    rows = spans(height, size[0], overlap, patch[0])
    columns = spans(width, size[1], overlap, patch[1])
    return [
        Tile(
            rows=slice(row.start, row.stop),
            columns=slice(column.start, column.stop),
            weight_HW=down_H[:, None] * across_W,
        )
        for row, down_H in zip(rows, ramps(rows), strict=True)
        for column, across_W in zip(columns, ramps(columns), strict=True)
    ]


@dataclass(frozen=True, kw_only=True)
class _TileExpert:
    """The DiT as one tile's denoiser sees it: with the tile's part of the appended frames, and step
    caches of its own.
    """

    model: Any
    name: str
    appended: dict[str, Any]

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    def cache_context(self, branch: str) -> AbstractContextManager[None]:
        return self.model.cache_context(f"{branch} {self.name}")

    def __call__(self, **inputs: Any) -> Any:
        return self.model(**inputs, **self.appended)


@dataclass(frozen=True, kw_only=True)
class TiledDenoiser(Denoiser):
    """A denoiser that asks its model tile by tile and blends the velocities.

    ``shared_BCNHW``: the frames that Shared-RoPE appends, whole pictures; None for none.
    ``shared_frames``: the latent of the window that each stands for.
    """

    tiles: Sequence[Tile]
    shared_BCNHW: Tensor | None
    shared_frames: Sequence[int]

    def __call__(self, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        assert self.condition_BCLHW is not None
        blended_BCLHW = torch.zeros_like(latents_BCLHW)
        for index, tile in enumerate(self.tiles):
            appended: dict[str, Any] = {}
            if self.shared_BCNHW is not None:
                appended = {
                    "shared_states": tile.of(self.shared_BCNHW).to(self.experts[0].dtype),
                    "shared_frames": self.shared_frames,
                }
            one = Denoiser(
                experts=[
                    _TileExpert(model=model, name=f"tile {index}", appended=appended)
                    for model in self.experts
                ],
                guidance=self.guidance,
                prompt_BSD=self.prompt_BSD,
                negative_prompt_BSD=self.negative_prompt_BSD,
                condition_BCLHW=tile.of(self.condition_BCLHW),
            )
            velocity_BCLHW = one(tile.of(latents_BCLHW), t)
            weight_HW = tile.weight_HW.to(latents_BCLHW)
            tile.of(blended_BCLHW).add_(velocity_BCLHW.to(latents_BCLHW) * weight_HW)
        return blended_BCLHW
