"""The super-resolution stage: what it does and why stands in ``stage``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamontage.upscale.shot import upscale_shot
    from dreamontage.upscale.stage import refine, upscale
    from dreamontage.upscale.upscaler import Upscaler, sr_channels

__all__ = ["Upscaler", "refine", "sr_channels", "upscale", "upscale_shot"]

_HOMES = {
    "Upscaler": "upscaler",
    "refine": "stage",
    "sr_channels": "upscaler",
    "upscale": "stage",
    "upscale_shot": "shot",
}


def __getattr__(name: str) -> Any:
    # As the library's own: planning an enlarged film needs no torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
