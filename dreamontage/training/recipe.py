"""What a training run is made of: a recipe, and the objective that it builds in a run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from dreamontage.training.feed import Batch, Source

# A chain's stages share the code of their blocks, and every stage adds a few versions of it: models
# that learn and that do not, of two widths. Torch's own limit of 8 ended one in its last stage.
_VERSIONS = 64


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where a run is: what its objective is built from.

    Args:
        folder: the run's own; what the objective makes once, it keeps under `frozen/`.
        init: a model folder to start from; None for a recipe that starts from nothing.
        photos_NCHW: squares in [0, 1] that a run's worlds may show; they count at its first start.
        data: a folder of training data (`training.shards`), for recipes on real videos.
        bfloat16, compiled: as in the recipe, for models that an objective runs by itself.
    """

    folder: Path
    device: torch.device
    seed: int
    init: Path | None = None
    photos_NCHW: Tensor | None = None
    data: Path | None = None
    bfloat16: bool = False
    compiled: bool = False

    def dress(self, model: Any) -> Any:
        """The model on the device and, if the recipe says so, compiled: block by block, which takes
        a fraction of a whole compilation's time and is no slower. What has no blocks stays as it
        is."""
        model = model.to(self.device)
        if self.compiled and isinstance(model, ModelMixin):
            torch.compiler.config.recompile_limit = _VERSIONS
            model.compile_repeated_blocks(fullgraph=True, dynamic=True)
        return model

    def autocast(self) -> torch.autocast:
        """What a model runs in that the trainer has not prepared."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)


class Objective(Protocol):
    """What is trained, on what, and how it is looked at. The trainer knows no more of a stage.

    `model` in the methods is the trainer's own view of `self.model`: compiled, sharded or averaged.
    """

    model: Any

    @property
    def source(self) -> Source:
        """Where the trainer's batches come from."""
        ...

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        """The mean loss of a batch, and how many examples it had; `seed` draws times and noise."""
        ...

    def scores(self, model: Any) -> dict[str, float]:
        """Figures on held-out data; the first, `loss`, is the one to watch."""
        ...

    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """What the model makes of held-out data: groups of films video_CTHW that belong together,
        the true one, what was given, and what was made of it; no groups for no sheet."""
        ...

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        """Write a model folder of the model's averaged `state`, and a card that tells `facts`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run, besides how long it goes on.

    `muon` trains the blocks' matrices with Muon instead of AdamW (not under `fsdp`). `block` is how
    many steps' batches are drawn at once, `pool` how many such blocks are gone through together,
    `uses` how often, at new times and noise, and `ahead` how many pools are drawn in advance.
    `decay` is the last part of the run, in which the learning rate falls to nothing; `ema` the
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
    ahead: int = 0
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
    """Recipes that follow each other, each from what the one before made, in shares of the time.

    `starts` names, for a part that does not continue the one before it, the part it starts from.
    `continues`: the first part starts from weights that are given, not from nothing.
    """

    name: str
    parts: tuple[tuple[Recipe, float], ...]
    starts: Mapping[str, str] = field(default_factory=dict)
    continues: bool = False
