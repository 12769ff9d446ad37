"""Tiles of a picture, and how much each of them counts where they overlap.

Shape legend: H W height and width in latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from dreamontage.planning.upscale_settings import spans


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of the picture, and how much each of its latents counts in the blend."""

    rows: slice
    columns: slice
    weight_HW: Tensor

    def crop(self, picture: Tensor) -> Tensor:
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
