"""True films whose last sampling steps a trained model makes again.

They still show what the true films do, and have the errors of a model's films. So the stages after
that model, the decoder's finish and super-resolution, train on inputs like those of inference, and
on the true films as targets **[ours]**.

Shapes: B windows, Z latent channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamontage.files import read_json, write_folder
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.training.datasets.windows import Windows
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching, nano
from dreamontage.training.objectives.adaptive import Study, WindowSource

_FOLDER = "filmer"
_NOISE = 0.3  # the strongest noise that `noisy` adds, in normalised latents


def predicts_windows(init: Path) -> bool:
    """Whether a model folder's DiT takes noise and conditions, and nothing else."""
    config = read_json(init / "transformer" / "config.json")
    return bool(config["in_channels"] == nano.channels(config["out_channels"]))


def save_base_dit(setting: Setting, frozen: Path) -> None:
    """Store the model that the run starts from, if it makes films: a resumed run needs it again."""
    init, folder = setting.init, frozen / _FOLDER
    if init is None or folder.exists() or not predicts_windows(init):
        return
    model = nano.load_transformer(init)
    write_folder(folder, lambda path: model.save_pretrained(path / "transformer"))


class ResamplingSource(WindowSource):
    """Windows, and the model that `save_base_dit` stored beside the frozen parts, if any."""

    def __init__(self, folder: Path, setting: Setting, study: Study) -> None:
        super().__init__(folder, setting.device, study)
        self._autocast = setting.autocast

    @cached_property
    def base_dit(self) -> DreaMontageTransformer3DModel | None:
        if not (self.folder / _FOLDER).exists():
            return None
        return nano.load_transformer(self.folder / _FOLDER).to(self.device).eval()

    def resampled(
        self, batch: Windows, prompts_BSD: Tensor, *, last: int, generator: torch.Generator
    ) -> Tensor:
        """The windows' latents_BZLHW with the `last` sampling steps made again."""
        clean_BZLHW = batch.latents_BZLHW
        if last == 0:
            return clean_BZLHW
        assert self.base_dit is not None
        noise_BZLHW = torch.randn(clean_BZLHW.shape, generator=generator, device=self.device)
        with self._autocast():
            return flow_matching.resample_last_steps(
                self.base_dit,
                clean_BZLHW,
                batch.condition_BCLHW,
                prompts_BSD,
                noise_BZLHW=noise_BZLHW,
                last=last,
                steps=nano.STEPS,
                shift=nano.FLOW_SHIFT,
            )


def noisy(latents_BZLHW: Tensor, generator: torch.Generator) -> Tensor:
    """Latents with noise, of a random strength for each window.

    A model that makes only the end of a true film makes smaller errors than with a film of its own.
    """
    options: dict[str, Any] = {"generator": generator, "device": latents_BZLHW.device}
    amount_B1111 = _NOISE * torch.rand(len(latents_BZLHW), 1, 1, 1, 1, **options)
    return latents_BZLHW + amount_B1111 * torch.randn(latents_BZLHW.shape, **options)
