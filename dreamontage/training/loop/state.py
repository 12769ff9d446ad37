"""What a run changes from step to step: the model, its optimisers and the averaged weights.

Under FSDP2 every process holds shards of all three (DTensors), and stores and loads its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule

from dreamontage.training.loop import checkpoint

# Frozen weights are in no checkpoint: the run's start has them.
_TRAINED = StateDictOptions(ignore_frozen_params=True)
_LOAD = StateDictOptions(ignore_frozen_params=True, strict=False)
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class TrainingState:
    """Of a model and its optimisers as `Accelerator.prepare` returns them.

    Args:
        ema: the decay of the averaged weights; 0 for none.
    """

    def __init__(self, model: Any, optimisers: Sequence[Any], *, ema: float) -> None:
        self.model, self.optimisers = model, list(optimisers)
        # Torch has no foreach copies of sharded tensors.
        foreach = not isinstance(model, FSDPModule)
        self.ema = EMAModel(self.trained(), decay=ema, foreach=foreach) if ema else None

    def trained(self) -> list[torch.nn.Parameter]:
        """The parameters that are trained."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of all optimisers."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate

    def update(self) -> None:
        """One step of all optimisers along the gradients, which are dropped, and of the average."""
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        if self.ema is not None:
            self.ema.step(self.trained())

    @contextmanager
    def averaged(self, *, swap_back: bool = True) -> Iterator[None]:
        """The model holds the averaged weights inside the block, and its own ones after it.

        Without `swap_back`, what the model holds when the block ends becomes the averaged weights.
        """
        if self.ema is None:
            yield
            return
        self._reshard()
        parameters = self.trained()
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        yield
        self._reshard()
        if not swap_back:
            for shadow, parameter in zip(self.ema.shadow_params, parameters, strict=True):
                shadow.data.copy_(parameter.data)
        self.ema.restore(parameters)

    def whole(self) -> dict[str, Tensor]:
        """A copy of the model's weights, frozen ones too, gathered on the first process's CPU.

        Only exports need it. The other processes get an empty one.
        """
        state: dict[str, Any] = get_model_state_dict(self.model, options=_WHOLE)
        return {name: value.clone() for name, value in state.items()}

    def save(self, root: Path, *, step: int, facts: dict[str, Any]) -> None:
        """Store a checkpoint. Every process calls it and writes its own shards."""
        groups = {"model": self._model(), "optimiser": checkpoint.flatten(self._moments()["state"])}
        if self.ema is not None:
            with self.averaged():
                groups["ema"] = {name: value.clone() for name, value in self._model().items()}
        checkpoint.save(root, step=step, tensors=groups, facts=facts)

    def fits(self, stored: checkpoint.Stored) -> bool:
        """Whether a checkpoint is of a model with the same names and shapes."""
        shapes = {name: value.shape for name, value in self._model().items()}
        return shapes == stored.shapes("model")

    def load(self, stored: checkpoint.Stored) -> None:
        """Go on from a checkpoint that fits. Every process calls it and reads its own shards."""
        model, moments = self._model(), self._moments()
        groups = {"model": model, "optimiser": checkpoint.flatten(moments["state"])}
        if self.ema is not None:
            groups["ema"] = {name: torch.empty_like(value) for name, value in model.items()}
        stored.read_into(groups)
        set_model_state_dict(self.model, model, options=_LOAD)
        # Only moments are stored; rates and the like are the recipe's own.
        moments["state"] = checkpoint.unflatten(groups["optimiser"])
        set_optimizer_state_dict(self.model, self._bare_optimisers(), optim_state_dict=moments)
        if self.ema is not None:
            self.ema.optimization_step = stored.facts["step"]
            with self.averaged(swap_back=False):
                set_model_state_dict(self.model, groups["ema"], options=_LOAD)

    def _reshard(self) -> None:
        """Drop whole weights that FSDP2 keeps after a forward pass: they would hide changes."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()

    def _model(self) -> dict[str, Any]:
        """The trained weights themselves, not copies."""
        return get_model_state_dict(self.model, options=_TRAINED)

    def _moments(self) -> dict[str, Any]:
        found: Any = get_optimizer_state_dict(self.model, self._bare_optimisers())
        return found

    def _bare_optimisers(self) -> list[torch.optim.Optimizer]:
        """Torch's optimisers, without what `Accelerator.prepare` puts around them."""
        return [each.optimizer for each in self.optimisers]
