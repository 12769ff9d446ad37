"""Tiny random models in diffusers' layout: every shape of Wan checkpoint, at test size."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
)

from dreamontage import DreaMontagePipeline
from dreamontage.models.random_weights import TEXT as TEXT  # imported from here by tests
from dreamontage.models.random_weights import Z as Z
from dreamontage.models.random_weights import tiny_text
from dreamontage.models.random_weights import tiny_transformer as tiny_transformer
from dreamontage.models.random_weights import tiny_vae as tiny_vae
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.pipeline.upscale import sr_channels

IMAGE_WIDTH = 8  # width of the tiny image encoder
IMAGE_TOKENS = 5  # an image of 16x16 pixels in patches of 8, and the class token


def residual_vae() -> Any:
    """The shape of Wan 2.2's TI2V-5B autoencoder: patchified pixels and residual sampling."""
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=Z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0, 0.1, -0.1, 0.2],
        latents_std=[1.0, 0.8, 1.2, 1.0],
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    ).eval()


def tiny_image_encoder() -> tuple[Any, Any]:
    """A random CLIP vision encoder and its processor."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=IMAGE_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    processor = CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    )
    return CLIPVisionModel(config).eval(), processor


@functools.cache
def _components() -> tuple[Any, Any, Any, Any]:
    tokenizer, text_encoder = tiny_text()
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return tokenizer, text_encoder, tiny_vae(), scheduler


def save_tiny_wan(folder: Path, kind: str) -> Path:
    """Save a stock pipeline folder.

    ``kind``: "t2v" (Wan 2.1 and 2.2), "i2v" (one expert, no image encoder), "i2v-a14b" (Wan 2.2,
    two experts), "i2v-clip" and "flf2v" (Wan 2.1, with an image encoder), "ti2v" (Wan 2.2 5B).
    """
    tokenizer, text_encoder, vae, scheduler = _components()
    common = {
        "tokenizer": tokenizer,
        "text_encoder": text_encoder,
        "vae": vae,
        "scheduler": scheduler,
    }
    conditioned = 2 * Z + 4
    if kind == "t2v":
        pipe = WanPipeline(**common, transformer=tiny_transformer(Z))
    elif kind == "i2v":
        pipe = WanImageToVideoPipeline(**common, transformer=tiny_transformer(conditioned))
    elif kind == "i2v-a14b":
        pipe = WanImageToVideoPipeline(
            **common,
            transformer=tiny_transformer(conditioned),
            transformer_2=tiny_transformer(conditioned, seed=1),
            boundary_ratio=0.9,
        )
    elif kind in ("i2v-clip", "flf2v"):
        image_encoder, image_processor = tiny_image_encoder()
        seen = {"image_dim": IMAGE_WIDTH, "added_kv_proj_dim": 24}
        if kind == "flf2v":
            seen["pos_embed_seq_len"] = 2 * IMAGE_TOKENS
        pipe = WanImageToVideoPipeline(
            **common,
            image_encoder=image_encoder,
            image_processor=image_processor,
            transformer=tiny_transformer(conditioned, **seen),
        )
    elif kind == "ti2v":
        # As published: a text-to-video folder, which diffusers' image-to-video pipeline loads too.
        common["vae"] = residual_vae()
        pipe = WanPipeline(**common, transformer=tiny_transformer(Z), expand_timesteps=True)
    else:
        raise AssertionError(kind)
    pipe.save_pretrained(folder)
    return folder


def lora(seed: int) -> dict[str, torch.Tensor]:
    """A LoRA of rank 2 on the first block's self-attention, as diffusers writes them."""
    generator = torch.Generator().manual_seed(seed)
    width = 24
    return {
        f"transformer.blocks.0.attn1.{layer}.{part}.weight": torch.randn(shape, generator=generator)
        for layer in ("to_q", "to_v")
        for part, shape in (("lora_A", (2, width)), ("lora_B", (width, 2)))
    }


@pytest.fixture(scope="session")
def tiny_i2v_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("tiny") / "i2v-clip", "i2v-clip")


@pytest.fixture(scope="session")
def tiny_flf2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("tiny") / "flf2v", "flf2v")


@pytest.fixture(scope="session")
def tiny_ti2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("tiny") / "ti2v", "ti2v")


@pytest.fixture(scope="session")
def tiny_i2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("tiny") / "i2v", "i2v")


@pytest.fixture(scope="session")
def tiny_a14b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("tiny") / "a14b", "i2v-a14b")


@pytest.fixture(scope="session")
def tiny_t2v(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_wan(tmp_path_factory.mktemp("tiny") / "t2v", "t2v")


@pytest.fixture(scope="session")
def tiny_ours(tiny_i2v: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny folder of ours: conditions encoded alone, windows of four latents, six steps."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_i2v)
    pipe.register_to_config(
        conditioning="interm",
        window_latents=4,
        tail_latents=1,
        max_sequence_length=32,
        default_steps=6,
        default_guidance=1.0,
    )
    folder = tmp_path_factory.mktemp("tiny") / "ours"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_sr(tiny_ours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny super-resolution model on the same autoencoder: windows of five latents, of which two
    are handed over, small tiles, and six of its eight steps to run.
    """
    base = DreaMontagePipeline.from_pretrained(tiny_ours)
    stock = tiny_transformer(sr_channels(Z), seed=2)
    transformer = DreaMontageTransformer3DModel.from_config(stock.config)
    transformer.load_state_dict(stock.state_dict())
    pipe = DreaMontagePipeline(**base.components | {"transformer": transformer.eval()})
    pipe.register_to_config(
        conditioning="interm",
        window_latents=5,
        tail_latents=2,
        max_sequence_length=32,
        default_steps=8,
        default_guidance=1.0,
        superres={"tile_latents": [8, 12], "overlap_latents": 4, "strength": 0.92},
    )
    folder = tmp_path_factory.mktemp("tiny") / "sr"
    pipe.save_pretrained(folder)
    return folder
