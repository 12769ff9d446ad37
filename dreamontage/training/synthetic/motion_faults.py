"""Motion faults: subjects that slide, jump or change their form.

A subject, cut out of another clip's first frame, is put into each clip. It moves along a smooth
path and turns a little. The clip with the fault differs from the clean one in the subject's motion
only, so that the two are a preference pair about motion and nothing else.

**Severity [ours]** is the largest jolt that the fault adds: the second difference over frames of
the positions of the subject's points, root mean square, in diameters of the subject. A jump by half
a diameter is 0.5. So is a slide that starts suddenly with half a diameter per frame. There are five
levels: 0 without a fault, and one more for each of `BOUNDS` that the severity reaches.

All work is batched torch on any device; the same generator state gives the same faults.

Shapes: B clips, T frames, C channels, H height, W width, P pixels of a subject's picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LEVELS = 5
BOUNDS = (0.03, 0.08, 0.2, 0.5)
"""The least severity of levels 1 to 4, in diameters a frame, a frame."""

_MOST = 1.0
_PICTURE = 48


class MotionFault(StrEnum):
    NONE = "none"
    SLIDE = "slide"
    """It moves off its path at a constant pace, and starts and stops suddenly."""
    JUMP = "jump"
    """It has another position from one frame to the next."""
    DEFORM = "deform"
    """It stretches and shears at random for some frames."""


KINDS = tuple(kind for kind in MotionFault if kind is not MotionFault.NONE)


@dataclass(frozen=True, kw_only=True)
class MotionFaultClips:
    """The clips with the fault, and the same clips without it.

    where_BT: frames at which the fault's displacement changes.
    """

    clips_BCTHW: Tensor
    clean_BCTHW: Tensor
    kinds: list[MotionFault]
    levels_B: Tensor
    severities_B: Tensor
    where_BT: Tensor


def add_motion_fault(
    clips_BCTHW: Tensor,
    others_BCTHW: Tensor,
    *,
    generator: torch.Generator,
    levels_B: Tensor | None = None,
    kinds: Sequence[MotionFault] = KINDS,
) -> MotionFaultClips:
    """Put a subject into each clip in [-1, 1], and a fault into its motion.

    levels_B: the levels to make, 0 to 4; without it they are drawn evenly. They are exact. The
    generator must be on the clips' device. Raises ValueError for clips of fewer than 9 frames.
    """
    batch, _, frames, height, width = clips_BCTHW.shape
    if frames < 9:
        raise ValueError(f"clips of {frames} frames are too short: 9 are needed")
    device = clips_BCTHW.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((batch, *shape), generator=generator, device=device)

    if levels_B is None:
        levels_B = torch.randint(LEVELS, (batch,), generator=generator, device=device)
    levels_B = levels_B.to(device)
    low_B = torch.tensor((BOUNDS[0], *BOUNDS), device=device)[levels_B].log()
    high_B = torch.tensor((*BOUNDS, _MOST), device=device)[levels_B].log()
    severities_B = torch.lerp(low_B, high_B, uniform(0, 1)).exp() * (levels_B > 0)

    # A smooth path inside the picture, from one place to another with a constant acceleration.
    time_T = torch.linspace(0, 1, frames, device=device)
    eased_BT = time_T + uniform(-0.7, 0.7, 1) * (time_T * time_T - time_T)
    from_B2, to_B2 = uniform(-0.6, 0.6, 2), uniform(-0.6, 0.6, 2)
    way_BT2 = torch.lerp(from_B2[:, None], to_B2[:, None], eased_BT[..., None])
    pick_B = torch.randint(len(kinds), (batch,), generator=generator, device=device)
    push_BT2, form_BT22 = _draw_motion(pick_B, kinds, way_BT2, severities_B, generator)
    amount_B = severities_B / _jolt(push_BT2, form_BT22)
    diameter_B = uniform(0.35, 0.7)  # of a picture 2 wide
    push_BT2 = push_BT2 * (amount_B * diameter_B)[:, None, None]
    form_BT22 = form_BT22 * amount_B[:, None, None, None]

    turn_BT = uniform(-math.pi, math.pi, 1) + uniform(-1, 1, 1) * eased_BT
    picture_BCPP = _cut_out(others_BCTHW[:, :, 0], generator)

    def shown(way: Tensor, form: Tensor) -> Tensor:
        over_BCTHW = _place(picture_BCPP, way, turn_BT, form, diameter_B, height, width)
        return torch.lerp(clips_BCTHW, over_BCTHW[:, :3], over_BCTHW[:, 3:])

    upright = torch.zeros_like(form_BT22)
    moved_BT = F.pad((push_BT2.diff(dim=1) != 0).any(2), (1, 0))
    moved_BT = moved_BT | F.pad((form_BT22.diff(dim=1) != 0).flatten(2).any(2), (1, 0))
    return MotionFaultClips(
        clips_BCTHW=shown(way_BT2 + push_BT2, form_BT22),
        clean_BCTHW=shown(way_BT2, upright),
        kinds=[
            kinds[kind] if level else MotionFault.NONE
            for kind, level in zip(pick_B.tolist(), levels_B.tolist(), strict=True)
        ],
        levels_B=levels_B,
        severities_B=severities_B,
        where_BT=moved_BT,
    )


def _draw_motion(
    pick_B: Tensor,
    kinds: Sequence[MotionFault],
    way_BT2: Tensor,
    severities_B: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Displacement (in diameters) and deformation of each clip's fault, not yet scaled."""
    device = generator.device
    batch, frames = way_BT2.shape[:2]

    def is_a(kind: MotionFault) -> Tensor:
        mine = torch.tensor([each is kind for each in kinds], device=device)[pick_B]
        return mine.float()[:, None, None]

    start_B1 = torch.randint(2, frames - 4, (batch, 1), generator=generator, device=device)
    length_B1 = torch.randint(3, 11, (batch, 1), generator=generator, device=device)
    # Fast slides are short, and slides go towards the middle: otherwise they leave the picture.
    length_B1 = length_B1.minimum((1.5 / severities_B.clamp_min(0.1)).ceil().long()[:, None])
    since_BT = torch.arange(frames, device=device) - start_B1
    from_B2 = way_BT2.gather(1, start_B1[..., None].expand(-1, -1, 2))[:, 0]
    angle_B = torch.atan2(-from_B2[:, 1], -from_B2[:, 0])
    angle_B = angle_B + 2 * torch.rand(batch, generator=generator, device=device) - 1
    aside_B12 = torch.stack((angle_B.cos(), angle_B.sin()), -1)[:, None]
    slid_BT = (since_BT + 1).clamp_min(0).minimum(length_B1)
    jumped_BT = (since_BT >= 0).float()
    push_BT2 = aside_B12 * (
        slid_BT[..., None] * is_a(MotionFault.SLIDE) + jumped_BT[..., None] * is_a(MotionFault.JUMP)
    )
    noise_BT22 = torch.randn((batch, frames, 2, 2), generator=generator, device=device)
    smooth_BT22 = noise_BT22 + 0.5 * (noise_BT22.roll(1, 1) + noise_BT22.roll(-1, 1))
    lasts_BT = (since_BT >= 0) & (since_BT < length_B1.clamp_min(5))
    form_BT22 = smooth_BT22 * lasts_BT[..., None, None] * is_a(MotionFault.DEFORM)[..., None]
    return push_BT2, form_BT22


