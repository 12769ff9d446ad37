"""Nano on one CPU core, in hours: enough to compare stages."""

from __future__ import annotations

from functools import partial

from dreamontage.training.loop.recipe import Chain, Recipe
from dreamontage.training.objectives.adaptive import Shape, Study, WindowsObjective
from dreamontage.training.recipes import stages
from dreamontage.training.recipes.machine import CPU


def nano_base_cpu() -> Recipe:
    return stages.base(CPU)


def nano_adaptive_cpu() -> Recipe:
    return stages.adaptive(CPU)


def nano_untuned_cpu() -> Recipe:
    return stages.untuned(CPU)


def nano_tuned_cpu() -> Recipe:
    return stages.tuned(CPU)


def nano_further_cpu() -> Recipe:
    return stages.further(CPU)


def nano_expression_cpu() -> Recipe:
    return stages.expression(CPU)


def nano_decoder_cpu() -> Recipe:
    return stages.decoder(CPU)


def nano_preference_cpu() -> Recipe:
    return stages.preference(CPU)


def nano_superres_cpu() -> Recipe:
    return stages.superres(CPU)


def nano_joint_cpu() -> Recipe:
    """Base and adaptive training of a small nano in one stage.

    Most windows are small and short, because those give the most learning in a second. Some are
    whole windows of 13 latents, and some have the size of the films.
    """
    study = Study(
        shapes=(
            Shape(weight=6, latents=5, height=64, width=64, batch=8, closes=0.3),
            Shape(weight=3, latents=7, height=64, width=64, batch=6),
            Shape(weight=1, latents=7, height=64, width=96, batch=4),
            Shape(weight=1, latents=7, height=96, width=64, batch=4),
            Shape(weight=2, latents=13, height=64, width=64, batch=3),
            Shape(weight=2, latents=13, height=80, width=128, batch=2, opens=0.3),
        ),
        sampling=False,
    )
    build = partial(WindowsObjective, study=study)
    return Recipe(name="nano_joint_cpu", build=build, decay=0.3, ema=0.998)


def nano_cpu() -> Chain:
    """All stages of nano, from nothing."""
    return stages.chain(CPU)


def nano_longer_cpu() -> Chain:
    """All stages but base, from weights that `nano_cpu` made."""
    return stages.longer(CPU)


RECIPES = (
    nano_base_cpu,
    nano_adaptive_cpu,
    nano_untuned_cpu,
    nano_tuned_cpu,
    nano_further_cpu,
    nano_expression_cpu,
    nano_decoder_cpu,
    nano_preference_cpu,
    nano_superres_cpu,
    nano_joint_cpu,
)
CHAINS = (nano_cpu, nano_longer_cpu)
