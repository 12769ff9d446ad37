"""Random weights in Wan's layout, for figures that depend on shapes and not on what was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanImageToVideoPipeline

from bench.clock import DEVICE
from dreamontage import DreaMontagePipeline
from dreamontage.models.random_weights import TEXT, Z, tiny_text, tiny_transformer, tiny_vae


class Size(TypedDict):
    """Of a film, in pixels."""

    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model, and the film to make with it."""

    name: str
    transformer: dict[str, Any]
    vae: dict[str, Any] | None  # None: the tiny one
    dtype: torch.dtype
    call: dict[str, int]
    steps: int
    turns: int


SMALL = Shape(
    name="Wan's layout, 4 layers of width 128, float32; 33 frames of 96x96",
    transformer={
        "num_attention_heads": 4,
        "attention_head_dim": 32,
        "freq_dim": 64,
        "ffn_dim": 512,
        "num_layers": 4,
    },
    vae=None,
    dtype=torch.float32,
    call={"height": 96, "width": 96, "num_frames": 33, "max_sequence_length": 64},
    steps=8,
    turns=7,
)
WAN_1_3B = Shape(
    name="Wan 2.1's 1.3B, bfloat16; 33 frames of 832x480",
    transformer={
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "freq_dim": 256,
        "ffn_dim": 8960,
        "num_layers": 30,
        "rope_max_seq_len": 1024,
        "out_channels": 16,
    },
    vae={},  # the published one is diffusers' default
    dtype=torch.bfloat16,
    call={"height": 480, "width": 832, "num_frames": 33, "max_sequence_length": 512},
    steps=8,
    turns=5,
)
SHAPE = WAN_1_3B if DEVICE.type == "cuda" else SMALL


def save(folder: Path, shape: Shape = SHAPE) -> Path:
    """Save an image-to-video folder of random weights, as diffusers' own pipeline writes it."""
    vae = tiny_vae() if shape.vae is None else AutoencoderKLWan(**shape.vae)
    z = Z if shape.vae is None else vae.config.z_dim
    tokenizer, text_encoder = tiny_text()
    pipe = WanImageToVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        transformer=tiny_transformer(2 * z + 4, text_dim=TEXT, **shape.transformer).to(shape.dtype),
    )
    pipe.save_pretrained(folder)
    return folder


def ours(folder: Path) -> DreaMontagePipeline:
    return _loaded(DreaMontagePipeline, folder)


def theirs(folder: Path) -> Any:
    return _loaded(WanImageToVideoPipeline, folder)


def _loaded(kind: Any, folder: Path) -> Any:
    # As diffusers advises for Wan: the autoencoder in float32, whatever the transformer has.
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", dtype=torch.float32)
    pipe = kind.from_pretrained(folder, vae=vae, dtype=SHAPE.dtype).to(DEVICE)
    pipe.set_progress_bar_config(disable=True)
    return pipe
