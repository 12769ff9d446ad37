"""What each option does to the result, as data for documents, command lines and segment keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dreamontage.digests import digest
from dreamontage.pipeline.acceleration.options import SpeedOptions


class Exactness(StrEnum):
    """What an option does to the latents."""

    EXACT = "exact"  # the same bits
    ROUNDING = "exact to rounding"  # the same arithmetic in another order
    APPROXIMATE = "approximate"  # other arithmetic; how far off depends on model and film


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What one option does, for documents and command lines to print."""

    option: str
    setting: str
    exactness: Exactness
    resumable: bool  # a segment resumed from a stored state has the bits of one never stopped
    note: str


def describe(options: SpeedOptions) -> list[Effect]:
    """One :class:`Effect` for every option that is chosen, in the order of the fields."""

    def effect(option: str, setting: Any) -> Effect:
        exactness, note = _EFFECTS[option](setting)
        return Effect(
            option=option,
            setting=str(setting),
            exactness=exactness,
            resumable=option != "step_cache",
            note=note,
        )

    return [effect(option, setting) for option, setting in options.chosen.items()]


def _compile_effect(backend: str) -> tuple[Exactness, str]:
    if backend == "inductor":
        return Exactness.ROUNDING, (
            "fused kernels; compiles for a minute or more for each length of window that a process "
            "meets"
        )
    return Exactness.EXACT, "for finding faults: no faster"


def _attention_effect(backend: str) -> tuple[Exactness, str]:
    if backend == "native":
        return Exactness.EXACT, "torch's own choice, and diffusers' default"
    if "sage" in backend:
        return Exactness.APPROXIMATE, "queries and keys in 8 bits"
    return Exactness.ROUNDING, "another kernel for the same attention"


def _cache_effect(cache: object) -> tuple[Exactness, str]:
    return Exactness.APPROXIMATE, (
        "what a cache holds is not part of a stored state, so segments restart from their first "
        "step; caches start empty at every segment"
    )


_EFFECTS: dict[str, Callable[[Any], tuple[Exactness, str]]] = {
    "compile": _compile_effect,
    "attention": _attention_effect,
    "step_cache": _cache_effect,
    "group_offload": lambda _: (
        Exactness.EXACT,
        "slower; GPU memory for one group of weights instead of all; saves nothing on a CPU",
    ),
    "fp8_storage": lambda _: (
        Exactness.APPROXIMATE,
        "half of bfloat16's memory for weights; norms and embeddings stay as they are",
    ),
    "quantise": lambda _: (Exactness.APPROXIMATE, "linear layers of the blocks only; by torchao"),
    "batched_guidance": lambda _: (
        Exactness.ROUNDING,
        "fewer and larger calls, and memory for as many windows as a step has calls",
    ),
    "context_parallel": lambda _: (
        Exactness.ROUNDING,
        "Ulysses: each GPU attends with a part of the heads; the same bits where its kernels do "
        "not choose by the number of heads (measured so on CPUs)",
    ),
}


def revision(model_revision: str, options: SpeedOptions) -> str:
    """The revision that segments made with these options are stored under.

    Options that leave every bit as it is leave it alone. Any other one gives latents of its own,
    which must never be taken for those without.
    """
    inexact = [
        [effect.option, effect.setting]
        for effect in describe(options)
        if effect.exactness is not Exactness.EXACT
    ]
    return digest([model_revision, inexact]) if inexact else model_revision


def resumable(options: SpeedOptions) -> bool:
    """Whether a segment resumed from a stored state still gets the bits of one never stopped.

    Where it is False, whoever drives the loop has no use for checkpoints.
    """
    return all(effect.resumable for effect in describe(options))


def to_record(options: SpeedOptions) -> list[dict[str, str]]:
    """The options as a film's record has them: what was set, and what that does to the film."""
    return [
        {"option": each.option, "setting": each.setting, "exactness": each.exactness.value}
        for each in describe(options)
    ]
