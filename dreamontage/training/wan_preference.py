"""Tailored DPO of full-size weights, from a file of pairs that people or a discriminator judged.

A LoRA learns; its reference is the same model without it, so there is no second copy of 14 billion
parameters. The pairs are films (or latents) named by `pairs.jsonl` in the data folder, each made
once into latents by the model's own autoencoder; `training.pairs` has the file's form.

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

from dreamontage.conditioning import MASK_CHANNELS
from dreamontage.keys import file_digest
from dreamontage.models.autoencoder import StreamingEncoder, normalise
from dreamontage.models.loading import autoencoder_of
from dreamontage.seeds import derive
from dreamontage.timeline import TEMPORAL_STRIDE
from dreamontage.training import checkpoint, flow
from dreamontage.training.feed import Batch
from dreamontage.training.pairmaking import Pairs
from dreamontage.training.pairs import Pair, read_pairs
from dreamontage.training.preference import flow_dpo, pair_errors
from dreamontage.training.prompts import PromptCache
from dreamontage.training.recipe import Setting
from dreamontage.training.wan import WanStudy, export_weights, lora_model, read_schedule

FILE = "pairs.jsonl"
_HELD_EVERY = 20  # of the pairs, one in so many is kept apart, at least one
_LATENTS = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class WanPreferences:
    """beta scales squared errors that are averaged over a film's values."""

    study: WanStudy
    beta: float = 500.0


class WanPreferenceObjective:
    """See the module. `setting.init` is the model folder, `setting.data` the folder of the pairs.

    Raises:
        ValueError: when either is missing, with every fault of the pairs' file, or for a pair whose
            films are not of one size and length.
    """

    def __init__(self, setting: Setting, preferences: WanPreferences) -> None:
        if setting.init is None or setting.data is None:
            raise ValueError("init and data: this recipe needs a model folder and one of pairs")
        study = preferences.study
        assert study.rank, "without a LoRA there would be no reference"
        self.setting, self.preferences, self.folder = setting, preferences, setting.init
        pairs = read_pairs(setting.data / FILE)
        if len(pairs) < 2:
            raise ValueError(f"{setting.data / FILE}: holds one pair; one more is to be kept apart")
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
        sizes = [len(pair.read()["winner"]) for pair in self.pairs]  # all are read once, to be sure
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
        """One pair a step: pairs are of any size."""
        assert repeat == 1
        return self._batch(random.Random(seed).choice(self.train))

    def _batch(self, index: int) -> Batch:
        pair = self.pairs[index]
        return {name: value[None] for name, value in pair.read().items()} | {
            "prompts": self.prompts([pair.told.prompt])
        }

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        generator = torch.Generator(self.setting.device).manual_seed(derive(seed, "noise"))
        times_B = flow.draw_times(
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
        """Loss, accuracy and margin on the pairs kept apart."""
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
        """None: the pairs' films are there to be looked at, and a preference shows in scores."""
        return []

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        export_weights(self.model, state, folder, init=self.folder, study=self.preferences.study)


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A pair as files of latents, read when it is its turn: two thousand of them, in each of eight
    processes, would not fit into memory."""

    told: Pair
    winner: Path
    loser: Path
    conditions: Path | None

    def read(self) -> dict[str, Tensor]:
        """Winner, loser and condition, (Z or C, L, H, W) each."""
        winner, loser = (load_file(each)["latents"].float() for each in (self.winner, self.loser))
        if winner.shape != loser.shape:
            raise ValueError(
                f"winner = {self.told.winner!r} and loser = {self.told.loser!r} are not of one "
                "size and length"
            )
        z, *rest = winner.shape
        condition = torch.zeros(MASK_CHANNELS + z, *rest)
        if self.conditions is not None:
            condition = load_file(self.conditions)["condition"].float()
            if condition.shape != (MASK_CHANNELS + z, *rest):
                raise ValueError(
                    f"conditions = {self.told.conditions!r} has the shape "
                    f"{tuple(condition.shape)}, and its films need {(MASK_CHANNELS + z, *rest)}"
                )
        return {"winner": winner, "loser": loser, "condition": condition}


class _Latents:
    """Latents of the pairs' films, made once and kept by the films' digests."""

    def __init__(self, folder: Path, vae: Path, device: torch.device) -> None:
        self.folder, self.path, self.device = folder, vae, device
        self._vae: Any = None

    def of(self, pair: Pair, base: Path) -> _Stored:
        """The pair, its films as latents."""
        winner, loser = (self._film(base / each) for each in (pair.winner, pair.loser))
        conditions = None if pair.conditions is None else base / pair.conditions
        return _Stored(told=pair, winner=winner, loser=loser, conditions=conditions)

    def _film(self, file: Path) -> Path:
        if file.suffix == _LATENTS:
            return file
        kept = self.folder / f"{file_digest(file)}{_LATENTS}"
        if not kept.exists():
            held = {"latents": self._encode(file).cpu().contiguous()}
            checkpoint.write_file(kept, partial(save_file, held))
        return kept

    @torch.no_grad()
    def _encode(self, file: Path) -> Tensor:
        from dreamontage import media  # machines that only train are not asked for ffmpeg

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
        # Up to three last frames fill no latent, and are left away from both films alike.
        return torch.cat(latents, 1)

    def close(self) -> None:
        """Let the autoencoder go."""
        self._vae = None
