"""The models in this process: each loaded at its first segment, kept for all that follow."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from db.states import Stage
from dreamontage import devices, speed
from dreamontage.models.folder import folder_revision
from dreamontage.pipeline import DreaMontagePipeline
from dreamontage.speed import SpeedOptions
from dreamontage.training.curation import encode
from dreamontage.training.shards import Codec
from flows.farm import Farm

_log = logging.getLogger(__name__)


def pipeline_of(farm: Farm, stage: Stage = Stage.BASE) -> DreaMontagePipeline:
    """The pipeline of a stage's model, loaded once a process. Raises as `_load` does."""
    model = farm.model(stage)
    return _kept[stage](model.folder, farm.settings.device, model.revision, model.options)


def _load(weights: Path, device: str, revision: str, options: SpeedOptions) -> DreaMontagePipeline:
    """The pipeline on its device, without its text encoder: prompts come encoded.

    Raises:
        RuntimeError: when the folder no longer holds ``revision``: latents of other weights must
            not be stored under its keys.
        ValueError: for a device or a speed option that this machine or model cannot do.
    """
    began = time.monotonic()
    devices.check(device)
    pipe = DreaMontagePipeline.from_pretrained(
        weights, text_encoder=None, tokenizer=None, dtype=devices.precision(device)
    )
    speed.fit(pipe, options, device)
    found = folder_revision(weights)
    if found != revision:
        raise RuntimeError(f"{weights} has changed since this take was planned; run it again")
    _log.info("loaded %s on %s in %.1f s", weights.name, device, time.monotonic() - began)
    return pipe


# One of each: a model that a folder holds no more is not kept beside the new one.
_kept = {stage: functools.lru_cache(maxsize=1)(_load) for stage in Stage}


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
    """The text encoder alone, as a function from a prompt to embeddings_BSD; it is not kept."""
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
