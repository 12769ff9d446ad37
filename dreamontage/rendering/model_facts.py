"""A model's folder as a plan needs it, and how fast this machine computes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamontage.files import read_json
from dreamontage.models.folder import folder_facts
from dreamontage.planning.cost import parameters
from dreamontage.planning.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a model's folder says of itself, read without loading the model."""

    folder: Path
    geometry: Geometry
    config: Mapping[str, Any]
    spatial_scale: int
    steps: int
    guidance: float
    image_guidance: float
    text_tokens: int
    bytes_per_value: int

    @classmethod
    def from_folder(cls, folder: Path) -> Model:
        """Raises `ValueError` naming the file that is missing or wrong."""
        facts = folder_facts(folder)
        config = read_json(folder / "transformer" / "config.json")
        stored = sum(file.stat().st_size for file in (folder / "transformer").glob("*.safetensors"))
        return cls(
            folder=folder,
            geometry=Geometry.from_folder(folder),
            config=config,
            spatial_scale=read_json(folder / "vae" / "config.json").get("scale_factor_spatial", 8),
            steps=facts.default_steps,
            guidance=facts.default_guidance,
            image_guidance=facts.default_image_guidance,
            text_tokens=facts.max_sequence_length,
            # As the weights are stored; two bytes where there are only configs.
            bytes_per_value=min(4, max(1, round(stored / parameters(config)))) if stored else 2,
        )

    @property
    def weight_bytes(self) -> int:
        return parameters(self.config) * self.bytes_per_value

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"folder": str(self.folder), **asdict(self.geometry)}


def measured_flops() -> float:
    """Operations a second that this machine's processor reaches in a product of matrices."""
    side, best = 768, math.inf
    values = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    for _ in range(5):
        started = time.perf_counter()
        np.matmul(values, values)
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best
