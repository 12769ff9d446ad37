"""Recipes and chains of them: functions named as `dreamontage train` takes them.

Nano is trained in the paper's order: base, adaptive, expression, preference. The decoder's finish
and super-resolution are trained apart from them.
"""

from __future__ import annotations

from dreamontage.training.loop.recipe import Chain, Recipe
from dreamontage.training.recipes import nano_cpu, nano_h100, nano_smoke, wan

RECIPES: dict[str, Recipe] = {
    build.__name__: build()
    for build in (*nano_h100.RECIPES, *nano_cpu.RECIPES, *nano_smoke.RECIPES, *wan.RECIPES)
}
CHAINS: dict[str, Chain] = {
    build.__name__: build() for build in (*nano_h100.CHAINS, *nano_cpu.CHAINS, *nano_smoke.CHAINS)
}
