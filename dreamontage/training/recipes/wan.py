"""Tuning of Wan on what `dreamontage curate` made of real videos.

On eight 80 GB GPUs a LoRA of 14B trains with a copy of the frozen weights in each (bfloat16). All
weights train only sharded (FSDP2: float32 weights, bfloat16 arithmetic).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from dreamontage.training.loop.recipe import Recipe
from dreamontage.training.objectives.wan import StoredObjective, WanStudy
from dreamontage.training.objectives.wan_preference import WanPreferenceObjective, WanPreferences

_LORA = WanStudy(rank=64)
_LOW_LORA = replace(_LORA, expert="transformer_2")
_TINY_STUDY = WanStudy(rank=0, latents=3, length=16)
_TINY: dict[str, Any] = {"device": "cpu", "bfloat16": False, "warmup": 1, "prefetch": 0}


def wan_14b_adaptive_8xh100() -> Recipe:
    """All weights. The paper: 30,000 steps on 300,000 clips."""
    study = WanStudy(rank=0)
    return _recipe("wan_14b_adaptive_8xh100", study, fsdp=True, learning_rate=1e-5)


def wan_14b_adaptive_lora_8xh100() -> Recipe:
    """The same by a LoRA of rank 64."""
    return _recipe("wan_14b_adaptive_lora_8xh100", _LORA, learning_rate=1e-4)


def wan_a14b_low_adaptive_lora_8xh100() -> Recipe:
    """The same for the low-noise expert of Wan 2.2 A14B."""
    return _recipe("wan_a14b_low_adaptive_lora_8xh100", _LOW_LORA, learning_rate=1e-4)


def wan_14b_expression_lora_8xh100() -> Recipe:
    """The paper: 15,000 steps on some 1,000 hand-picked videos of up to 20 s."""
    return _recipe("wan_14b_expression_lora_8xh100", _LORA, learning_rate=3e-5, decay=1.0)


def wan_14b_preference_lora_8xh100() -> Recipe:
    """DPO. The paper: 10,000 steps on 1,000 pairs for each of the two kinds."""
    study = WanPreferences(study=_LORA)
    return _recipe("wan_14b_preference_lora_8xh100", study, learning_rate=1e-5)


def wan_lora_smoke() -> Recipe:
    """The code of the LoRA recipes, at a size that a test runs."""
    return _recipe("wan_lora_smoke", replace(_TINY_STUDY, rank=4), learning_rate=1e-3, **_TINY)


def wan_preference_smoke() -> Recipe:
    """The code of DPO, at a size that a test runs."""
    study = WanPreferences(study=replace(_TINY_STUDY, rank=4))
    return _recipe("wan_preference_smoke", study, learning_rate=1e-2, **_TINY)


def wan_full_smoke() -> Recipe:
    """The code that trains all weights, sharded, at a size that a test runs."""
    return _recipe("wan_full_smoke", _TINY_STUDY, fsdp=True, learning_rate=1e-3, **_TINY)


def _recipe(name: str, study: WanStudy | WanPreferences, **more: Any) -> Recipe:
    options = {
        "device": "cuda",
        "bfloat16": True,
        "muon": False,
        "ema": 0.0,
        "warmup": 500,
        "prefetch": 2,
        "checkpoint_minutes": 30,
        "sheet_minutes": 60,
        "export_minutes": 120,
        "seed": 1,
    }
    build: Callable[..., Any]
    if isinstance(study, WanStudy):
        build = partial(StoredObjective, study=study)
    else:
        build = partial(WanPreferenceObjective, preferences=study)
    return Recipe(name=name, build=build, **{**options, **more})


RECIPES = (
    wan_14b_adaptive_8xh100,
    wan_14b_adaptive_lora_8xh100,
    wan_a14b_low_adaptive_lora_8xh100,
    wan_14b_expression_lora_8xh100,
    wan_14b_preference_lora_8xh100,
    wan_lora_smoke,
    wan_preference_smoke,
    wan_full_smoke,
)
