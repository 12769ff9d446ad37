"""The cost of a shot, from a Wan transformer's config; nothing is loaded.

Matrix products are counted: two operations for a multiplication and an addition. Norms, rotary
positions and the autoencoder are not counted; they are a few hundredths of the whole at any size.
Bytes are the weights and the activations of the largest window, in a pass without gradients, with
an attention that does not store its matrix.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dreamontage.planning.segments import ShotPlan

# In a block: the residual, its normalised copy, queries, keys, values and attention's result.
_LIVE_ROWS = 6


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Operations, seconds and bytes."""

    flops: int
    seconds: float
    bytes: int


def estimate(
    plan: ShotPlan,
    *,
    transformer_config: Mapping[str, Any],
    latent_height: int,
    latent_width: int,
    steps: int,
    guided: bool,
    image_guided: bool,
    flops_per_second: float,
    text_tokens: int = 512,
    bytes_per_value: int = 2,
) -> Estimate:
    """The cost of denoising a shot's segments. `guided`, by the prompt, means one pass more a step,
    and `image_guided` another in windows that hold conditions.

    `flops_per_second` is what the machine really reaches. Raises `ValueError` for a config that
    is not a Wan transformer's.
    """
    shape = _Shape.read(transformer_config)
    passes = [
        steps * (1 + guided + (image_guided and segment.has_image_condition))
        for segment in plan.segments
    ]
    tokens = [
        segment.latents * latent_height * latent_width // math.prod(shape.patch)
        for segment in plan.segments
    ]
    return shape.cost(tokens, passes, text_tokens, flops_per_second, bytes_per_value)


def refine_estimate(
    plan: ShotPlan,
    *,
    transformer_config: Mapping[str, Any],
    tiles: int,
    tile: tuple[int, int],
    appended: Sequence[int],
    steps: int,
    guided: bool,
    flops_per_second: float,
    text_tokens: int,
    bytes_per_value: int,
) -> Estimate:
    """The cost of the super-resolution stage of a shot, tile by tile.

    `tile` is a tile's height and width in latents, `tiles` their number. `appended[i]` frames
    are appended to window i (Shared-RoPE). `steps` is the number of steps below the noise
    level at which the stage starts.
    """
    shape = _Shape.read(transformer_config)
    passes = [steps * tiles * (1 + guided)] * len(plan.segments)
    tokens = [
        (segment.latents + more) * tile[0] * tile[1] // math.prod(shape.patch)
        for segment, more in zip(plan.segments, appended, strict=True)
    ]
    return shape.cost(tokens, passes, text_tokens, flops_per_second, bytes_per_value)


def steps_below(strength: float, steps: int, shift: float) -> int:
    """The number of steps of a shifted flow schedule that begin at a noise level of at most
    `strength`: the steps that the super-resolution stage, or a draft start, runs.

    Steps are spaced as in diffusers' UniPC with 1,000 training steps: down to 0.001, not to 0. So
    the levels are a little higher than plain fractions.
    """
    levels = (1 - 0.999 * done / steps for done in range(steps))
    return sum(shift * level / (1 + (shift - 1) * level) <= strength for level in levels)


def parameters(transformer_config: Mapping[str, Any]) -> int:
    """How many weights the transformer's matrices have. Raises as `estimate` does."""
    return _Shape.read(transformer_config).parameters()


@dataclass(frozen=True, kw_only=True)
class _Shape:
    """A Wan transformer (diffusers' `WanTransformer3DModel`), from its config."""

    layers: int
    width: int
    ffn: int
    text: int
    channels_in: int
    channels_out: int
    patch: tuple[int, int, int]

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> _Shape:
        try:
            time, height, width = config["patch_size"]
            return cls(
                layers=config["num_layers"],
                width=config["num_attention_heads"] * config["attention_head_dim"],
                ffn=config["ffn_dim"],
                text=config["text_dim"],
                channels_in=config["in_channels"],
                channels_out=config["out_channels"],
                patch=(time, height, width),
            )
        except KeyError as error:
            raise ValueError(f"the transformer's config lacks {error}") from None

    def cost(
        self,
        tokens: Sequence[int],
        passes: Sequence[int],
        text_tokens: int,
        flops_per_second: float,
        bytes_per_value: int,
    ) -> Estimate:
        """The cost of windows with `tokens[i]` tokens and `passes[i]` forward passes each."""
        flops = sum(
            times * self.flops(count, text_tokens)
            for times, count in zip(passes, tokens, strict=True)
        )
        live = max(tokens) * (_LIVE_ROWS * self.width + self.ffn)
        return Estimate(
            flops=flops,
            seconds=flops / flops_per_second,
            bytes=(self.parameters() + live) * bytes_per_value,
        )

    def flops(self, tokens: int, text_tokens: int) -> int:
        """One forward pass of one film."""
        width, patch = self.width, math.prod(self.patch)
        attention = 8 * tokens * width**2 + 4 * tokens**2 * width
        cross = 4 * (tokens + text_tokens) * width**2 + 4 * tokens * text_tokens * width
        feed_forward = 4 * tokens * width * self.ffn
        ends = 2 * tokens * patch * width * (self.channels_in + self.channels_out)
        text = 2 * text_tokens * (self.text * width + width**2)
        return self.layers * (attention + cross + feed_forward) + ends + text

    def parameters(self) -> int:
        """The weights of its matrices."""
        width, patch = self.width, math.prod(self.patch)
        block = 8 * width**2 + 2 * width * self.ffn
        ends = patch * width * (self.channels_in + self.channels_out)
        # Text, and the time step's embedding with its six modulations a block.
        heads = self.text * width + width**2 + 256 * width + width**2 + 6 * width**2
        return self.layers * block + ends + heads
