"""What a plan says of cost: counted against torch's own counter, and by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dreamontage import Keyframe
from dreamontage.pipeline.request import placed
from dreamontage.planning.cost import (
    Estimate,
    estimate,
    parameters,
    refine_estimate,
    steps_below,
)
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import ShotPlan, plan_shot
from tests.support.configs import SMALL_TRANSFORMER


def test_an_estimate_counts_a_real_transformers_weights_and_operations() -> None:
    model = WanTransformer3DModel(freq_dim=256, **SMALL_TRANSFORMER).eval()
    real = sum(weight.numel() for weight in model.parameters())
    assert parameters(SMALL_TRANSFORMER) == pytest.approx(real, rel=0.03)

    geometry = Geometry(window_latents=9, tail_latents=2)
    counter = FlopCounterMode(display=False)
    # The counter knows attention only as the products it is made of.
    with torch.no_grad(), counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.zeros(1, 36, 9, 8, 16), torch.zeros(1), torch.zeros(1, 24, 32))

    def counted(*conditions: Any, frames: int, **how: bool) -> Estimate:
        return estimate(
            plan_shot(
                frames=frames,
                fps=Fraction(16),
                prompts=[],
                conditions=placed(conditions),
                seed=0,
                geometry=geometry,
            ),
            transformer_config=SMALL_TRANSFORMER,
            latent_height=8,
            latent_width=16,
            steps=3,
            flops_per_second=1e9,
            text_tokens=24,
            **how,
        )

    def passes(*conditions: Any, frames: int = 33, **how: bool) -> float:
        return counted(*conditions, frames=frames, **how).flops / counter.get_total_flops()

    first = Keyframe(image=np.zeros((64, 128, 3), np.uint8), frame=0)
    assert passes(guided=False, image_guided=True) == pytest.approx(3, rel=0.02)
    assert passes(first, guided=True, image_guided=False) == pytest.approx(6, rel=0.02)
    assert passes(first, guided=True, image_guided=True) == pytest.approx(9, rel=0.02)
    # Two windows of nine latents, of which the first holds the condition.
    assert passes(first, frames=61, guided=False, image_guided=True) == pytest.approx(9, rel=0.02)
    seconds = counted(frames=33, guided=False, image_guided=False)
    assert seconds.seconds == seconds.flops / 1e9


def two_windows() -> ShotPlan:
    """Latents 0 to 8 and 7 to 15."""
    geometry = Geometry(window_latents=9, tail_latents=2)
    plan = plan_shot(
        frames=61, fps=Fraction(16), prompts=[], conditions=[], seed=0, geometry=geometry
    )
    assert [each.latents for each in plan.segments] == [9, 9]
    return plan


# A toy of one block whose sums can be done by hand: width 2, no text worth speaking of.
TOY = {
    "patch_size": [1, 2, 3],
    "num_layers": 1,
    "num_attention_heads": 1,
    "attention_head_dim": 2,
    "ffn_dim": 5,
    "text_dim": 7,
    "in_channels": 3,
    "out_channels": 1,
}
TOY_PARAMETERS = 8 * 4 + 2 * 2 * 5 + 6 * 2 * 4 + 7 * 2 + 4 + 256 * 2 + 4 + 6 * 4


def toy_flops(tokens: int, text: int) -> int:
    """One pass, by hand: self-attention, cross-attention, feed-forward, ends, text."""
    attention = 8 * tokens * 4 + 4 * tokens**2 * 2
    cross = 4 * (tokens + text) * 4 + 4 * tokens * text * 2
    return attention + cross + 4 * tokens * 10 + 2 * tokens * 6 * 8 + 2 * text * (14 + 4)


def test_the_toys_weights_are_counted_by_hand() -> None:
    assert parameters(TOY) == TOY_PARAMETERS


def test_a_shots_cost_is_the_sum_over_its_windows() -> None:
    """9 latents of 4x9 are 54 tokens in patches of 1x2x3."""
    cost = estimate(
        two_windows(),
        transformer_config=TOY,
        latent_height=4,
        latent_width=9,
        steps=3,
        guided=True,
        image_guided=False,
        flops_per_second=2.0,
    )
    flops = 2 * 6 * toy_flops(54, 512)
    live = 54 * (6 * 2 + 5)
    assert cost == Estimate(flops=flops, seconds=flops / 2, bytes=2 * (TOY_PARAMETERS + live))


def test_the_super_resolution_stage_costs_by_tile_and_appended_frame() -> None:
    """9 latents and one appended frame of 4x9 are 60 tokens, two appended ones 66."""
    cost = refine_estimate(
        two_windows(),
        transformer_config=TOY,
        tiles=5,
        tile=(4, 9),
        appended=[1, 2],
        steps=3,
        guided=False,
        flops_per_second=4.0,
        text_tokens=11,
        bytes_per_value=3,
    )
    flops = 15 * (toy_flops(60, 11) + toy_flops(66, 11))
    live = 66 * (6 * 2 + 5)
    assert cost == Estimate(flops=flops, seconds=flops / 4, bytes=3 * (TOY_PARAMETERS + live))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        refine_estimate(
            two_windows(),
            transformer_config=TOY,
            tiles=1,
            tile=(4, 9),
            appended=[1],
            steps=3,
            guided=True,
            flops_per_second=4.0,
            text_tokens=11,
            bytes_per_value=3,
        )


def test_guidance_doubles_the_super_resolution_stage() -> None:
    def flops(guided: bool) -> int:
        return refine_estimate(
            two_windows(),
            transformer_config=TOY,
            tiles=1,
            tile=(4, 9),
            appended=[0, 0],
            steps=1,
            guided=guided,
            flops_per_second=1.0,
            text_tokens=1,
            bytes_per_value=1,
        ).flops

    assert flops(True) == 2 * flops(False)


@pytest.mark.parametrize(
    ("strength", "steps", "shift", "run"),
    [
        (1.0, 4, 1.0, 4),
        (0.999, 4, 1.0, 3),  # levels 1, 0.75025, 0.5005 and 0.25075
        (0.75025, 4, 1.0, 3),
        (0.75, 4, 1.0, 2),
        (0.25, 4, 1.0, 0),
        (0.751, 4, 3.0, 2),  # shifted: 1, 0.9, 0.7504 and 0.501
        (0.75, 4, 3.0, 1),
        (0.5, 4, 3.0, 0),
    ],
)
def test_the_steps_that_begin_below_a_noise_level(
    strength: float, steps: int, shift: float, run: int
) -> None:
    assert steps_below(strength, steps, shift) == run


def test_a_config_of_another_transformer_names_what_it_lacks() -> None:
    for name in TOY:
        config = {key: value for key, value in TOY.items() if key != name}
        if name == "patch_size" or name.startswith(("num", "att", "ffn", "text", "in", "out")):
            with pytest.raises(ValueError, match=f"the transformer's config lacks '{name}'"):
                parameters(config)
