"""A training run of a few numbers: what tests of the loop need, without a world or a codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Recipe, Setting


class ToyModel(torch.nn.Module):
    """A matrix that Muon trains, and a layer that AdamW trains."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(4, 4)])
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.blocks[0](x).tanh())
        return result


class ToySource:
    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        return {"x": torch.randn(3 * repeat, 4, generator=generator)}


class ToyObjective:
    """Learn to give each input's first two numbers."""

    def __init__(self, setting: Setting) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(setting.seed)
            self.model = ToyModel()
        self.source = ToySource()

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        x = batch["x"]
        return (model(x) - x[:, :2]).square().mean(), len(x)

    def scores(self, model: Any) -> dict[str, float]:
        loss, _ = self.loss(model, self.source.draw(0, 0.0, 1), seed=0)
        return {"loss": float(loss)}

    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        return []

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        save_file(dict(state), folder / "weights.safetensors")


def toy_recipe(**overrides: Any) -> Recipe:
    options: dict[str, Any] = {"name": "toy", "build": ToyObjective, "warmup": 1}
    return Recipe(**options | overrides)
