"""Super-resolution by a Wan DiT: tile by tile, with stills appended as tokens (Shared-RoPE).

The DiT's input is ``[noisy Z | mask 4 | condition Z | enlarged film Z]``. At every step the tiles'
velocities are blended into one by linear ramps across the overlaps, so tiles cannot drift apart.
Each tile counts its positions from 0 **[ours]**: rotary attention sees differences of positions
only, and a tile of the training size holds none that training did not.

Shape legend: B batch, C channels, L latent frames, N appended frames, H W height and width in
latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dreamontage.families.tiling import Tile
from dreamontage.families.wan import WanInputs, WanModel
from dreamontage.sampling.guiders import Branch
from dreamontage.sampling.schedulers import scheduler_step


@dataclass(frozen=True, kw_only=True)
class WanSrTask:
    """One window of the enlarged film. A :class:`dreamontage.sampling.task.Task`.

    ``channels_BCLHW``: what is beside the noise: mask, condition latents and enlarged film.
    ``shared_BCNHW``: the frames that Shared-RoPE appends, whole pictures; None for none.
    ``shared_frames``: the latent of the window whose position each of them has.
    """

    model: WanModel
    latents: Tensor
    scheduler: Any
    generator: torch.Generator | None
    channels_BCLHW: Tensor
    tiles: Sequence[Tile]
    shared_BCNHW: Tensor | None = None
    shared_frames: Sequence[int] = ()

    def velocity(self, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        """The tiles' velocities, blended."""
        blended_BCLHW = torch.zeros_like(latents_BCLHW)
        for index, tile in enumerate(self.tiles):
            inputs = self._inputs(tile, latents_BCLHW, t)
            # A tile's step caches are its own.
            velocity_BCLHW = self.model.velocity(t, _same(inputs), f" tile {index}")
            weight_HW = tile.weight_HW.to(latents_BCLHW)
            tile.crop(blended_BCLHW).add_(velocity_BCLHW.to(latents_BCLHW) * weight_HW)
        return blended_BCLHW

    def _inputs(self, tile: Tile, latents_BCLHW: Tensor, t: Tensor) -> WanInputs:
        parts = [tile.crop(latents_BCLHW), tile.crop(self.channels_BCLHW)]
        appended: dict[str, Any] = {}
        if self.shared_BCNHW is not None:
            appended = {
                "shared_states": tile.crop(self.shared_BCNHW).to(self.model.experts[0].dtype),
                "shared_frames": self.shared_frames,
            }
        return WanInputs(
            hidden_BCLHW=torch.cat(parts, dim=1),
            times=t.expand(latents_BCLHW.shape[0]),
            appended=appended,
        )

    def step(self, latents: Tensor, t: Tensor) -> Tensor:
        velocity_BCLHW = self.velocity(latents, t)
        return scheduler_step(self.scheduler, velocity_BCLHW, t, latents, self.generator)

    def finish(self, latents: Tensor) -> Tensor:
        return latents


def _same(inputs: WanInputs) -> Callable[[Branch], WanInputs]:
    """The inputs of every branch: they differ in their prompts alone."""
    return lambda branch: inputs
