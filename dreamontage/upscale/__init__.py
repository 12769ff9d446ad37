"""The super-resolution stage: what it does and why stands in ``stage``."""

from dreamontage.upscale.stage import Upscaler, refine, sr_channels, upscale

__all__ = ["Upscaler", "refine", "sr_channels", "upscale"]
