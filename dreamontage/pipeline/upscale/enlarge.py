"""A film of latents, made larger: decoded, interpolated and encoded again, latent by latent.

Shape legend: B batch, N pictures, C = 3 colours, Z latent channels, T pixel frames, L latent
frames, H W height and width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.models import autoencoder
from dreamontage.planning.segments import Segment
from dreamontage.sampling.conditioning.pictures import Picture, pixels


def enlarge(
    vae: Any, latents: Iterable[Tensor], size: tuple[int, int], grid: tuple[int, int]
) -> Iterator[Tensor]:
    """Decode, enlarge to ``size``, pad to ``grid`` (height and width in pixels) and encode again,
    latent by latent.

    Through pixels, since latents of this kind of autoencoder cannot be interpolated; once for a
    film, so nothing adds up from window to window.
    """
    encoder = autoencoder.StreamingEncoder(vae)
    for video_BCTHW in autoencoder.decode(vae, latents):
        frames_BTCHW = video_BCTHW.transpose(1, 2)
        large_NCHW = F.interpolate(frames_BTCHW.flatten(0, 1), size, mode="bicubic")
        padded_NCHW = _padded(large_NCHW, grid)
        large_BCTHW = padded_NCHW.unflatten(0, frames_BTCHW.shape[:2]).transpose(1, 2)
        posterior = encoder(large_BCTHW.clamp(-1, 1))
        yield autoencoder.normalise(vae, posterior.mode().float())


def pad(picture: Picture, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """A condition's picture of ``size`` on the model's ``grid``, (3, H, W).

    Raises:
        ValueError: if it has another size.
    """
    picture_CHW = pixels([picture], *size)[0, :, 0]
    return _padded(picture_CHW[None], grid)[0]


def _padded(picture_NCHW: Tensor, grid: tuple[int, int]) -> Tensor:
    """Its last row and column repeated: what is added goes on where the picture ends."""
    below, beside = (grid[i] - picture_NCHW.shape[2 + i] for i in (0, 1))
    return F.pad(picture_NCHW, (0, beside, 0, below), mode="replicate")


def append_loop_head(film: Iterable[Tensor], head: int) -> Iterator[Tensor]:
    """A film latent by latent and, after a loop's end, what its closing window has of its first
    ``head`` latents: all but the very first, which has no whole latent of its own there.
    """
    first: list[Tensor] = []
    for latent_BZ1HW in film:
        if len(first) < head:
            first.append(latent_BZ1HW)
        yield latent_BZ1HW
    yield from first[1:]


def split_windows(
    film: Iterable[Tensor], segments: Sequence[Segment]
) -> Iterator[tuple[Segment, Tensor]]:
    """Each segment with its latents, from a film that comes latent by latent; holds one window."""
    rest = iter(film)
    held: list[Tensor] = []
    start = 0
    for segment in segments:
        del held[: segment.start - start]
        start = segment.start
        held += islice(rest, segment.latents - len(held))
        if len(held) < segment.latents:
            raise ValueError(
                f"latents end at {start + len(held)}, the segments at {segments[-1].stop}"
            )
        yield segment, torch.cat(held, dim=2)
    if next(rest, None) is not None:
        raise ValueError(f"latents go on after {segments[-1].stop}, where the segments end")
