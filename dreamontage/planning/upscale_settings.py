"""How a film is enlarged: the scale that is asked for, and what an SR model has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Self

from dreamontage.storyboard.types import SCALES
from dreamontage.timeline import TEMPORAL_STRIDE


def sr_channels(z_dim: int) -> int:
    """Input channels of an SR DiT: noisy latents, mask, condition, enlarged film."""
    return z_dim + TEMPORAL_STRIDE + z_dim + z_dim


def channel_error(channels: int, *, z_dim: int) -> str:
    """What keeps a DiT of so many input channels from being an SR DiT; "" when nothing does."""
    if channels == sr_channels(z_dim):
        return ""
    return (
        f"transformer.in_channels = {channels}, and an SR DiT for {z_dim} latent channels has "
        f"{sr_channels(z_dim)}"
    )


def spans(length: int, size: int, overlap: int, multiple: int = 1) -> list[range]:
    """Cover ``length`` with spans of one ``size``, evenly spread; neighbours overlap by at least
    ``overlap``. Spans start on multiples of ``multiple``, which must divide the other three.
    """
    if length <= size:
        return [range(length)]
    steps = -(-(length - size) // (size - overlap))
    slack = (length - size) // multiple
    starts = [multiple * (index * slack // steps) for index in range(steps + 1)]
    return [range(start, start + size) for start in starts]


@dataclass(frozen=True, kw_only=True)
class Upscaler:
    """How a film is enlarged.

    Args:
        scale: 1.5, 2 or 2.25.
        tile_latents: height and width of a tile; a picture no larger is one tile.
        overlap_latents: how far neighbouring tiles overlap at least; 0 leaves seams to be seen.
        strength: the noise level, in (0, 1], at which refining starts; 1 keeps of the enlarged film
            only what the channels beside the noise tell.
        spread: for a model whose flow does not begin in noise: it begins in the enlarged film, with
            noise of this spread on it, so an untrained one changes nothing. ``strength`` is then 1.
        shared_rope: append the stills as tokens (Shared-RoPE); False is plain channel concat.

    Raises:
        ValueError: naming the field and its rule.
    """

    scale: float
    tile_latents: tuple[int, int] = (60, 104)
    overlap_latents: int = 16
    strength: float = 0.7
    spread: float | None = None
    shared_rope: bool = True

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale = {self.scale} must be one of {', '.join(map(str, SCALES))}")
        if not 0 <= self.overlap_latents < min(self.tile_latents):
            raise ValueError(
                f"overlap_latents = {self.overlap_latents} must be at least 0 and less than a "
                f"tile's shorter side, {min(self.tile_latents)}"
            )
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength = {self.strength} must lie above 0 and be at most 1")
        if self.spread is not None and not (self.spread >= 0 and self.strength == 1):
            raise ValueError(
                f"spread = {self.spread} must be at least 0, and strength = {self.strength} then 1"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any], *, scale: float) -> Self:
        """With an SR model's own settings, ``superres`` of its ``model_index.json``; it may have
        none.

        Raises:
            ValueError: naming the setting and its rule.
        """
        own = {field.name for field in fields(cls)} - {"scale"}
        if unknown := settings.keys() - own:
            raise ValueError(f"superres.{min(unknown)} is no setting; there are {sorted(own)}")
        given = dict(settings)
        if "tile_latents" in given:
            given["tile_latents"] = tuple(given["tile_latents"])
        return cls(scale=scale, **given)

    def to_json(self) -> dict[str, Any]:
        """As a record, and the key of a refined segment, has it: what is not set is in neither."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check(self, patch: tuple[int, int]) -> None:
        """Raises:
        ValueError: if tiles are not made of whole tokens of ``patch``, height and width in latents.
        """
        for field, side, step in zip(("height", "width"), self.tile_latents, patch, strict=True):
            if side % step or self.overlap_latents % step:
                raise ValueError(
                    f"tile_latents' {field}, {side}, and overlap_latents = {self.overlap_latents} "
                    f"must be multiples of the model's patch, {step}"
                )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """The film's height and width in pixels: what is shown, and what conditions have to have.

        Raises:
            ValueError: if that is no whole number of pixels.
        """
        enlarged = []
        for field, side in (("height", height), ("width", width)):
            exact = side * Fraction(self.scale)
            if exact.denominator != 1:
                raise ValueError(
                    f"{field} = {side} times {self.scale} is {float(exact):g}, no whole number of "
                    f"pixels: it must be a multiple of {Fraction(self.scale).denominator}"
                )
            enlarged.append(int(exact))
        return enlarged[0], enlarged[1]

    def padded(self, height: int, width: int, *, multiple: tuple[int, int]) -> tuple[int, int]:
        """The height and width in pixels that the model works at: `size`, made up to its grid.

        480 lines times 2.25 are 1080, which is no multiple of 16: the picture's last row and
        column are repeated up to 1088, and of the frames that come of it `size` is shown.

        Args:
            multiple: what the model's heights and widths are multiples of.
        """
        rows, columns = (
            -(-side // step) * step
            for side, step in zip(self.size(height, width), multiple, strict=True)
        )
        return rows, columns
