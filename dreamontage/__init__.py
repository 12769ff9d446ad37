"""DreaMontage: one seamless long take from stills and clips placed anywhere on a timeline.

from dreamontage import Clip, DreaMontagePipeline, Keyframe

pipe = DreaMontagePipeline.from_pretrained("weights/nano")
film = pipe("the sea rises", conditions=[Keyframe(image=still, frame=0)]).frames
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamontage.pipeline.pipeline import DreaMontagePipeline
    from dreamontage.sampling.conditioning.conditions import Clip, Keyframe

__all__ = ["Clip", "DreaMontagePipeline", "Keyframe", "__version__"]

__version__ = "0.1.0"

_HOMES = {
    "Clip": "sampling.conditioning.conditions",
    "Keyframe": "sampling.conditioning.conditions",
    "DreaMontagePipeline": "pipeline.pipeline",
}


def __getattr__(name: str) -> Any:
    # torch and diffusers take seconds to import, and planning or validating needs neither.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
