"""The size of files, and who imports tests and bench: limits that keep the tree readable."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("dreamontage", "flows", "db", "storage")
MOST_LINES = 400
MEDIAN_LINES = 150


def lines(*folders: str) -> dict[str, int]:
    """Every Python file below these folders, and its number of lines."""
    return {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines())
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
    }


def test_no_file_is_longer_than_can_be_read_at_once() -> None:
    found = lines(*SOURCES, "bench", "tests", "examples")
    assert len(found) > 200, "the tree was not found"
    too_long = {name for name, count in found.items() if count > MOST_LINES}
    assert too_long == set()


def modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    """What an import statement names."""
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names]


def test_half_of_the_source_files_are_short() -> None:
    assert statistics.median(lines(*SOURCES).values()) <= MEDIAN_LINES


@pytest.mark.parametrize(
    ("folders", "forbidden"),
    [((*SOURCES, "bench"), "tests"), ((*SOURCES, "tests"), "bench")],
    ids=["tests", "bench"],
)
def test_nobody_imports(folders: tuple[str, ...], forbidden: str) -> None:
    """Also not inside a function, by any kind of import statement."""
    offenders = []
    for name in lines(*folders):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if any(each.split(".")[0] == forbidden for each in modules(node)):
                offenders.append(f"{name}:{node.lineno}")
    assert offenders == []


def test_no_test_imports_another() -> None:
    """What two of them need is in `tests/support`."""
    offenders = []
    for name in lines("tests"):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            if any(each.startswith("tests.test_") for each in modules(node)):
                offenders.append(f"{name}:{node.lineno}")
    assert offenders == []


def test_a_fixture_name_has_one_meaning() -> None:
    found: dict[str, str] = {}
    for name in lines("tests"):
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                "fixture" in ast.unparse(each) for each in node.decorator_list
            ):
                assert node.name not in found, f"{node.name}: {name} and {found[node.name]}"
                found[node.name] = name
    assert len(found) > 50
