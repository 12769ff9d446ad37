"""Interm-Cond: stills and clips anywhere in time become channels beside the noise (DreaMontage,
section 3.1).

Every condition is encoded *alone* and put into the latent slots of its frames; everywhere else the
condition channels hold zeros. Four mask channels say which of a slot's four frames are given, as in
Wan's image-to-video checkpoints.

Shape legend: B batch, C latent channels, M = 4 mask channels, L latent frames, H W height and
width.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS, Placement
from dreamontage.sampling.conditioning.pictures import Picture
from dreamontage.sampling.conditioning.track import with_tail


class IntermTrack:
    """The paper's way: each condition encoded alone, zeros everywhere else.

    A clip may end in the slot where the next condition begins; the slot is then the next one's.
    """

    def __init__(self, placements: Iterable[Placement]) -> None:
        self.placements = sorted(placements, key=lambda placement: placement.start)

    @property
    def empty(self) -> bool:
        return not self.placements

    def window(
        self, start: int, stop: int, tail_BCLHW: Tensor | None, like_BCLHW: Tensor
    ) -> Tensor:
        batch, channels, length, height, width = like_BCLHW.shape
        assert length == stop - start
        window_BCLHW = like_BCLHW.new_zeros(batch, MASK_CHANNELS + channels, length, height, width)
        for placement in self.placements:
            first, last = max(start, placement.start), min(stop, placement.stop)
            if first >= last:
                continue
            here = slice(first - start, last - start)
            own = slice(first - placement.start, last - placement.start)
            mask_ML11 = placement.mask_ML[:, own, None, None].to(like_BCLHW)
            window_BCLHW[:, :MASK_CHANNELS, here] = mask_ML11
            window_BCLHW[:, MASK_CHANNELS:, here] = placement.latents_BCLHW[:, :, own].to(
                like_BCLHW
            )
        return with_tail(window_BCLHW, tail_BCLHW)

    def with_loop_head(self, head: Placement, picture: Picture) -> IntermTrack:
        """As :meth:`Track.with_loop_head`."""
        return IntermTrack([*self.placements, head])

    def unconditional(self) -> IntermTrack:
        """As :meth:`Track.unconditional`."""
        return IntermTrack([])
