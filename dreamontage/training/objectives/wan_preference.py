"""Tailored DPO of full-size weights, from a file of pairs that people or a discriminator judged.

A LoRA is trained. The reference is the same model without the LoRA, so there is no second copy of
14 billion parameters. The pairs are films (or latents) named by `pairs.jsonl` in the data folder.
Each film is encoded once, by the model's own autoencoder. `datasets.pairs` has the file's format.

Shapes: P pairs, Z latent channels, C mask and condition channels, L latent frames, H W latent
height and width, S tokens, D width.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamontage.digests import file_digest
from dreamontage.files import write_file
from dreamontage.models.autoencoder import StreamingEncoder, normalise
from dreamontage.models.loading import autoencoder_of
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.storyboard.seeds import derive
from dreamontage.timeline import TEMPORAL_STRIDE
from dreamontage.training.datasets.pair_making import Pairs
from dreamontage.training.datasets.pairs import Pair, read_pairs
from dreamontage.training.datasets.prompt_cache import PromptCache
from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching
from dreamontage.training.objectives.preference import flow_dpo, pair_errors
from dreamontage.training.objectives.wan import WanStudy, export_weights, lora_model, read_schedule

FILE = "pairs.jsonl"
_HELD_EVERY = 20  # every n-th pair is held out, at least one
_LATENTS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class WanPreferences:
    """beta: scales squared errors, averaged over a film's values."""

    study: WanStudy
    beta: float = 500.0


