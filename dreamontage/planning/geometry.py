"""What a model asks of its windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamontage.files import read_json


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What a model asks of its windows: their longest length, and how they overlap."""

    window_latents: int
    tail_latents: int
    spatial_multiple: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.tail_latents < self.window_latents:
            raise ValueError(
                f"tail_latents = {self.tail_latents} must be at least 1 and less than "
                f"window_latents, {self.window_latents}"
            )

    def window_stop(self, start: int, boundaries: Sequence[int], least: int = 0) -> int:
        """Where a window ends that cannot reach the shot's end: at the latest boundary inside it.

        `boundaries` are in order; none counts that leaves the window no longer than a tail, or
        lies before `least`.
        """
        furthest = start + self.window_latents
        shortest = max(start + self.tail_latents + 1, least)
        inside = [boundary for boundary in boundaries if shortest <= boundary <= furthest]
        return inside[-1] if inside else furthest

    @classmethod
    def from_folder(cls, folder: Path) -> Geometry:
        """The geometry of a model's folder, read without loading the model.

        A stock Wan checkpoint does not say; it was trained on 81 frames, 21 latents. Raises
        `ValueError` naming the file that is missing or wrong.
        """
        index = read_json(folder / "model_index.json")
        patch = read_json(folder / "transformer" / "config.json")["patch_size"]
        scale = read_json(folder / "vae" / "config.json").get("scale_factor_spatial", 8)
        return cls(
            window_latents=index.get("window_latents", 21),
            tail_latents=index.get("tail_latents", 2),
            spatial_multiple=max(16, scale * max(patch[1:])),
        )
