"""The super-resolution stage: ``stage`` says what it does and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamontage.pipeline.upscale.shot import upscale_shot
    from dreamontage.pipeline.upscale.stage import refine, upscale
    from dreamontage.planning.upscale_settings import Upscaler, sr_channels

__all__ = ["Upscaler", "refine", "sr_channels", "upscale", "upscale_shot"]

_HOMES = {
    "Upscaler": "dreamontage.planning.upscale_settings",
    "refine": f"{__name__}.stage",
    "sr_channels": "dreamontage.planning.upscale_settings",
    "upscale": f"{__name__}.stage",
    "upscale_shot": f"{__name__}.shot",
}


def __getattr__(name: str) -> Any:
    # As the library's own: planning an enlarged film needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
