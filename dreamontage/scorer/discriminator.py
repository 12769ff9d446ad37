"""The paper's discriminator: rates a film on five levels of cut severity, and says where.

A small network on thumbnails. Beside frames and their differences it sees what no movement of a
few pixels explains (the least difference over shifts, block by block), so that it need not learn
block matching, and a pan costs it nothing. Each frame t gets one number: the logarithm of the
severity of the step into it, as `training/faults.py` defines severity. A film's rating is its worst
frame's **[ours]**, so it means the same at every length, and a film may be rated window by window.
Levels come of the number by proportional odds.

    discriminator = load()
    rating = discriminator.rate(video_BCTHW)  # any size, 9 frames or more, in [-1, 1]
    best, worst = rating.severity_B.argmin(), rating.severity_B.argmax()

Shapes: B films, T frames, C channels, H height, W width, K bounds between levels, h w sizes of
thumbnails, F features of a frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dreamontage.models import bundled

WEIGHTS = bundled.weights("scorer") / "cuts.safetensors"

LEVELS = 5
SIDE = 48
"""Pixels of a thumbnail's longer side."""

REACH = 16
"""Frames on either side of a frame that its number may depend on."""

SHORTEST = 9

_SHIFT = 3  # the farthest that blocks are looked for, in pixels of half and quarter thumbnails
_LAG = 4  # frames of a latent: a cut may be smeared over them
_SCALARS = 6
_DILATIONS = (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Rating:
    """severity_B: the expected level, 0 to 4. levels_BL: chances of the five levels. frame_B: the
    frame that the worst step leads to; severity_BT: the expected level of the step into each."""

    severity_B: Tensor
    levels_BL: Tensor
    frame_B: Tensor
    severity_BT: Tensor


class CutDiscriminator(nn.Module):
    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = _Spatial(6, width)
        self.at_half = _Spatial(width + 2, 2 * width)
        self.time_at_half = _Temporal(2 * width)
        self.at_quarter = _Spatial(2 * width, 4 * width)
        self.time_at_quarter = _Temporal(4 * width)
        self.mix = nn.Conv1d(8 * width + _SCALARS, 4 * width, 1)
        self.over_time = nn.ModuleList(
            nn.Conv1d(4 * width, 4 * width, 3, dilation=dilation) for dilation in _DILATIONS
        )
        self.out = nn.Conv1d(4 * width, 1, 1)
        # Least log severity of levels 1 to 4, as distances so that they keep their order.
        self.first_bound = nn.Parameter(torch.tensor(-1.0))
        self.log_gaps_K = nn.Parameter(torch.zeros(LEVELS - 2))
        self.log_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """The log severity of the step into each frame, (B, T); frame 0 has none that counts.

        Raises ValueError for films of fewer than 9 frames.
        """
        batch, _, frames = video_BCTHW.shape[:3]
        if frames < SHORTEST:
            raise ValueError(f"frames = {frames}: the discriminator needs {SHORTEST}")
        with torch.no_grad():
            pictures, unexplained, scalars_BTF = _see(video_BCTHW)
        x = self.stem(pictures)
        x = self.time_at_half(self.at_half(torch.cat((x, unexplained), 1)), frames)
        x = self.time_at_quarter(self.at_quarter(x), frames)
        pooled_BTF = torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1).unflatten(0, (batch, frames))
        x_BFT = F.gelu(self.mix(torch.cat((pooled_BTF, scalars_BTF), 2).mT))
        for pad, layer in zip(_DILATIONS, self.over_time, strict=True):
            x_BFT = x_BFT + F.gelu(layer(F.pad(x_BFT, (pad, pad), mode="replicate")))
        return self.out(x_BFT)[:, 0]

    def logits(self, log_severity: Tensor) -> Tensor:
        """Log odds that the level is above 0, 1, 2 and 3, (..., K)."""
        bounds_K = self.first_bound + F.pad(self.log_gaps_K.exp().cumsum(0), (1, 0))
        return (log_severity[..., None] - bounds_K) * self.log_scale.exp()

    @torch.no_grad()
    def rate(self, video_BCTHW: Tensor) -> Rating:
        """Rate a batch of films of 9 frames or more, in [-1, 1], of any one size."""
        log_BT = self(video_BCTHW)[:, 1:]
        worst = log_BT.max(1)
        above_BK = self.logits(worst.values).sigmoid()
        edges = F.pad(F.pad(above_BK, (1, 0), value=1.0), (0, 1))
        return Rating(
            severity_B=above_BK.sum(1),
            levels_BL=edges[:, :-1] - edges[:, 1:],
            frame_B=worst.indices + 1,
            severity_BT=F.pad(self.logits(log_BT).sigmoid().sum(2), (1, 0)),
        )


