"""What conditions become for models that take them as channels beside the noise.

Shape legend: B batch, C latent channels, M = 4 mask channels, L latent frames, H W height and
width.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS, Placement
from dreamontage.sampling.conditioning.pictures import Picture


class Track(Protocol):
    """A shot's conditions, from which any window's condition channels are cut."""

    @property
    def empty(self) -> bool: ...

    def window(
        self, start: int, stop: int, tail_BCLHW: Tensor | None, like_BCLHW: Tensor
    ) -> Tensor:
        """Mask and condition latents for the latents [start, stop): (B, M + C, L, H, W).

        Args:
            tail_BCLHW: the latents handed over by the segment before, given whole at the window's
                head.
            like_BCLHW: a tensor of the window's latent shape, dtype and device.
        """
        ...

    def with_loop_head(self, head: Placement, picture: Picture) -> Track:
        """The same conditions and, where a loop ends, the film's first latents once more.

        Args:
            head: from :func:`dreamontage.sampling.conditioning.conditions.loop_head_placement`.
            picture: its first frame.
        """
        ...

    def unconditional(self) -> Track:
        """The same without any condition."""
        ...


def with_tail(window_BCLHW: Tensor, tail_BCLHW: Tensor | None) -> Tensor:
    """The latents handed over win over every condition: the film already shows them."""
    if tail_BCLHW is not None:
        tail = tail_BCLHW.shape[2]
        window_BCLHW[:, :MASK_CHANNELS, :tail] = 1
        window_BCLHW[:, MASK_CHANNELS:, :tail] = tail_BCLHW.to(window_BCLHW)
    return window_BCLHW
