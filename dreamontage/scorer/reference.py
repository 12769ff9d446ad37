"""Scores of decoded films beside the true ones, in batched torch: quick enough for a training run.

    scores = quick.scores(made_BCTHW, truth_BCTHW, given_BT=given)   # each (B,)
    print({name: round(float(value.mean()), 3) for name, value in scores.items()})

What each score is for, and what it would be for a perfect film:

- `psnr` (dB, higher): of what was not given. Rewards blur: never read it alone.
- `motion` (-1..1, 1): correlation of the film's optical flow with the true film's, both low-passed.
  A freeze has 0, and so has a cross-fade, nearly.
- `motion_error` (0): end-point error over that of a film that stands still, so a freeze has 1.
- `motion_amount` (1): how much the film moves over how much it should. Boiling noise moves too.
- `flicker` (1): unsteadiness of the light from frame to frame, over the true film's.
- `sharpness` (1): gradients inside the codec's blocks, over the true film's.
- `blocks` (1): steps across the borders of 8-pixel blocks over those inside them, over the true
  film's.

Optical flow is Lucas and Kanade's, coarse to fine, on low-passed frames. All of it is **[ours]**.

Shapes: B films, C = 3 colours, T frames, P pairs of frames, N pictures, H W height and width,
h w cells. Pixels are floats in [-1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

PACE = 2
"""Frames from one picture of a pair to the other: long enough for a slow pan to leave noise
behind, short enough for a quick one to be followed."""

CELL = 8
"""Pixels of a cell, over which flow and light are averaged; and of the codec's blocks."""

_LEVELS = (8, 4, 2)  # pixels to a sample, coarse to fine
_ROUNDS = 4
_WINDOW = 5  # samples over which flow is taken to be the same
_COARSEST = 7  # samples; what is larger is left to the level above
_LEVEL = 1 / 127.5  # one grey level of 255
STEADY = 0.5 * _LEVEL  # unsteadiness that nobody sees; no film's counts as less
_STILL = 0.02  # pixels a frame: no true film counts as moving less


