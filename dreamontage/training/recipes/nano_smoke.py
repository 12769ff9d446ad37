"""Every stage of nano in seconds, to see that all of it runs."""

from __future__ import annotations

from dreamontage.training.loop.recipe import Chain, Recipe
from dreamontage.training.recipes import stages
from dreamontage.training.recipes.machine import SMOKE


def nano_base_smoke() -> Recipe:
    return stages.base(SMOKE)


def nano_adaptive_smoke() -> Recipe:
    return stages.adaptive(SMOKE)


def nano_untuned_smoke() -> Recipe:
    return stages.untuned(SMOKE)


def nano_tuned_smoke() -> Recipe:
    return stages.tuned(SMOKE)


def nano_further_smoke() -> Recipe:
    return stages.further(SMOKE)


def nano_expression_smoke() -> Recipe:
    return stages.expression(SMOKE)


def nano_decoder_smoke() -> Recipe:
    return stages.decoder(SMOKE)


def nano_preference_smoke() -> Recipe:
    return stages.preference(SMOKE)


def nano_superres_smoke() -> Recipe:
    return stages.superres(SMOKE)


def nano_smoke() -> Chain:
    """All stages of nano, from nothing."""
    return stages.chain(SMOKE)


def nano_longer_smoke() -> Chain:
    """All stages but base, from weights that `nano_smoke` made."""
    return stages.longer(SMOKE)


RECIPES = (
    nano_base_smoke,
    nano_adaptive_smoke,
    nano_untuned_smoke,
    nano_tuned_smoke,
    nano_further_smoke,
    nano_expression_smoke,
    nano_decoder_smoke,
    nano_preference_smoke,
    nano_superres_smoke,
)
CHAINS = (nano_smoke, nano_longer_smoke)
