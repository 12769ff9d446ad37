"""How a model takes conditions, as its configs say it. Imports no torch."""

from __future__ import annotations

from enum import StrEnum

from dreamontage.timeline import TEMPORAL_STRIDE


class ConditioningMode(StrEnum):
    """How a DiT takes conditions."""

    CHANNELS = "channels"  # mask and condition latents beside the noise: every image-to-video DiT
    CLEAN_LATENTS = "clean latents"  # in the noise's place, at time 0: Wan 2.2 TI2V-5B
    TEXT_ONLY = "text"  # no conditions

    @classmethod
    def from_config(
        cls, *, in_channels: int, z_dim: int, expand_timesteps: bool
    ) -> ConditioningMode:
        """The mode of a DiT with so many input channels, for latents of ``z_dim`` channels."""
        if expand_timesteps:
            return cls.CLEAN_LATENTS
        return cls.CHANNELS if in_channels == z_dim + TEMPORAL_STRIDE + z_dim else cls.TEXT_ONLY
