"""What a run trains with: the processes of `accelerate`, and the optimisers of a recipe."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from dreamontage.training.loop.muon import Muon
from dreamontage.training.loop.recipe import Recipe, Setting


def hardware_name(device: torch.device, processes: int) -> str:
    """What a model card says of the machine."""
    if device.type == "cuda":
        name = str(torch.cuda.get_device_name())
        return name if processes == 1 else f"{processes} x {name}"
    return f"{torch.get_num_threads()} thread(s) of a shared CPU"


def make_accelerator(recipe: Recipe) -> Accelerator:
    """The processes of a run. Raises ValueError for a recipe for a GPU where there is none."""
    if recipe.device == "cuda" and not torch.cuda.is_available():
        # accelerate would take the CPU without a word, for a run of days.
        raise ValueError(f"recipe = {recipe.name!r} is for a GPU, and torch finds none here")
    return Accelerator(
        cpu=recipe.device == "cpu",
        mixed_precision="bf16" if recipe.bfloat16 else "no",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=1))],
    )


def prepare(
    recipe: Recipe, setting: Setting, model: Any, accelerator: Accelerator
) -> tuple[Any, list[Any]]:
    """The model and its optimisers, ready to train: side by side, or sharded if `recipe.fsdp`."""
    fused = accelerator.device.type == "cuda"
    if recipe.fsdp and accelerator.num_processes > 1:
        shard(model, accelerator, bfloat16=recipe.bfloat16)
        # What is left is to compute in bfloat16. Without `evaluation_mode` it would be replicated.
        ready = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
        optimisers = make_optimisers(recipe, ready, fused=fused)
        return ready, [accelerator.prepare_optimizer(each) for each in optimisers]
    model = setting.prepare(model)
    ready, *optimisers = accelerator.prepare(model, *make_optimisers(recipe, model, fused=fused))
    return ready, optimisers


def shard(model: Any, accelerator: Accelerator, *, bfloat16: bool) -> None:
    """Share parameters, gradients and moments out among the processes (FSDP2), block by block.

    Torch's own function is called, because accelerate does so on accelerators alone: of two
    processes on a CPU it would make replicas, without a word.
    """
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bfloat16 else None,
        reduce_dtype=torch.float32,
        # Inputs stay as they are: timesteps and rotary positions must not be rounded.
        cast_forward_inputs=False,
    )
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def make_optimisers(recipe: Recipe, model: Any, *, fused: bool) -> list[Any]:
    """AdamW, and where the recipe says `muon`, Muon for the blocks' matrices at the same rate."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [
        name for name, p in trained.items() if recipe.muon and "blocks." in name and p.ndim == 2
    ]
    found: list[Any] = [
        torch.optim.AdamW(
            [p for name, p in trained.items() if name not in matrices],
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    ]
    if matrices:
        found.append(
            Muon(
                [trained[name] for name in matrices],
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
            )
        )
    return found
