"""Wan 2.2 TI2V: clean latents among the noisy ones, and a time for every token.

Shape legend: B batch, C channels, L latent frames, H W latent height and width, S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dreamontage.families.wan import WanInputs, WanModel, WanTask, Window
from dreamontage.sampling.conditioning.model_inputs import CleanLatents
from dreamontage.sampling.guiders import Branch


@dataclass(frozen=True, kw_only=True)
class WanTi2vTask(WanTask):
    """Clean latents replace the noisy ones in their slots; their tokens have time 0.

    ``unconditional``: the clean latents of the image-unconditional branch; None if it is not
        called.
    """

    clean: CleanLatents
    unconditional: CleanLatents | None = None

    def inputs(self, latents_BCLHW: Tensor, t: Tensor, branch: Branch) -> WanInputs:
        clean = self.clean
        if branch is Branch.IMAGE_UNCONDITIONAL:
            assert self.unconditional is not None
            clean = self.unconditional
        hidden_BCLHW = clean.replace_in(latents_BCLHW)
        return WanInputs(hidden_BCLHW=hidden_BCLHW, times=self._times(clean, hidden_BCLHW, t))

    def velocity(self, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        velocity_BCLHW = super().velocity(latents_BCLHW, t)
        if self.unconditional is None:
            return velocity_BCLHW
        # Clean latents have no noise in the one call. For the image-unconditional call they have to
        # be as noisy as the rest, so their velocity is the straight way from the noise to them.
        num_train_timesteps = self.scheduler.config.num_train_timesteps
        clean_velocity_BCLHW = (latents_BCLHW - self.clean.latents_BCLHW) / (
            t / num_train_timesteps
        )
        return torch.where(self.clean.slots_L[:, None, None], clean_velocity_BCLHW, velocity_BCLHW)

    def finish(self, latents: Tensor) -> Tensor:
        return self.clean.replace_in(latents)

    def _times(self, clean: CleanLatents, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        """The time of every token, (B, S), in the model's order: frame by frame."""
        batch, _, _, height, width = latents_BCLHW.shape
        _, patch_height, patch_width = self.model.experts[0].config.patch_size
        times_L = (~clean.slots_L).float() * t
        tokens = (height // patch_height) * (width // patch_width)
        return times_L.repeat_interleave(tokens).expand(batch, -1)


def prepare(window: Window, model: WanModel) -> WanTi2vTask:
    where = window.segment, window.tail_BCLHW, window.noise_BCLHW
    unconditional = window.unconditional
    return WanTi2vTask(
        model=model,
        latents=window.noise_BCLHW,
        scheduler=window.scheduler,
        generator=window.generator,
        clean=window.conditions.clean_latents(*where),
        unconditional=None if unconditional is None else unconditional.clean_latents(*where),
    )
