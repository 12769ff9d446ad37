"""The nano model: its parts, untrained, and its folder in diffusers' layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor
from transformers import AutoTokenizer, UMT5EncoderModel

from dreamontage.files import read_json
from dreamontage.models import text
from dreamontage.models.codec import LinearCodec
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.storyboard.seeds import derive
from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.captions import vocabulary

FLOW_SHIFT = 3.0
STEPS = 6
SHARD = "15MB"  # the largest file of weights
# dreamontage/pipeline/pipeline.py reads these from model_index.json.
PIPELINE_SETTINGS: dict[str, Any] = {
    "window_latents": 13,
    "tail_latents": 2,
    "max_sequence_length": text.TEXT_LENGTH,
    "default_steps": STEPS,
    "default_guidance": 1.0,
    "conditioning": "interm",
}
# How a model is sampled that makes films from noise: measured on the shipped weights
# (EXPERIMENTS.md). `python -m bench.sampling` finds settings for other weights.
FILM_SETTINGS: dict[str, Any] = PIPELINE_SETTINGS | {
    "default_image_guidance": 1.4,
    "initial_noise_scale": 0.85,
    "initial_noise_scale_channels": 12,
}


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The parts that the DiT's training does not change."""

    vae: LinearCodec
    tokenizer: Any
    text_encoder: Any

    def to(self, device: torch.device | str) -> Frozen:
        return Frozen(
            vae=self.vae.to(device),
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder.to(device),
        )


def build_frozen(
    *,
    seed: int,
    z_dim: int,
    batches: int,
    device: torch.device | str = "cpu",
    photos: Tensor | None = None,
    size: int = 64,
) -> Frozen:
    """Fit the codec to `batches` batches of 16 clips, and make tokenizer and text encoder."""
    tokenizer = text.build_tokenizer(vocabulary())
    clips = [
        worlds.clips(
            derive(seed, "codec", index),
            16,
            frames=21,
            height=size,
            width=size,
            device=device,
            photos_NCHW=photos,
        )[0]
        for index in range(batches)
    ]
    return Frozen(
        vae=LinearCodec.fit(clips, z_dim=z_dim),
        tokenizer=tokenizer,
        text_encoder=text.build_encoder(len(tokenizer), seed=seed),
    )


def save_frozen(folder: Path, frozen: Frozen) -> None:
    """Write the frozen parts in the layout of a model folder."""
    frozen.vae.save_pretrained(folder / "vae")
    frozen.tokenizer.save_pretrained(folder / "tokenizer")
    frozen.text_encoder.save_pretrained(folder / "text_encoder")


def load_frozen(folder: Path) -> Frozen:
    """The frozen parts of a model folder that `save_folder` wrote.

    Raises ValueError for a folder with another autoencoder.
    """
    kind = read_json(folder / "vae" / "config.json").get("_class_name")
    if kind != LinearCodec.__name__:
        raise ValueError(f"{folder}: is no nano model; its autoencoder is {kind}")
    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return Frozen(
        vae=LinearCodec.from_pretrained(folder / "vae"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=encoder.eval().requires_grad_(False),
    )


@dataclass(frozen=True, kw_only=True)
class Size:
    """The shape of a nano DiT. `z_dim` is the codec's, `text_width` the text encoder's."""

    heads: int = 4
    layers: int = 5
    ffn: int = 768
    z_dim: int = 48
    text_width: int = 64
    patch: tuple[int, int, int] = (1, 1, 1)


def channels(z_dim: int) -> int:
    """Input channels of a DiT for windows with their conditions: [noise | mask | condition]."""
    return z_dim + MASK_CHANNELS + z_dim


def build_transformer(
    size: Size, *, in_channels: int | None = None, seed: int = 0
) -> DreaMontageTransformer3DModel:
    """An untrained DiT whose input is [noise | mask | condition] and whose last layer is zero.

    `in_channels`: for a DiT with further inputs, the number of all its input channels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = DreaMontageTransformer3DModel(
            patch_size=size.patch,
            num_attention_heads=size.heads,
            attention_head_dim=64,
            in_channels=in_channels or channels(size.z_dim),
            out_channels=size.z_dim,
            text_dim=size.text_width,
            freq_dim=128,
            ffn_dim=size.ffn,
            num_layers=size.layers,
            rope_max_seq_len=256,
        )
    # So the first velocity is zero, and not noise from the initial weights.
    torch.nn.init.zeros_(model.proj_out.weight)
    torch.nn.init.zeros_(model.proj_out.bias)
    return model


def load_transformer(folder: Path) -> DreaMontageTransformer3DModel:
    """The DiT of a model folder, in float32."""
    return DreaMontageTransformer3DModel.from_pretrained(
        folder / "transformer", torch_dtype=torch.float32
    )


def copy_of(
    model: DreaMontageTransformer3DModel, state: Mapping[str, Tensor]
) -> DreaMontageTransformer3DModel:
    """A model of the same config that holds `state`, on the CPU."""
    made = type(model).from_config(model.config)
    made.load_state_dict(dict(state))
    return made.eval()


def save_folder(
    folder: Path,
    frozen: Frozen,
    transformer: DreaMontageTransformer3DModel,
    *,
    release_stage: str | None,
    settings: Mapping[str, Any] = FILM_SETTINGS,
) -> None:
    """Write a whole model folder. The DiT is stored as float16 and loads as float32."""
    save_frozen(folder, frozen)
    transformer.half().save_pretrained(folder / "transformer", max_shard_size=SHARD)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=FLOW_SHIFT
    )
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "DreaMontagePipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["dreamontage.models.transformer", "DreaMontageTransformer3DModel"],
        "vae": ["dreamontage.models.codec", "LinearCodec"],
        **settings,
        "release_stage": release_stage,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for part in ("transformer", "vae"):
        _forget_origin(folder / part / "config.json")


def _forget_origin(config: Path) -> None:
    """Remove the path that a part was loaded from, which diffusers stores."""
    content = json.loads(config.read_text())
    if content.pop("_name_or_path", None) is not None:
        config.write_text(json.dumps(content, indent=2) + "\n")
