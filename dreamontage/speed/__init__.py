"""Options that make a model faster or smaller, each with an honest word on what it does to the
result.

>>> pipe = DreaMontagePipeline.from_pretrained(folder).to("cuda")
>>> apply(pipe, SpeedOptions(attention="flash", step_cache=FirstBlock(threshold=0.08)))

None of them is ours: they are diffusers', torch's and torchao's, set up so that they fit segments
and resumable states.
"""

from dreamontage.speed.effects import Effect, Exactness, describe, resumable, revision
from dreamontage.speed.fitting import apply
from dreamontage.speed.magnitudes import mag_ratios
from dreamontage.speed.options import FirstBlock, Mag, SpeedOptions, TaylorSeer

__all__ = [
    "Effect",
    "Exactness",
    "FirstBlock",
    "Mag",
    "SpeedOptions",
    "TaylorSeer",
    "apply",
    "describe",
    "mag_ratios",
    "resumable",
    "revision",
]
