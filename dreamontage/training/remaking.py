"""Films whose last steps a trained model has made anew: they stay where the true ones are, and have
the faults of made ones. What comes after that model, a decoder's finish and super-resolution, can
so be shown what it will be given and what it should make of it **[ours]**.

Shapes: B windows, Z latent channels, L latent frames, H W height and width, S tokens, D width.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.plan import read_json
from dreamontage.training import checkpoint, flow, nano
from dreamontage.training.adaptive import Study, WindowSource
from dreamontage.training.recipe import Setting
from dreamontage.training.windows import Windows

_FOLDER = "filmer"
_NOISE = 0.3  # the most that `noisy` adds, at the latents' scale


def films(init: Path) -> bool:
    """Whether a model folder's DiT makes windows from their conditions alone."""
    config = read_json(init / "transformer" / "config.json")
    return bool(config["in_channels"] == nano.channels(config["out_channels"]))


def keep_filmer(setting: Setting, frozen: Path) -> None:
    """Keep the model that the run starts from, if it films: a resumed run needs it again."""
    init, folder = setting.init, frozen / _FOLDER
    if init is None or folder.exists() or not films(init):
        return
    model = nano.load_transformer(init)
    checkpoint.write_folder(folder, lambda path: model.save_pretrained(path / "transformer"))


class RemakingSource(WindowSource):
    """Has the model that `keep_filmer` kept in the folder of the frozen parts, if it kept one."""

    def __init__(self, folder: Path, setting: Setting, study: Study) -> None:
        super().__init__(folder, setting.device, study)
        self._autocast = setting.autocast

    @cached_property
    def filmer(self) -> DreaMontageTransformer3DModel | None:
        if not (self.folder / _FOLDER).exists():
            return None
        return nano.load_transformer(self.folder / _FOLDER).to(self.device).eval()

    def remade(
        self, batch: Windows, prompts_BSD: Tensor, *, last: int, generator: torch.Generator
    ) -> Tensor:
        """The windows' latents_BZLHW, the sampler's `last` steps made anew; none for 0."""
        clean_BZLHW = batch.latents_BZLHW
        if last == 0:
            return clean_BZLHW
        assert self.filmer is not None
        noise_BZLHW = torch.randn(clean_BZLHW.shape, generator=generator, device=self.device)
        with self._autocast():
            return flow.remake(
                self.filmer,
                clean_BZLHW,
                batch.condition_BCLHW,
                prompts_BSD,
                noise_BZLHW=noise_BZLHW,
                last=last,
                steps=nano.STEPS,
                shift=nano.FLOW_SHIFT,
            )


def noisy(latents_BZLHW: Tensor, generator: torch.Generator) -> Tensor:
    """Latents with noise on them, of its own strength in each window: a model that makes the end of
    a true film anew errs less than one that makes its own."""
    options: dict[str, Any] = {"generator": generator, "device": latents_BZLHW.device}
    amount_B1111 = _NOISE * torch.rand(len(latents_BZLHW), 1, 1, 1, 1, **options)
    return latents_BZLHW + amount_B1111 * torch.randn(latents_BZLHW.shape, **options)
