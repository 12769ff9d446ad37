"""Synthetic cuts and similar faults, put into good clips at a given severity, which is measured.

**Severity [ours]** is how much the picture changes over the fault, beyond the shot's own change:

    severity = (D - u) / (u + QUIET) / sqrt(n)

D is the content distance between the picture before the fault and the one after it, n the number
of frame steps between the two, u the median distance of the clean clip over n steps. Content is a
picture's 16x16 area averages over the clip's own contrast, and its distance is the root mean
square: two unrelated pictures have a distance of about 1.4. So a cut is more severe in a calm shot
than in a whip pan, as severe in fog as in sunshine, and more severe than a dissolve. There are five
levels: 0 without a fault, and one more for each of `BOUNDS` that the severity reaches.

To reach a given severity, `CANDIDATES` faults are drawn for each clip and measured on thumbnails.
The nearest one is made at full size.

All work is batched torch on any device; the same generator state gives the same faults.

Shapes: B clips, N candidates (B times CANDIDATES), T frames, C channels, H height, W width,
D values of a thumbnail.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

LEVELS = 5
BOUNDS = (0.35, 0.9, 2.2, 5.0)
"""The least severity of levels 1 to 4."""

QUIET = 0.1
"""Content distance up to which a shot counts as calm."""

CONTRAST = 0.04
"""The least spread of a clip's thumbnails, in [-1, 1], for scaling its contents."""

THUMBNAIL = 16
CANDIDATES = 20
_MOST = 14.0  # severity up to which level 4 is drawn


class CutKind(StrEnum):
    NONE = "none"
    CUT = "cut"
    """To another clip, or to a picture between this clip and another."""
    SKIP = "skip"
    """The same clip, at another time."""
    SHIFT = "shift"
    """The same clip, moved, zoomed or turned at once."""
    FLASH = "flash"
    """One to three frames of glare, white, black or coloured."""
    DISSOLVE = "dissolve"
    """Two to T - 1 steps of cross-fade into another clip."""
    FREEZE = "freeze"
    """The picture stops, then cuts: the "powerpoint"."""


KINDS = tuple(kind for kind in CutKind if kind is not CutKind.NONE)
_INDEX: dict[CutKind, int] = {kind: index for index, kind in enumerate(KINDS)}


@dataclass(frozen=True, kw_only=True)
class CutClips:
    """clips_BCTHW with their faults. where_BT: the step *into* frame t is part of the fault."""

    clips_BCTHW: Tensor
    kinds: list[CutKind]
    levels_B: Tensor
    severities_B: Tensor
    where_BT: Tensor


@dataclass(frozen=True, kw_only=True)
class _CutParameters:
    """Faults as numbers, so that they can be made at any size.

    Frame t of the clip is

    lerp(lerp(own[first_NT], second, share_NT), colour, glare_NT) with
    second = lerp(own[clean_NT], (other, or own, or own moved)[second_NT], strength_N).
    """

    kind_N: Tensor
    at_N: Tensor  # the first frame of the fault
    steps_N: Tensor
    clean_NT: Tensor  # t itself
    first_NT: Tensor
    second_NT: Tensor
    share_NT: Tensor
    strength_N: Tensor
    move_N23: Tensor
    glare_NT: Tensor
    colour_NC: Tensor
    where_NT: Tensor

    def pick(self, rows_B: Tensor) -> _CutParameters:
        return _CutParameters(
            **{field.name: getattr(self, field.name)[rows_B] for field in fields(self)}
        )

    def sides(self) -> _CutParameters:
        """Only the frame before the fault and the one after it, as T = 2."""
        frames_N2 = torch.stack((self.at_N - 1, self.at_N - 1 + self.steps_N), 1)
        names = ("clean_NT", "first_NT", "second_NT", "share_NT", "glare_NT")
        return replace(self, **{name: getattr(self, name).gather(1, frames_N2) for name in names})


