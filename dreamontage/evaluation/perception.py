"""How alike two pictures are: structural similarity, and a distance that blur does not improve.

`texture_distance` is **[ours]**: no network trained on people's judgements can be had here. It
compares how much drawing there is, not where each line runs: the strength of steps in x and in y,
averaged over cells of 8 samples, at three scales, and the cells' colour. A line that is a little
off costs nothing, unlike in PSNR; a blur, a ghost of a second picture, boiling noise or a mosaic
costs much, for it has less drawing or more. It is Bray and Curtis's dissimilarity, 0 for equal
pictures and 1 for pictures with nothing in common.

Shapes: T frames, C = 3 colours, H W height and width. Pixels are floats in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

SCALES = (1, 2, 4)
"""Pixels to a sample."""

CELL = 8
_GRAIN = 0.01  # of a cell's mean step: what a codec's rounding leaves; nobody sees it
_SIGMA, _RADIUS = 1.5, 5  # the window of Wang et al.
_C1, _C2 = 0.01**2, 0.03**2


def texture_distance(made_TCHW: Tensor, truth_TCHW: Tensor) -> Tensor:
    """(T,) in 0..1, lower is better."""
    total = []
    for pixels in SCALES:
        made, truth = F.avg_pool2d(made_TCHW, pixels), F.avg_pool2d(truth_TCHW, pixels)
        if min(made.shape[2:]) < CELL:
            break
        for axis in (2, 3):
            mine, theirs = _drawing(made, axis), _drawing(truth, axis)
            apart = (mine - theirs).abs().flatten(1).sum(1)
            total.append(apart / (mine + theirs + 2 * _GRAIN).flatten(1).sum(1))
    mine, theirs = F.avg_pool2d(made_TCHW, CELL), F.avg_pool2d(truth_TCHW, CELL)
    colour = (mine - theirs).abs().flatten(1).sum(1) / (mine + theirs + 2 * _GRAIN).flatten(1).sum(
        1
    )
    return (torch.stack(total).mean(0) + colour) / 2


def _drawing(samples_TCHW: Tensor, axis: int) -> Tensor:
    """Mean step along an axis in each cell."""
    return F.avg_pool2d(samples_TCHW.diff(dim=axis).abs(), CELL, ceil_mode=True)


def ssim(made_TCHW: Tensor, truth_TCHW: Tensor) -> Tensor:
    """Structural similarity of the grey pictures (Wang et al. 2004), (T,)."""
    x = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    bell = torch.exp(-(x**2) / (2 * _SIGMA**2))
    bell = bell / bell.sum()

    def around(values_T1HW: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values_T1HW, bell[None, None, None]), bell[None, None, :, None])

    made, truth = made_TCHW.mean(1, keepdim=True), truth_TCHW.mean(1, keepdim=True)
    mean_m, mean_t = around(made), around(truth)
    var_m, var_t = around(made**2) - mean_m**2, around(truth**2) - mean_t**2
    both = around(made * truth) - mean_m * mean_t
    light = (2 * mean_m * mean_t + _C1) / (mean_m**2 + mean_t**2 + _C1)
    form = (2 * both + _C2) / (var_m + var_t + _C2)
    return (light * form).mean((1, 2, 3))
