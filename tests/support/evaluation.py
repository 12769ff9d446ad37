"""A model folder small enough to film a whole evaluation in a test, and a plan as small."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamontage.evaluation.material import Material
from dreamontage.evaluation.tasks import Plan
from dreamontage.planning.geometry import Geometry
from dreamontage.training.objectives import nano

SIZE = nano.Size(heads=1, layers=1, ffn=64, z_dim=8)

# What a film without any fault measures.
PERFECT = {
    "texture": 0.0,
    "flicker": 1.0,
    "blocks": 1.0,
    "fidelity": 1.0,
    "motion_error": 0.0,
    "camera": 1.0,
    "cuts": 0.0,
    "cut_strength": 0.0,
    "colour_near": 0.0,
    "flicker_near": 1.0,
}


def save_model(folder: Path, *, seed: int = 0, channels: int | None = None) -> Path:
    """An untrained DiT of one layer, whose last one is not zero, beside a real codec.

    channels: of a super-resolution model's input.
    """
    frozen = nano.build_frozen(seed=0, z_dim=8, batches=1, size=32)
    model = nano.build_transformer(SIZE, seed=seed)
    model.proj_out.reset_parameters()
    if channels is not None:
        model.grow_input(channels)
    folder.mkdir(parents=True, exist_ok=True)
    nano.save_folder(folder, frozen, model, release_stage="smoke")
    return folder


@pytest.fixture(scope="session")
def mini_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("mini") / "ours")


@pytest.fixture(scope="session")
def mini_plan() -> Plan:
    """Two segments, two camera moves, films of 32x48 pixels."""
    return Plan(
        clips=2,
        material=Material(height=32, width=48),
        geometry=Geometry(window_latents=13, tail_latents=2),
        segments=2,
        moves=("pan_left", "zoom_in"),
    )
