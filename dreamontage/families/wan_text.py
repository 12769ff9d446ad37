"""Wan text-to-video: no conditions, and no shot longer than the window.

Shape legend: B batch, C channels, L latent frames, H W latent height and width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dreamontage.families.wan import WanInputs, WanModel, WanTask, Window
from dreamontage.sampling.guiders import Branch


@dataclass(frozen=True, kw_only=True)
class WanTextTask(WanTask):
    """The DiT's input is the noise alone."""

    def inputs(self, latents_BCLHW: Tensor, t: Tensor, branch: Branch) -> WanInputs:
        return WanInputs(hidden_BCLHW=latents_BCLHW, times=t.expand(latents_BCLHW.shape[0]))


def prepare(window: Window, model: WanModel) -> WanTextTask:
    return WanTextTask(
        model=model,
        latents=window.noise_BCLHW,
        scheduler=window.scheduler,
        generator=window.generator,
    )