def _jolt(push_BT2: Tensor, form_BT22: Tensor) -> Tensor:
    """(B,) as defined at the module's head. Over a disc, |G q|^2 is on average |G|^2 / 4."""
    push = push_BT2.diff(n=2, dim=1).square().sum(2)
    form = form_BT22.diff(n=2, dim=1).square().sum((2, 3)) / 4 / 4  # radii to diameters
    return (push + form).amax(1).sqrt()


def _cut_out(pictures_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """RGBA pictures of P x P: the middle of each picture within a wavy outline."""
    device, batch = generator.device, len(pictures_BCHW)
    height, width = pictures_BCHW.shape[2:]
    side = min(height, width) // 2
    top, left = (height - side) // 2, (width - side) // 2
    middle = pictures_BCHW[:, :, top : top + side, left : left + side]
    colours = F.interpolate(middle, size=(_PICTURE, _PICTURE), mode="bilinear")
    line_P = torch.linspace(-1, 1, _PICTURE, device=device)
    y, x = torch.meshgrid(line_P, line_P, indexing="ij")
    wave_B2 = torch.rand(batch, 2, generator=generator, device=device)
    lobes_B = torch.randint(2, 6, (batch,), generator=generator, device=device)
    phase = wave_B2[:, :1, None] * 6 + lobes_B[:, None, None] * torch.atan2(y, x)
    radius = 0.8 + 0.15 * wave_B2[:, 1:, None] * phase.cos()
    alpha = ((radius - torch.hypot(x, y)) * _PICTURE / 3).clamp(0, 1)
    return torch.cat((colours, alpha[:, None]), 1)


def _place(
    picture_BCPP: Tensor,
    way_BT2: Tensor,
    turn_BT: Tensor,
    form_BT22: Tensor,
    diameter_B: Tensor,
    height: int,
    width: int,
) -> Tensor:
    """Subjects as layers over a film, (B, 4, T, H, W); zero alpha outside them."""
    batch, frames = turn_BT.shape
    longest = max(height, width)
    aspect_2 = turn_BT.new_tensor((width / longest, height / longest))
    cos, sin = turn_BT.cos(), turn_BT.sin()
    turned_BT22 = torch.stack((cos, sin, -sin, cos), -1).reshape(batch, frames, 2, 2)
    to_picture = torch.matrix_exp(-form_BT22) @ turned_BT22 / (diameter_B / 2)[:, None, None, None]
    theta_BT23 = torch.cat((to_picture * aspect_2, -to_picture @ way_BT2[..., None]), -1)
    grid = F.affine_grid(
        theta_BT23.flatten(0, 1), [batch * frames, 1, height, width], align_corners=False
    )
    seen = F.grid_sample(
        picture_BCPP,
        grid.reshape(batch, frames * height, width, 2),
        padding_mode="zeros",
        align_corners=False,
    )
    return seen.reshape(batch, 4, frames, height, width)