def add_cuts(
    clips_BCTHW: Tensor,
    others_BCTHW: Tensor,
    *,
    generator: torch.Generator,
    levels_B: Tensor | None = None,
    kinds: Sequence[CutKind] = KINDS,
) -> CutClips:
    """Put a fault into each clip in [-1, 1]; `others_BCTHW` are the clips to cut to.

    levels_B: the levels to make, 0 to 4; without it they are drawn evenly. The returned level is
    the measured one. It differs where no candidate is near (a white flash in a white clip).
    The generator must be on the clips' device. Raises ValueError for clips that are too short or
    do not match.
    """
    batch, _, frames = clips_BCTHW.shape[:3]
    if clips_BCTHW.shape != others_BCTHW.shape:
        raise ValueError(f"others {others_BCTHW.shape} must be of the clips' {clips_BCTHW.shape}")
    if frames < 9:
        raise ValueError(f"clips of {frames} frames are too short: 9 are needed")
    device = clips_BCTHW.device
    if levels_B is None:
        levels_B = torch.randint(LEVELS, (batch,), generator=generator, device=device)
    levels_B = levels_B.to(device)

    owns, others = thumbnails(clips_BCTHW), thumbnails(others_BCTHW)
    scale_B, usual_BT = contrast(owns), usual(owns)
    cuts = _draw(batch * CANDIDATES, frames, kinds, generator)
    clip_N = torch.arange(batch, device=device).repeat_interleave(CANDIDATES)
    sides_NC2hw = _make(owns[clip_N], others[clip_N], cuts.sides())
    found_N = _severity(sides_NC2hw, scale_B[clip_N], usual_BT[clip_N], cuts)
    low_B = torch.tensor((BOUNDS[0], *BOUNDS), device=device)[levels_B].log()
    high_B = torch.tensor((*BOUNDS, _MOST), device=device)[levels_B].log()
    wanted_B = torch.lerp(low_B, high_B, torch.rand(batch, generator=generator, device=device))
    off_BN = found_N.clamp_min(1e-3).log().reshape(batch, -1) - wanted_B[:, None]
    chosen = cuts.pick(off_BN.abs().argmin(1) + CANDIDATES * torch.arange(batch, device=device))

    made_BCTHW = _make(clips_BCTHW, others_BCTHW, chosen)
    sides = thumbnails(_frames(made_BCTHW, chosen.sides().clean_NT))
    severities_B = _severity(sides, scale_B, usual_BT, chosen)
    good_B = levels_B == 0
    severities_B = severities_B.where(~good_B, 0)
    return CutClips(
        clips_BCTHW=torch.where(good_B[:, None, None, None, None], clips_BCTHW, made_BCTHW),
        kinds=[
            CutKind.NONE if good else KINDS[kind]
            for good, kind in zip(good_B.tolist(), chosen.kind_N.tolist(), strict=True)
        ],
        levels_B=level_of(severities_B),
        severities_B=severities_B,
        where_BT=chosen.where_NT & ~good_B[:, None],
    )


def level_of(severities_B: Tensor) -> Tensor:
    """Levels 0 to 4 of severities."""
    return torch.bucketize(
        severities_B, torch.tensor(BOUNDS, device=severities_B.device), right=True
    )


def thumbnails(clips_BCTHW: Tensor) -> Tensor:
    """Area averages, (B, C, T, 16, 16)."""
    frames = clips_BCTHW.shape[2]
    return F.adaptive_avg_pool3d(clips_BCTHW, (frames, THUMBNAIL, THUMBNAIL))


def contrast(thumbnails_BCThw: Tensor) -> Tensor:
    """(B,): the unit of a clip's content distances, in [-1, 1]."""
    return thumbnails_BCThw.flatten(1).std(1).clamp_min(CONTRAST)


def usual(thumbnails_BCThw: Tensor) -> Tensor:
    """The median content distance over n steps, for each n from 0 to T - 1: (B, T)."""
    contents_BTD = thumbnails_BCThw.transpose(1, 2).flatten(2)
    exact = "donot_use_mm_for_euclid_dist"
    distance_BTT = torch.cdist(contents_BTD, contents_BTD, compute_mode=exact)
    distance_BTT = distance_BTT / math.sqrt(contents_BTD.shape[2])
    frames = contents_BTD.shape[1]
    lags = [distance_BTT.diagonal(n, 1, 2).median(1).values for n in range(frames)]
    return torch.stack(lags, 1) / contrast(thumbnails_BCThw)[:, None]


def _severity(
    sides_BC2hw: Tensor, scale_B: Tensor, usual_BT: Tensor, cuts: _CutParameters
) -> Tensor:
    before_BChw, after_BChw = sides_BC2hw.unbind(2)
    distance_B = (after_BChw - before_BChw).square().flatten(1).mean(1).sqrt() / scale_B
    usual_B = usual_BT.gather(1, cuts.steps_N[:, None])[:, 0]
    return (distance_B - usual_B).clamp_min(0) / (usual_B + QUIET) / cuts.steps_N.sqrt()


def _frames(clips_BCTHW: Tensor, frames_BT: Tensor) -> Tensor:
    """The given frames of each clip, (B, C, T, H, W)."""
    batch, channels = clips_BCTHW.shape[:2]
    rows_B11 = torch.arange(batch, device=clips_BCTHW.device)[:, None, None]
    channels_C1 = torch.arange(channels, device=clips_BCTHW.device)[:, None]
    return clips_BCTHW[rows_B11, channels_C1, frames_BT[:, None]]


