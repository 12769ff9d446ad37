"""The recipes by name: what a name finds, and that none is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dreamontage.training.recipes
from dreamontage.training.recipes import CHAINS, RECIPES

STAGES = (
    *("base", "adaptive", "untuned", "tuned", "further"),
    *("expression", "decoder", "preference", "superres"),
)


def test_all_recipes_by_name() -> None:
    """Names are what people type and what folders of runs hold: none may change."""
    assert set(RECIPES) == {
        *(f"nano_{stage}_{machine}" for machine in ("h100", "cpu", "smoke") for stage in STAGES),
        "nano_joint_cpu",
        "wan_14b_adaptive_8xh100",
        "wan_14b_adaptive_lora_8xh100",
        "wan_a14b_low_adaptive_lora_8xh100",
        "wan_14b_expression_lora_8xh100",
        "wan_14b_preference_lora_8xh100",
        "wan_lora_smoke",
        "wan_preference_smoke",
        "wan_full_smoke",
    }
    assert set(CHAINS) == {
        *(f"nano_{machine}" for machine in ("h100", "cpu", "smoke")),
        *(f"nano_longer_{machine}" for machine in ("h100", "cpu", "smoke")),
    }


@pytest.mark.parametrize("name", sorted([*RECIPES, *CHAINS]))
def test_a_recipe_is_the_function_of_its_name(name: str) -> None:
    """So a search for the name finds what it does."""
    found = RECIPES.get(name) or CHAINS[name]
    assert found.name == name
    folder = Path(dreamontage.training.recipes.__path__[0])
    sources = [path.read_text() for path in folder.glob("*.py")]
    assert sum(bool(re.search(rf"^def {name}\(", text, re.MULTILINE)) for text in sources) == 1


def test_the_parts_of_a_chain_are_recipes_too() -> None:
    for chain in CHAINS.values():
        names = [recipe.name for recipe, _ in chain.parts]
        assert set(names) <= set(RECIPES)
        for later, earlier in chain.starts.items():
            assert names.index(earlier) < names.index(later)
