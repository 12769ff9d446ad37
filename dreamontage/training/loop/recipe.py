"""The parts of a training run: a recipe, and the objective that it builds in the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from dreamontage.training.loop.prefetch import Batch, Source

# A chain's stages share the code of their blocks, and every stage compiles a few versions of it:
# trained and frozen models, of two widths. Torch's default limit of 8 ended a chain in its last
# stage.
_VERSIONS = 64


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What an objective is built from.

    Args:
        folder: the run's own; what the objective makes once is stored under `frozen/`.
        init: a model folder to start from; None for a recipe that starts from nothing.
        photos_NCHW: squares in [0, 1] as surfaces of worlds; used at the run's first start.
        data: a folder of training data (`datasets.shards`), for recipes on real videos.
        bfloat16, compiled: as in the recipe, for models that the trainer does not prepare.
    """

    folder: Path
    device: torch.device
    seed: int
    init: Path | None = None
    photos_NCHW: Tensor | None = None
    data: Path | None = None
    bfloat16: bool = False
    compiled: bool = False

    def prepare(self, model: Any) -> Any:
        """The model on the device and, if the recipe says so, compiled block by block.

        That takes a fraction of a whole compilation's time, and the model is no slower. A model
        without blocks is not compiled.
        """
        model = model.to(self.device)
        if self.compiled and isinstance(model, ModelMixin):
            torch.compiler.config.recompile_limit = _VERSIONS
            model.compile_repeated_blocks(fullgraph=True, dynamic=True)
        return model

    def autocast(self) -> torch.autocast:
        """The precision context for a model that the trainer has not prepared."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


class Objective(Protocol):
    """What is trained, on what data, and how it is scored: all that the trainer needs of a stage.

    `model` in the methods is `self.model` as the trainer prepared it: compiled, sharded, averaged.
    """

    model: Any

    @property
    def source(self) -> Source:
        """The source of the trainer's batches."""
        ...

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        """The mean loss of a batch, and how many examples it had; `seed` draws times and noise."""
        ...

    def scores(self, model: Any) -> dict[str, float]:
        """Figures on held-out data; the first one is `loss`."""
        ...

    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """What the model makes of held-out data, for a sheet; empty for no sheet.

        Groups of films video_CTHW: the true one, the conditions, and the one that was made.
        """
        ...

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        """Write a model folder with the averaged weights `state`, and a card with `facts`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run, except its length.

    `muon` trains the blocks' matrices with Muon instead of AdamW (not under `fsdp`). `block` is how
    many steps' batches are drawn at once, `pool` how many such blocks are used in turn, `uses` how
    often, with new times and noise, and `ahead` how many pools are drawn in advance.
    `decay` is the last part of the run, in which the learning rate falls to zero; `ema` the
    decay of the averaged weights, 0 for none. `fsdp` shards parameters, gradients and optimiser
    over all processes (FSDP2).
    """

    name: str
    build: Callable[[Setting], Objective]
    learning_rate: float = 1e-3
    warmup: int = 200
    decay: float = 0.0
    muon: bool = True
    block: int = 1
    pool: int = 1
    uses: int = 1
    prefetch: int = 0
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    compiled: bool = False
    fsdp: bool = False
    checkpoint_minutes: float = 5
    sheet_minutes: float = 10
    export_minutes: float = 10


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Recipes in order, each with its share of the time. Each starts from the export before it.

    `starts`: for a part that starts from another part's export, the name of that part.
    `continues`: the first part starts from given weights, not from nothing.
    """

    name: str
    parts: tuple[tuple[Recipe, float], ...]
    starts: Mapping[str, str] = field(default_factory=dict)
    continues: bool = False