def _draw(
    count: int, frames: int, kinds: Sequence[CutKind], generator: torch.Generator
) -> _CutParameters:
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        size = (count, *shape)
        return low + (high - low) * torch.rand(size, generator=generator, device=device)

    allowed = torch.tensor([_INDEX[kind] for kind in kinds], device=device)
    kind_N = allowed[torch.randint(len(kinds), (count,), generator=generator, device=device)]

    def is_a(kind: CutKind) -> Tensor:
        return kind_N == _INDEX[kind]

    last = frames - 1
    steps_N = torch.where(is_a(CutKind.DISSOLVE), uniform(math.log(2), math.log(last)).exp(), 1)
    steps_N = steps_N.round().long().clamp(1, last)
    flash_N = (uniform(1, 4).long() * is_a(CutKind.FLASH)).clamp(max=last - 1)
    # Room for the steps, or for the flash and its end, and for a visible freeze.
    first_N = torch.where(is_a(CutKind.FREEZE), frames // 3, 1)
    room_N = last - torch.maximum(steps_N - 1, flash_N) - first_N
    at_N = first_N + (uniform(0, 1) * (room_N + 1)).long().clamp(max=room_N)

    t_T = torch.arange(frames, device=device)
    since_NT = t_T - at_N[:, None]
    share_NT = ((since_NT + 1) / steps_N[:, None]).clamp(0, 1) * ~is_a(CutKind.FLASH)[:, None]
    stop_N = torch.where(is_a(CutKind.FREEZE), (uniform(0, 0.7) * at_N).long(), last)
    # A skip continues forward from its new place if the clip is long enough, else backward.
    place_N = (uniform(0, frames)).long().clamp(max=last)
    way_N = torch.where(place_N <= at_N, 1, -1)
    skipped_NT = place_N[:, None] + way_N[:, None] * since_NT.clamp_min(0)
    skipped_NT = last - (last - skipped_NT.abs()).abs()  # turn back at either end
    second_NT = torch.where(is_a(CutKind.SKIP)[:, None], skipped_NT, t_T)

    whole_N = uniform(0, 1) < 0.4
    strength_N = uniform(math.log(0.06), 0).exp().where(~whole_N, 1)
    strength_N = strength_N.where(~(is_a(CutKind.SKIP) | is_a(CutKind.SHIFT)), 1)
    pull_N = uniform(math.log(0.08), 0).exp() * is_a(CutKind.SHIFT)
    shift_N2 = uniform(-1, 1, 2) * pull_N[:, None]
    scale_N, roll_N = (uniform(-0.6, 0.6) * pull_N).exp(), uniform(-0.5, 0.5) * pull_N
    cos_N, sin_N = scale_N * roll_N.cos(), scale_N * roll_N.sin()
    turn_N22 = torch.stack((cos_N, -sin_N, sin_N, cos_N), -1).reshape(count, 2, 2)

    lit_NT = (since_NT >= 0) & (since_NT < flash_N[:, None])
    glare_NT = lit_NT * uniform(math.log(0.04), 0).exp()[:, None]
    grey_N1, tinted_N1 = (uniform(0, 1, 1) < 0.5).float() * 2 - 1, uniform(0, 1, 1) < 0.3
    over_NT = (since_NT >= 0) & (since_NT < steps_N[:, None])
    return _CutParameters(
        kind_N=kind_N,
        at_N=at_N,
        steps_N=steps_N,
        clean_NT=t_T.expand(count, -1),
        first_NT=torch.minimum(t_T, stop_N[:, None]),
        second_NT=second_NT,
        share_NT=share_NT,
        strength_N=strength_N,
        move_N23=torch.cat((turn_N22, shift_N2[..., None]), -1),
        glare_NT=glare_NT,
        colour_NC=uniform(-1, 1, 3).where(tinted_N1, grey_N1.expand(-1, 3)),
        where_NT=over_NT | ((since_NT == flash_N[:, None]) & (flash_N > 0)[:, None]),
    )


def _make(own_NCTHW: Tensor, other_NCTHW: Tensor, cuts: _CutParameters) -> Tensor:
    def wide(values_NT: Tensor) -> Tensor:
        return values_NT[:, None, :, None, None]

    same_N = (cuts.kind_N == _INDEX[CutKind.SKIP]) | (cuts.kind_N == _INDEX[CutKind.SHIFT])
    second = _frames(other_NCTHW, cuts.second_NT)
    second[same_N] = _frames(own_NCTHW[same_N], cuts.second_NT[same_N])
    moved_N = cuts.kind_N == _INDEX[CutKind.SHIFT]
    if moved_N.any():
        second[moved_N] = warped(second[moved_N], cuts.move_N23[moved_N])
    clean = _frames(own_NCTHW, cuts.clean_NT)
    second = torch.lerp(clean, second, cuts.strength_N[:, None, None, None, None])
    made = torch.lerp(_frames(own_NCTHW, cuts.first_NT), second, wide(cuts.share_NT))
    glare = cuts.colour_NC[:, :, None, None, None]
    return made + (glare - made) * wide(cuts.glare_NT)


def warped(clips_BCTHW: Tensor, move_B23: Tensor) -> Tensor:
    """Every frame of a clip under one affine map of [-1, 1]^2, mirrored at the edges."""
    batch, channels, frames, height, width = clips_BCTHW.shape
    grid = F.affine_grid(move_B23, [batch, channels, height, width], align_corners=False)
    flat = clips_BCTHW.reshape(batch, channels * frames, height, width)
    seen = F.grid_sample(flat, grid, padding_mode="reflection", align_corners=False)
    return seen.reshape(clips_BCTHW.shape)
