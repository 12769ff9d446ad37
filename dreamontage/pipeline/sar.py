"""Segment-wise auto-regressive generation (SAR): a shot longer than the window, one seamless latent
timeline.

Segment n is denoised with the last ``tail`` latents of segment n-1 as given (DreaMontage, section
3.4): s_n = G(tail(s_{n-1}), conditions in window n). Latents are handed over, never pixels.

Shape legend: B batch, C channels, L latent frames, H W latent height and width.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from dreamontage.planning.segments import Segment
from dreamontage.sampling.state import DenoiseState


def tail_of(segment: Segment, previous_BCLHW: Tensor) -> Tensor | None:
    """What the segment before hands over to ``segment``: its last ``segment.tail`` latents, as it
    made them.
    """
    return previous_BCLHW[:, :, -segment.tail :] if segment.tail else None


def head_of(segment: Segment, first_BCLHW: Tensor) -> Tensor:
    """What a loop's first segment gives its closing one: its first ``segment.head`` latents, as it
    made them, which is as the film has them.
    """
    return first_BCLHW[:, :, : segment.head]


def fuse(segments: Iterable[tuple[Segment, Tensor]]) -> Iterator[Tensor]:
    """Join windows into one timeline; yields each latent once, in order, as runs of latents_BCLHW.

    In the overlap the earlier window fades into the later one linearly, by (j + 1) / (tail + 1) at
    latent j: both are reconstructions of the same latents, and no single latent takes the whole
    difference between them **[ours]**. Holds two windows at a time, whatever the film's length.
    What a loop's closing window has past the film's end is left away.
    """
    pending_BCLHW: Tensor | None = (
        None  # latents from `start` on that a later window may still change
    )
    start = 0
    for segment, latents_BCLHW in segments:
        assert latents_BCLHW.shape[2] == segment.latents
        latents_BCLHW = latents_BCLHW[:, :, : segment.tail + segment.new]
        if pending_BCLHW is None:
            pending_BCLHW, start = latents_BCLHW, segment.start
            continue
        overlap = start + pending_BCLHW.shape[2] - segment.start
        assert overlap == segment.tail, "windows overlap by exactly the tail"
        settled = segment.start - start
        yield pending_BCLHW[:, :, :settled]
        ramp_L = torch.arange(1, overlap + 1, device=latents_BCLHW.device) / (overlap + 1)
        mixed_BCLHW = torch.lerp(
            pending_BCLHW[:, :, settled:],
            latents_BCLHW[:, :, :overlap],
            ramp_L[:, None, None].to(latents_BCLHW),
        )
        pending_BCLHW, start = (
            torch.cat([mixed_BCLHW, latents_BCLHW[:, :, overlap:]], dim=2),
            segment.start,
        )
    if pending_BCLHW is not None:
        yield pending_BCLHW


def chain(
    segments: Sequence[Segment],
    states_of: Callable[[Segment, Tensor | None, Tensor | None], Iterable[DenoiseState]],
) -> Iterator[tuple[Segment, Tensor]]:
    """Each segment with its latents_BCLHW, denoised in this process, one after the other.

    Args:
        states_of: the denoise loop of a segment, from the latents of the segment before it (None
            for the first) and, in a loop, of the first segment.
    """
    previous_BCLHW: Tensor | None = None
    first_BCLHW: Tensor | None = None
    for segment in segments:
        states = states_of(segment, previous_BCLHW, first_BCLHW)
        previous_BCLHW = deque(states, maxlen=1)[0].latents_BCLHW
        if segments[-1].head and first_BCLHW is None:
            first_BCLHW = previous_BCLHW
        yield segment, previous_BCLHW
