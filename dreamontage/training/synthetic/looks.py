"""Looks of a world: passages from one world to another, and styles of drawing, over time.

Shapes: N clips, T frames, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamontage.training.synthetic.captions import PASSAGES, STYLES

_KINDS = tuple(name for name, _ in PASSAGES)


@dataclass(frozen=True, kw_only=True)
class View:
    """The view of a layer: screen coordinates times `zoom_NT`, plus `shift_NT2`."""

    zoom_NT: Tensor
    shift_NT2: Tensor


def passage_views(kinds_N: Tensor, way_N2: Tensor, eased_NT: Tensor) -> tuple[View, View]:
    """Views of the old and of the new world while one becomes the other.

    Args:
        kinds_N: indices of `captions.PASSAGES`.
        way_N2: the direction of a slide or wipe, a unit step along one axis.
        eased_NT: 0 before the passage, 1 after it.
    """
    slides = (kinds_N == _KINDS.index("slide"))[:, None]
    dives = (kinds_N == _KINDS.index("dive"))[:, None]
    step_NT2 = 2 * (eased_NT * slides)[..., None] * way_N2[:, None]
    rest_NT2 = 2 * ((1 - eased_NT) * slides)[..., None] * way_N2[:, None]
    old = View(zoom_NT=torch.exp(-1.2 * eased_NT * dives), shift_NT2=step_NT2)
    new = View(zoom_NT=1 + 1.5 * (1 - eased_NT) * dives, shift_NT2=-rest_NT2)
    return old, new


def passage_masks(
    kinds_N: Tensor, way_N2: Tensor, eased_NT: Tensor, melt_NHW: Tensor, *, aspect: float
) -> Tensor:
    """How much of the new world is visible, (N, T, 1, H, W) in [0, 1].

    Args:
        melt_NHW: the order in which places melt, 0 first, 1 last.
        aspect: width over height of the picture.
    """
    height, width = melt_NHW.shape[1:]
    x_W = (torch.arange(width, device=melt_NHW.device) * 2 + 1) / width - 1
    y_H = (torch.arange(height, device=melt_NHW.device) * 2 + 1) / height - 1
    # The progress at which each place changes, from 0 to 1, with some room for the soft edge.
    along_NHW = way_N2[:, 0, None, None] * x_W + way_N2[:, 1, None, None] * y_H[:, None]
    radius_HW = torch.hypot(x_W * min(1.0, aspect), y_H[:, None] * min(1.0, 1 / aspect)) / 1.42
    wait_NHW = torch.where(
        (kinds_N == _KINDS.index("dive"))[:, None, None],
        radius_HW,
        torch.where(
            (kinds_N == _KINDS.index("melt"))[:, None, None], melt_NHW, (1 - along_NHW) / 2
        ),
    )
    # A melt has a softer edge than the others, which are some two pixels wide.
    soft_N = torch.where(kinds_N == _KINDS.index("melt"), 0.2, 2 / max(height, width))
    soft_N111 = soft_N[:, None, None, None]
    mask_NTHW = (eased_NT[..., None, None] * (1 + soft_N111) - wait_NHW[:, None]) / soft_N111
    return mask_NTHW.clamp(0, 1)[:, :, None]


def restyle(frames_NTCHW: Tensor, styles_N2: Tensor, eased_NT: Tensor) -> Tensor:
    """Frames in [0, 1] fading from one style to another.

    Args:
        styles_N2: indices of `captions.STYLES`, before and after.
        eased_NT: 0 before the change, 1 after it.
    """
    red, green, blue = frames_NTCHW.split(1, dim=2)
    grey_NT1HW = 0.3 * red + 0.59 * green + 0.11 * blue
    right = grey_NT1HW.diff(dim=4, append=grey_NT1HW[..., -1:]).abs()
    down = grey_NT1HW.diff(dim=3, append=grey_NT1HW[..., -1:, :]).abs()
    drawing_NT1HW = (1 - 5 * (right + down)).clamp(0.1, 0.97)
    looks = {
        "a photograph": frames_NTCHW,
        "a drawing": drawing_NT1HW.expand_as(frames_NTCHW),
        "a poster": (frames_NTCHW * 3).round() / 3,
        "a grey film": grey_NT1HW.expand_as(frames_NTCHW),
    }
    looks_SNTCHW = torch.stack([looks[name] for name in STYLES])
    clips_N = torch.arange(len(styles_N2), device=styles_N2.device)
    before, after = (looks_SNTCHW[styles_N2[:, i], clips_N] for i in range(2))
    return torch.lerp(before, after, eased_NT[..., None, None, None])