def load(
    path: Path = WEIGHTS, *, device: torch.device | str = "cpu", width: int = 24
) -> CutDiscriminator:
    """The trained discriminator, for rating. Raises ValueError where there are no weights."""
    if not path.is_file():
        raise ValueError(f"{path} is not there: train it with the recipe `scorer_cuts_cpu`")
    model = CutDiscriminator(width)
    model.load_state_dict(load_file(path))
    return model.to(device).eval().requires_grad_(False)


class _Spatial(nn.Module):
    """Half the size; each frame on its own."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(into, out, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(4, out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return F.gelu(self.norm(self.conv(x_NCHW)))


class _Temporal(nn.Module):
    """Each place over three frames, added to what was there."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, (3, 1, 1))

    def forward(self, x_NCHW: Tensor, frames: int) -> Tensor:
        x_BCTHW = x_NCHW.unflatten(0, (-1, frames)).transpose(1, 2)
        padded = torch.cat((x_BCTHW[:, :, :1], x_BCTHW, x_BCTHW[:, :, -1:]), 2)
        seen_NCHW = self.conv(padded).transpose(1, 2).flatten(0, 1)
        return x_NCHW + F.gelu(seen_NCHW)


def _see(video_BCTHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the network is shown: frames with their differences (BT, 6, h, w), maps of what no
    movement explains (BT, 2, h/2, w/2), and logarithms of their means (B, T, F)."""
    batch, _, frames = video_BCTHW.shape[:3]
    small = shrunk(video_BCTHW.transpose(1, 2).flatten(0, 1).float())
    whole = small.unflatten(0, (batch, frames))
    change = (whole - _earlier(whole, 1)).flatten(0, 1)
    halves = F.avg_pool2d(small, 2).unflatten(0, (batch, frames))
    quarters = F.avg_pool2d(small, 4).unflatten(0, (batch, frames))
    near = _unexplained(halves.flatten(0, 1), _earlier(halves, 1).flatten(0, 1))
    far = _unexplained(quarters.flatten(0, 1), _earlier(quarters, _LAG).flatten(0, 1))
    means = (
        change.abs().mean((1, 2, 3)),
        near.mean((1, 2, 3)),
        F.adaptive_max_pool2d(near, 3).mean((1, 2, 3)),
        far.mean((1, 2, 3)),
        change.mean((2, 3)).abs().amax(1),
        small.std((1, 2, 3)),
    )
    scalars = torch.stack([(mean + 1e-3).log() for mean in means], 1)
    maps = torch.cat((near, F.interpolate(far, scale_factor=2.0)), 1)
    return torch.cat((small, change), 1), maps, scalars.unflatten(0, (batch, frames))


def shrunk(images_NCHW: Tensor) -> Tensor:
    """Thumbnails of at most SIDE pixels, in multiples of 4; of a thumbnail, itself."""
    height, width = images_NCHW.shape[2:]
    shrink = SIDE / max(height, width)
    size = (_multiple(height * shrink), _multiple(width * shrink))
    if size == (height, width):
        return images_NCHW
    return F.interpolate(images_NCHW, size=size, mode="bilinear", antialias=True)


def _multiple(side: float) -> int:
    return 4 * max(2, math.floor(side / 4 + 0.5))


def _earlier(frames_BTCHW: Tensor, lag: int) -> Tensor:
    """Each frame's picture `lag` frames earlier; the first one where there is none."""
    first = frames_BTCHW[:, :1].expand(-1, lag, -1, -1, -1)
    return torch.cat((first, frames_BTCHW[:, :-lag]), 1)


def _unexplained(new_NCHW: Tensor, old_NCHW: Tensor) -> Tensor:
    """The least difference to the old picture over shifts, in blocks of 3x3, (N, 1, H, W)."""
    height, width = new_NCHW.shape[2:]
    reach = 2 * _SHIFT + 1
    padded = F.pad(old_NCHW, (_SHIFT,) * 4, mode="replicate")
    least: Tensor | None = None
    for place in range(reach * reach):
        top, left = divmod(place, reach)
        moved = padded[:, :, top : top + height, left : left + width]
        off = (new_NCHW - moved).abs_().mean(1, keepdim=True)
        off = F.avg_pool2d(off, 3, 1, 1, count_include_pad=False)
        least = off if least is None else torch.minimum(least, off)
    assert least is not None
    return least
