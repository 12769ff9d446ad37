"""The models in this process: each is loaded for its first segment and stays loaded."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamontage.models import devices
from dreamontage.models.folder import folder_revision
from dreamontage.models.machine import machine_kind
from dreamontage.pipeline import acceleration
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.rendering.take_plan import Stage
from dreamontage.training.curation import encode
from dreamontage.training.datasets.shards import Codec
from flows.studio.farm import Farm

_log = logging.getLogger(__name__)


def pipeline_of(farm: Farm, stage: Stage = Stage.BASE) -> DreaMontagePipeline:
    """The pipeline of a stage's model, loaded once a process, and again when its folder changes.

    Raises:
        ValueError: for a device or a speed option that this machine or model cannot do.
    """
    model = farm.model(stage)
    load = _loaded[Stage.UPSCALE if stage is Stage.UPSCALE else Stage.BASE]
    return load(model.folder, farm.settings.device, model.revision, model.options)


def _load(weights: Path, device: str, revision: str, options: SpeedOptions) -> DreaMontagePipeline:
    """The pipeline on its device, without its text encoder: prompts come encoded."""
    began = time.monotonic()
    devices.check(device)
    pipe = DreaMontagePipeline.from_pretrained(
        weights, text_encoder=None, tokenizer=None, dtype=devices.precision(device)
    )
    acceleration.fit(pipe, options, device)
    _log.info("loaded %s on %s in %.1f s", weights.name, device, time.monotonic() - began)
    return pipe


# One of each: the model of a folder that has changed does not stay in memory beside the new one.
_loaded = {stage: functools.lru_cache(maxsize=1)(_load) for stage in (Stage.BASE, Stage.UPSCALE)}


@dataclass(frozen=True)
class FarmModels:
    """The farm's models, as `rendering.engine.Models` has them."""

    farm: Farm

    def pipeline(self, stage: Stage) -> DreaMontagePipeline:
        return pipeline_of(self.farm, stage)

    def machine(self, stage: Stage) -> str:
        return machine_kind(self.farm.settings.device)

    def text_revision(self, stage: Stage) -> str:
        return self.farm.model(stage).text_revision

    def encode(self, stage: Stage, prompts: Sequence[str]) -> Iterator[Tensor]:
        """Wan's text encoder has 5.7 billion parameters: it is loaded for prompts that nobody has
        encoded yet, and not held afterwards."""
        text = load_text(self.farm.model(stage).folder, self.farm.settings.device)
        return (text(prompt) for prompt in prompts)


@functools.lru_cache(maxsize=1)
def load_autoencoder(weights: Path, device: str, revision: str) -> tuple[Any, Codec]:
    """A folder's autoencoder alone, to encode training clips with.

    Raises:
        RuntimeError: when the folder's is no longer that of ``revision``.
    """
    vae, codec = encode.load_autoencoder(weights, device)
    if codec.revision != revision:
        raise RuntimeError(f"{weights} has changed since these clips were planned; run it again")
    return vae, codec


def codec_of(weights: Path) -> Codec:
    """What the folder's autoencoder is, as it is now."""
    own = weights / "vae" if (weights / "vae").is_dir() else weights
    return _codec_of(weights, folder_revision(own))


@functools.lru_cache(maxsize=4)
def _codec_of(weights: Path, revision: str) -> Codec:
    return encode.load_autoencoder(weights)[1]


def load_text(weights: Path, device: str) -> Callable[[str], Tensor]:
    """The text encoder alone, from a prompt to embeddings_BSD; it does not stay loaded."""
    pipe = DreaMontagePipeline.from_pretrained(
        weights, transformer=None, transformer_2=None, vae=None, dtype=devices.precision(device)
    ).to(device)

    @torch.no_grad()
    def encode(prompt: str) -> Tensor:
        embeddings_BSD, _ = pipe.encode_prompt(
            prompt,
            do_classifier_free_guidance=False,
            max_sequence_length=pipe.config.max_sequence_length,
        )
        return embeddings_BSD

    return encode