class WanPreferenceObjective:
    """See the module. `setting.init` is the model folder, `setting.data` the folder of the pairs.

    Raises:
        ValueError: when either is missing, with all errors in the pairs' file, or for a pair whose
            films differ in size or length.
    """

    def __init__(self, setting: Setting, preferences: WanPreferences) -> None:
        if setting.init is None or setting.data is None:
            raise ValueError("init and data: this recipe needs a model folder and one of pairs")
        study = preferences.study
        assert study.rank, "without a LoRA there would be no reference"
        self.setting, self.preferences, self.folder = setting, preferences, setting.init
        pairs = read_pairs(setting.data / FILE)
        if len(pairs) < 2:
            raise ValueError(f"{setting.data / FILE}: holds one pair; one more is needed")
        self.between, self.shift = read_schedule(self.folder, study.expert)
        self.prompts = PromptCache(
            setting.data / "prompts",
            model=self.folder,
            length=study.length,
            device=setting.device,
            dtype=torch.bfloat16 if setting.bfloat16 else torch.float32,
        )
        store = _Latents(setting.folder / "frozen" / "pairs", self.folder / "vae", setting.device)
        self.pairs = [store.of(pair, setting.data) for pair in pairs]
        store.close()
        sizes = [len(pair.read()["winner"]) for pair in self.pairs]  # to find errors now
        self.model = lora_model(
            self.folder,
            study,
            channels=sizes[0],
            bfloat16=setting.bfloat16,
            seed=derive(setting.seed, "model"),
        )
        self.held = list(range(0, len(pairs), _HELD_EVERY))
        self.train = [index for index in range(len(pairs)) if index not in self.held]

    @property
    def source(self) -> WanPreferenceObjective:
        return self

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        """One pair per step, because pairs may have different sizes."""
        assert repeat == 1
        return self._batch(random.Random(seed).choice(self.train))

    def _batch(self, index: int) -> Batch:
        pair = self.pairs[index]
        return {name: value[None] for name, value in pair.read().items()} | {
            "prompts": self.prompts([pair.pair.prompt])
        }

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        generator = torch.Generator(self.setting.device).manual_seed(derive(seed, "noise"))
        times_B = flow_matching.draw_times(
            1, shift=self.shift, uniform=0.2, generator=generator, between=self.between
        )
        loss_B, _ = self._compare(model, batch, times_B, generator)
        return loss_B.mean(), 1

    def _compare(
        self, model: Any, batch: Batch, times_B: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        pairs = Pairs.of({name: value.to(self.setting.device) for name, value in batch.items()})
        shape = pairs.winner_PZLHW.shape
        noise_BZLHW = torch.randn(shape, generator=generator, device=generator.device)
        errors = partial(pair_errors, pairs=pairs, times_B=times_B, noise_BZLHW=noise_BZLHW)
        self.model.disable_adapters()
        with torch.no_grad(), self.setting.autocast():
            reference = errors(self.model)
        self.model.enable_adapters()
        return flow_dpo(*errors(model), *reference, beta=self.preferences.beta)

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """Loss, accuracy and margin on the held-out pairs."""
        generator = torch.Generator(self.setting.device)
        low, high = self.between
        found = [
            self._compare(
                model,
                self._batch(index),
                torch.full((1,), low + (high - low) * share, device=self.setting.device),
                generator.manual_seed(index),
            )
            for index in self.held
            for share in (0.2, 0.5, 0.8)
        ]
        loss_B, margin_B = (torch.cat(parts) for parts in zip(*found, strict=True))
        return {
            "loss": float(loss_B.mean()),
            "accuracy": float((margin_B > 0).float().mean()),
            "margin": float(margin_B.mean()),
        }

    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """None: the pairs' films are on disk already, and a preference is seen in the scores."""
        return []

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        export_weights(self.model, state, folder, init=self.folder, study=self.preferences.study)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A pair as files of latents, read when needed.

    Two thousand pairs in each of eight processes would not fit into memory.
    """

    pair: Pair
    winner: Path
    loser: Path
    conditions: Path | None

    def read(self) -> dict[str, Tensor]:
        """Winner, loser and condition, (Z or C, L, H, W) each."""
        winner, loser = (load_file(each)["latents"].float() for each in (self.winner, self.loser))
        if winner.shape != loser.shape:
            raise ValueError(
                f"winner = {self.pair.winner!r} and loser = {self.pair.loser!r} are not of one "
                "size and length"
            )
        z, *rest = winner.shape
        condition = torch.zeros(MASK_CHANNELS + z, *rest)
        if self.conditions is not None:
            condition = load_file(self.conditions)["condition"].float()
            if condition.shape != (MASK_CHANNELS + z, *rest):
                raise ValueError(
                    f"conditions = {self.pair.conditions!r} has the shape "
                    f"{tuple(condition.shape)}, and its films need {(MASK_CHANNELS + z, *rest)}"
                )
        return {"winner": winner, "loser": loser, "condition": condition}


class _Latents:
    """Latents of the pairs' films, encoded once and stored by the films' digests."""

    def __init__(self, folder: Path, vae: Path, device: torch.device) -> None:
        self.folder, self.path, self.device = folder, vae, device
        self._vae: Any = None

    def of(self, pair: Pair, base: Path) -> _Stored:
        """The pair, its films as latents."""
        winner, loser = (self._film(base / each) for each in (pair.winner, pair.loser))
        conditions = None if pair.conditions is None else base / pair.conditions
        return _Stored(pair=pair, winner=winner, loser=loser, conditions=conditions)

    def _film(self, file: Path) -> Path:
        if file.suffix == _LATENTS:
            return file
        latents_file = self.folder / f"{file_digest(file)}{_LATENTS}"
        if not latents_file.exists():
            held = {"latents": self._encode(file).cpu().contiguous()}
            write_file(latents_file, partial(save_file, held))
        return latents_file

    @torch.no_grad()
    def _encode(self, file: Path) -> Tensor:
        from dreamontage import media  # machines that only train need no ffmpeg

        if self._vae is None:
            self._vae = autoencoder_of(self.path).to(self.device)
        encoder = StreamingEncoder(self._vae)
        latents: list[Tensor] = []
        run: list[np.ndarray[Any, Any]] = []
        for frame_HWC in media.read_frames(file):
            run.append(frame_HWC)
            if len(run) == (TEMPORAL_STRIDE if latents else 1):
                video_TCHW = torch.from_numpy(np.stack(run)).permute(0, 3, 1, 2)
                video_BCTHW = video_TCHW.transpose(0, 1)[None].float() / 127.5 - 1
                mean_BZ1HW = encoder(video_BCTHW.to(self.device)).mean
                latents.append(normalise(self._vae, mean_BZ1HW)[0])
                run = []
        # Up to three last frames fill no latent. They are dropped from both films.
        return torch.cat(latents, 1)

    def close(self) -> None:
        """Release the autoencoder."""
        self._vae = None
