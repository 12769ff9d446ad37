"""Options that make a model faster or smaller, each with an honest word on what it does to the
result.

>>> pipe = DreaMontagePipeline.from_pretrained(folder).to("cuda")
>>> apply(pipe, SpeedOptions(attention="flash", step_cache=FirstBlock(threshold=0.08)))

None of them is ours: they are diffusers', torch's and torchao's, set up so that they fit segments
and resumable states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dreamontage.pipeline.acceleration.effects import (
    Effect,
    Exactness,
    describe,
    resumable,
    revision,
    to_record,
)
from dreamontage.pipeline.acceleration.options import FirstBlock, Mag, SpeedOptions, TaylorSeer
from dreamontage.pipeline.acceleration.reading import parse

to_record = to_record  # as callers outside of the pipeline still name it

if TYPE_CHECKING:
    from dreamontage.pipeline.acceleration.fitting import apply, fit
    from dreamontage.pipeline.acceleration.magnitudes import mag_ratios

__all__ = [
    "Effect",
    "Exactness",
    "FirstBlock",
    "Mag",
    "SpeedOptions",
    "TaylorSeer",
    "apply",
    "describe",
    "fit",
    "mag_ratios",
    "parse",
    "resumable",
    "revision",
    "to_record",
]

_HOMES = {"apply": "fitting", "fit": "fitting", "mag_ratios": "magnitudes"}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and planning only needs what an option does to a key.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
