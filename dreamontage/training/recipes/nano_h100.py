"""Nano on one GPU (an H100), in minutes."""

from __future__ import annotations

from dreamontage.training.loop.recipe import Chain, Recipe
from dreamontage.training.recipes import stages
from dreamontage.training.recipes.machine import H100


def nano_base_h100() -> Recipe:
    return stages.base(H100)


def nano_adaptive_h100() -> Recipe:
    return stages.adaptive(H100)


def nano_untuned_h100() -> Recipe:
    return stages.untuned(H100)


def nano_tuned_h100() -> Recipe:
    return stages.tuned(H100)


def nano_further_h100() -> Recipe:
    return stages.further(H100)


def nano_expression_h100() -> Recipe:
    return stages.expression(H100)


def nano_decoder_h100() -> Recipe:
    return stages.decoder(H100)


def nano_preference_h100() -> Recipe:
    return stages.preference(H100)


def nano_superres_h100() -> Recipe:
    return stages.superres(H100)


def nano_h100() -> Chain:
    """All stages of nano, from nothing."""
    return stages.chain(H100)


def nano_longer_h100() -> Chain:
    """All stages but base, from weights that `nano_h100` made."""
    return stages.longer(H100)


RECIPES = (
    nano_base_h100,
    nano_adaptive_h100,
    nano_untuned_h100,
    nano_tuned_h100,
    nano_further_h100,
    nano_expression_h100,
    nano_decoder_h100,
    nano_preference_h100,
    nano_superres_h100,
)
CHAINS = (nano_h100, nano_longer_h100)
