"""INVARIANTS.md names tests that exist, for every rule, and leaves none of theirs out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RULES = [
    line for line in (ROOT / "INVARIANTS.md").read_text().splitlines() if line.startswith("- ")
]
NAMED = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")


def names_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule[2:40])
def test_every_rule_is_held_by_tests_that_exist(rule: str) -> None:
    named = NAMED.findall(rule)
    assert named, "a rule without a test is a wish"
    assert rule.count("`tests/") == len(named), "a test is named in a way that cannot be read"
    for file, name in named:
        assert (ROOT / file).is_file(), file
        assert name in names_in(file), f"{file} has no {name}"


@pytest.mark.parametrize("file", ["tests/test_conditioning.py", "tests/test_sar.py"])
def test_every_test_of_conditions_and_seams_is_a_rules(file: str) -> None:
    named = {name for rule in RULES for where, name in NAMED.findall(rule) if where == file}
    assert named == names_in(file)
