"""Components with random weights in Wan's layout, small by default.

For tests and benches that depend on shapes and arithmetic, and not on what a model has learned.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

Z = 4  # latent channels of `tiny_vae`
TEXT = 16  # width of `tiny_text`'s encoder


def tiny_transformer(in_channels: int, seed: int = 0, **overrides: Any) -> Any:
    """diffusers' Wan transformer, of two layers unless ``overrides`` change its config."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": in_channels,
        "out_channels": Z,
        "text_dim": TEXT,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 64,
    } | overrides
    model = WanTransformer3DModel(**settings).eval()
    with torch.no_grad():  # some layers start at or near zero, so some paths would not count
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def tiny_vae(seed: int = 0) -> Any:
    """An autoencoder of four latent channels, of Wan 2.1's strides."""
    torch.manual_seed(seed)
    return AutoencoderKLWan(
        base_dim=4,
        z_dim=Z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 0.7, 1.1, 2.0],
    ).eval()


def tiny_text() -> tuple[Any, Any]:
    """A random UMT5 encoder and an in-memory Unigram tokenizer over printable characters."""
    torch.manual_seed(0)
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((chr(code), -2.0) for code in range(33, 127)),
        ("▁", -2.0),
    ]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = Metaspace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=64,
    )
    config = UMT5Config(vocab_size=128, d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return fast, UMT5EncoderModel(config).eval()
