"""Wan image-to-video: mask and condition latents are channels beside the noise.

Both encodings of conditions end here: each alone (Interm-Cond), or in a grey film (stock weights).

Shape legend: B batch, C channels, L latent frames, H W latent height and width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dreamontage.families.wan import WanInputs, WanModel, WanTask, Window
from dreamontage.sampling.guiders import Branch


@dataclass(frozen=True, kw_only=True)
class WanChannelsTask(WanTask):
    """``channels``: mask and condition latents, (B, 4 + C, L, H, W), of each branch."""

    channels: Mapping[Branch, Tensor]

    def inputs(self, latents_BCLHW: Tensor, t: Tensor, branch: Branch) -> WanInputs:
        return WanInputs(
            hidden_BCLHW=torch.cat([latents_BCLHW, self.channels[branch]], dim=1),
            times=t.expand(latents_BCLHW.shape[0]),
        )


def prepare(window: Window, model: WanModel) -> WanChannelsTask:
    # Two branches may have the same conditions, which are encoded once.
    made: dict[int, Tensor] = {}
    for conditions in window.branches.values():
        if id(conditions) not in made:
            made[id(conditions)] = conditions.channels(
                window.segment, window.tail_BCLHW, window.noise_BCLHW
            )
    return WanChannelsTask(
        model=model,
        latents=window.noise_BCLHW,
        scheduler=window.scheduler,
        generator=window.generator,
        channels={branch: made[id(each)] for branch, each in window.branches.items()},
    )