def scores(
    made_BCTHW: Tensor,
    truth_BCTHW: Tensor,
    *,
    given_BT: Tensor | None = None,
    truth_flow: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every score of every film, (B,) each.

    Args:
        given_BT: True where a frame was a condition; such frames are left out, and so is the motion
            between two of them. Without it every frame counts.
        truth_flow: `flow(truth_BCTHW)`, for who has it already.

    Raises:
        ValueError: for films of different shapes, or of fewer than three frames.
    """
    if made_BCTHW.shape != truth_BCTHW.shape or made_BCTHW.shape[2] <= PACE:
        raise ValueError(
            f"two films of one shape and more than {PACE} frames are needed, and these are "
            f"{tuple(made_BCTHW.shape)} and {tuple(truth_BCTHW.shape)}"
        )
    made_BCTHW, truth_BCTHW = made_BCTHW.float(), truth_BCTHW.float()
    batch, _, frames = truth_BCTHW.shape[:3]
    if given_BT is None:
        given_BT = torch.zeros(batch, frames, dtype=torch.bool)
    free_BT = ~given_BT.to(truth_BCTHW.device)
    free_BP = free_BT[:, PACE:] | free_BT[:, :-PACE]
    made_BP2hw = flow(made_BCTHW)
    truth_BP2hw = flow(truth_BCTHW) if truth_flow is None else truth_flow
    error_BCTHW = (made_BCTHW - truth_BCTHW).square()
    return {
        "psnr": -10 * (_mean(error_BCTHW.mean((1, 3, 4)), free_BT) / 4).clamp_min(1e-7).log10(),
        **_motion(made_BP2hw, truth_BP2hw, free_BP),
        "flicker": _flicker(made_BCTHW, free_BT) / _flicker(truth_BCTHW, free_BT),
        **_edges(made_BCTHW, truth_BCTHW, free_BT),
    }


def _mean(values_BT: Tensor, free_BT: Tensor) -> Tensor:
    """Mean over the frames that count, (B,)."""
    return (values_BT * free_BT).sum(1) / free_BT.sum(1).clamp_min(1)


def _motion(made_BP2hw: Tensor, truth_BP2hw: Tensor, free_BP: Tensor) -> dict[str, Tensor]:
    counts = free_BP[:, :, None, None, None]
    made, truth = (made_BP2hw * counts).flatten(1), (truth_BP2hw * counts).flatten(1)
    # Not centred: standing still is a motion, too, and differs from a pan. What moves less than
    # nothing to speak of counts as much, or the rounding of a still film would be a motion.
    least = counts.sum((1, 2, 3, 4)) * (made_BP2hw[0, 0].numel() * _STILL**2)
    spread = made.square().sum(1).maximum(least) * truth.square().sum(1).maximum(least)
    error = _mean((made_BP2hw - truth_BP2hw).norm(dim=2).mean((2, 3)), free_BP)
    amount = _mean(made_BP2hw.norm(dim=2).mean((2, 3)), free_BP)
    due = _mean(truth_BP2hw.norm(dim=2).mean((2, 3)), free_BP).clamp_min(_STILL)
    return {
        "motion": (made * truth).sum(1) / spread.sqrt().clamp_min(1e-9),
        "motion_error": error / due,
        "motion_amount": amount / due,
    }


def _flicker(video_BCTHW: Tensor, free_BT: Tensor) -> Tensor:
    return _mean(unsteadiness(video_BCTHW), free_BT[:, 1:-1]).clamp_min(STEADY)


def _edges(made_BCTHW: Tensor, truth_BCTHW: Tensor, free_BT: Tensor) -> dict[str, Tensor]:
    (made_in_BT, made_across_BT), (true_in_BT, true_across_BT) = (
        steps(made_BCTHW),
        steps(truth_BCTHW),
    )
    made_in, made_across = _mean(made_in_BT, free_BT), _mean(made_across_BT, free_BT)
    true_in, true_across = _mean(true_in_BT, free_BT), _mean(true_across_BT, free_BT)
    floor = 0.25 * _LEVEL
    return {
        "sharpness": made_in / true_in.clamp_min(floor),
        "blocks": (made_across.clamp_min(floor) / made_in.clamp_min(floor))
        / (true_across.clamp_min(floor) / true_in.clamp_min(floor)),
    }


def steps(video_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean step from pixel to pixel inside the codec's blocks, and across their borders; (B, T)
    each. A mosaic is not sharp: its steps are all across."""
    inside, across = [], []
    for axis in (3, 4):
        step = video_BCTHW.diff(dim=axis).abs().mean((1, 7 - axis))  # (B, T, H - 1 or W - 1)
        border = torch.arange(step.shape[2], device=step.device) % CELL == CELL - 1
        inside.append(step[:, :, ~border].mean(2))
        across.append(step[:, :, border].mean(2))
    return torch.stack(inside).mean(0), torch.stack(across).mean(0)


def unsteadiness(video_BCTHW: Tensor) -> Tensor:
    """How far the light of a cell lies from the mean of the frames before and after, (B, T - 2).

    Steady motion hardly has any: a cell is larger than what moves through it in a frame."""
    cells_BCThw = F.avg_pool3d(video_BCTHW, (1, CELL, CELL))
    jump = cells_BCThw[:, :, 1:-1] - (cells_BCThw[:, :, 2:] + cells_BCThw[:, :, :-2]) / 2
    return jump.square().mean((1, 3, 4)).sqrt()


def flow(video_BCTHW: Tensor, pace: int = PACE) -> Tensor:
    """Optical flow from every frame to the one `pace` later, in pixels a frame (x, y), averaged
    over cells: (B, P, 2, h, w)."""
    batch, _, frames = video_BCTHW.shape[:3]
    grey_BTHW = video_BCTHW.mean(1)
    first_N1HW = grey_BTHW[:, :-pace].flatten(0, 1)[:, None]
    second_N1HW = grey_BTHW[:, pace:].flatten(0, 1)[:, None]
    flow_N2HW: Tensor | None = None
    for pixels in _LEVELS:
        first, second = (_band(F.avg_pool2d(each, pixels)) for each in (first_N1HW, second_N1HW))
        size = first.shape[2:]
        if flow_N2HW is None:
            flow_N2HW = first.new_zeros(len(first), 2, *size)
        else:  # in samples of this level
            flow_N2HW = 2 * F.interpolate(flow_N2HW, size, mode="bilinear")
        flow_N2HW = _refined(first, second, flow_N2HW)
    assert flow_N2HW is not None
    cells = F.avg_pool2d(flow_N2HW, CELL // _LEVELS[-1]) * _LEVELS[-1] / pace
    return cells.unflatten(0, (batch, frames - pace))


def _refined(first_N1HW: Tensor, second_N1HW: Tensor, flow_N2HW: Tensor) -> Tensor:
    """Lucas and Kanade's least squares over windows, a few rounds of warping and solving."""
    padded = F.pad(first_N1HW, (1, 1, 1, 1), mode="replicate")
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    xx, xy, yy = _window(dx * dx), _window(dx * dy), _window(dy * dy)
    # Where there is nothing to see nothing moves: a gradient of two grey levels is next to nothing.
    damping = (2 * _LEVEL) ** 2
    xx, yy = xx + damping, yy + damping
    determinant = xx * yy - xy * xy
    height, width = first_N1HW.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, device=dx.device), torch.arange(width, device=dx.device), indexing="ij"
    )
    scale = torch.tensor([2 / width, 2 / height], device=dx.device)
    for _ in range(_ROUNDS):
        x, y = columns + flow_N2HW[:, 0], rows + flow_N2HW[:, 1]
        grid_NHW2 = (torch.stack((x, y), -1) + 0.5) * scale - 1
        warped = F.grid_sample(second_N1HW, grid_NHW2, padding_mode="border", align_corners=False)
        # What comes from outside the picture tells nothing.
        inside = (grid_NHW2.abs() <= 1).all(-1)[:, None]
        change = (warped - first_N1HW) * inside
        tx, ty = _window(dx * change), _window(dy * change)
        step = torch.cat((xy * ty - yy * tx, xy * tx - xx * ty), 1) / determinant
        flow_N2HW = _smoothed(flow_N2HW + step.clamp(-1, 1))
    return flow_N2HW


def _band(grey_N1HW: Tensor) -> Tensor:
    """Without what is coarser than some samples: light that changes is no motion, nor is one blob
    that fades into another next to it."""
    near = F.avg_pool2d(grey_N1HW, _COARSEST, 1, _COARSEST // 2, count_include_pad=False)
    return grey_N1HW - near


def _window(values_N1HW: Tensor) -> Tensor:
    return F.avg_pool2d(values_N1HW, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


def _smoothed(flow_N2HW: Tensor) -> Tensor:
    return F.avg_pool2d(flow_N2HW, 3, 1, 1, count_include_pad=False)
