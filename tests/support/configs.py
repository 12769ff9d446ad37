"""Configs of models that are never loaded."""

from __future__ import annotations

SMALL_TRANSFORMER = {
    "patch_size": [1, 2, 2],
    "num_layers": 2,
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "ffn_dim": 128,
    "text_dim": 32,
    "in_channels": 36,
    "out_channels": 16,
}
"""A `WanTransformer3DModel` with a channel mask."""
