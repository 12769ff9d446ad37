"""What the denoise loop needs of a diffusers scheduler: a copy to run with, a step that repeats,
and a history that can be stored.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# What a diffusers scheduler rebuilds from its config and set_timesteps, and so need not be stored.
_REBUILT = frozenset(
    {
        *("_internal_dict", "betas", "alphas", "alphas_cumprod", "alpha_t", "sigma_t", "lambda_t"),
        *("timesteps", "sigmas", "config"),
    }
)


def with_timesteps(scheduler: Any, steps: int, device: torch.device | None = None) -> Any:
    """A copy of the scheduler without history, set to so many steps; the argument is left alone."""
    scheduler = type(scheduler).from_config(scheduler.config)
    scheduler.set_timesteps(steps, device=device)
    return scheduler


def scheduler_step(
    scheduler: Any,
    prediction: Tensor,
    t: Tensor,
    latents: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The latents after one step of the scheduler, which draws its noise from ``generator``."""
    options = (
        {"generator": generator}
        if "generator" in inspect.signature(scheduler.step).parameters
        else {}
    )
    (stepped, *_) = scheduler.step(prediction, t, latents, return_dict=False, **options)
    return stepped


def history_of(scheduler: Any, device: torch.device) -> dict[str, Any]:
    """What a scheduler remembers from step to step, as it is now."""
    history = {name: value for name, value in vars(scheduler).items() if name not in _REBUILT}
    copied: dict[str, Any] = _copied(history, device)
    return copied


def restore_history(scheduler: Any, history: Mapping[str, Any], device: torch.device) -> None:
    """Give a scheduler the history of a state. The inverse of :func:`history_of`."""
    vars(scheduler).update(_copied(dict(history), device))


def _copied(value: Any, device: torch.device) -> Any:
    """A copy whose containers are new; tensors are shared, since schedulers replace and never write
    into them.
    """
    if isinstance(value, dict):
        return {key: _copied(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item, device) for item in value]
    # Timesteps stay where the scheduler put them; histories follow the latents.
    return value.to(device) if isinstance(value, Tensor) else value


def check_scheduler(scheduler: Any) -> None:
    """Refuse a scheduler whose films could not be repeated or resumed.

    One step of a copy is tried on a single number. Noise that a step draws has to come from the
    generator that is given to it, whose state is part of a stored state.

    Raises:
        ValueError: naming the scheduler, if its step draws noise from elsewhere, or if it remembers
            something that a stored state cannot hold.
    """
    name = type(scheduler).__name__
    with torch.random.fork_rng(devices=[]):
        scheduler = with_timesteps(scheduler, 2)
        before = torch.get_rng_state()
        one = torch.ones(1, 1, 1, 1, 1)
        generator = torch.Generator().manual_seed(0)
        scheduler_step(scheduler, one, scheduler.timesteps[0], one, generator)
        if not torch.equal(before, torch.get_rng_state()):
            raise ValueError(
                f"scheduler {name} draws noise that no generator repeats; use one whose step takes "
                "a generator, or one that draws none"
            )
    for field, value in history_of(scheduler, torch.device("cpu")).items():
        if not _storable(value):
            raise ValueError(
                f"scheduler {name} keeps a {type(value).__name__} in {field.lstrip('_')!r}, which "
                "no stored state can hold: a film made with it could not be resumed"
            )


def _storable(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_storable(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_storable(item) for item in value)
    return value is None or isinstance(value, (bool, int, float, str, Tensor))
