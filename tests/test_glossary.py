"""The glossary is true: its terms are unique and sorted, their identifiers exist, retired words are
gone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "db", "dreamontage", "flows", "storage", "tests")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()

Row = tuple[str, ...]


def table(heading: str) -> list[Row]:
    """The cells of the table that comes first behind a heading, without its head."""
    behind = GLOSSARY.split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", behind, re.MULTILINE)
    assert lines is not None, f"no table behind {heading}"
    rows = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in lines[0].splitlines()]
    return rows[2:]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


TERMS = table("## Terms")
RETIRED = table("## Retired words")
ORIGINS = {name for row in table("## Origins") for name in row[0].split(", ")}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def test_every_term_has_a_sentence_an_origin_and_an_identifier() -> None:
    for row in TERMS:
        term, sentence, origin, identifiers = row
        assert term, row
        assert sentence.endswith("."), f"{term}: no sentence"
        assert origin in ORIGINS, f"{term}: {origin} is not in the table of origins"
        assert quoted(identifiers), f"{term}: no identifier"


@pytest.mark.parametrize("rows", [TERMS, RETIRED], ids=["terms", "retired"])
def test_rows_are_unique_and_sorted(rows: Sequence[Row]) -> None:
    names = [re.sub(r"[`*]", "", row[0]).casefold() for row in rows]
    assert names == sorted(set(names))


def file_of(parts: Sequence[str]) -> Path | None:
    """The file or package of a dotted module name."""
    path = ROOT.joinpath(*parts)
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def members(node: ast.AST) -> dict[str, ast.AST]:
    """The names that a module, a class or a function defines; of a function, its parameters."""
    found: dict[str, ast.AST] = {}
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        arguments = node.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            found[each.arg] = each
        return found
    # Names defined under `if TYPE_CHECKING:` count too.
    bodies = [getattr(node, "body", [])]
    while bodies:
        for statement in bodies.pop():
            if isinstance(statement, ast.If | ast.Try):
                bodies += [statement.body, statement.orelse]
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[statement.name] = statement
            targets = getattr(statement, "targets", [getattr(statement, "target", None)])
            for target in targets:
                if isinstance(target, ast.Name):
                    found[target.id] = target
            if isinstance(statement, ast.ImportFrom):
                found |= {alias.asname or alias.name: alias for alias in statement.names}
    return found


def exists(identifier: str) -> bool:
    """Whether a dotted name leads to a module, or to what it defines. Imports nothing."""
    parts = identifier.split(".")
    for length in range(len(parts), 0, -1):
        file = file_of(parts[:length])
        if file is None:
            continue
        node: ast.AST | None = parsed(file)
        for name in parts[length:]:
            node = members(node).get(name) if node is not None else None
        return node is not None
    return False


@pytest.mark.parametrize("row", TERMS, ids=lambda row: row[0])
def test_the_identifiers_of_a_term_exist(row: Row) -> None:
    assert [name for name in quoted(row[3]) if not exists(name)] == []


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert exists("dreamontage.timeline.latent_of")
    assert exists("dreamontage.timeline.latent_of.frame")
    assert not exists("dreamontage.timeline.latent_off")
    assert not exists("dreamontage.timeless")


def names_in(path: Path) -> Iterator[str]:
    """All identifiers of a file, and its own name."""
    yield path.stem
    for node in ast.walk(parsed(path)):
        for field in ("id", "attr", "name", "arg", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield from value.split(".")
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from node.module.split(".")


@cache
def identifiers() -> dict[str, frozenset[str]]:
    """Every identifier of the tree, with the files that it is in."""
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "dbc79fb" in path.parts:
                continue  # scripts of an earlier version, kept as they ran
            for name in names_in(path):
                found.setdefault(name, set()).add(path.relative_to(ROOT).as_posix())
    return {name: frozenset(files) for name, files in found.items()}


@pytest.mark.parametrize("row", RETIRED, ids=lambda row: row[0])
def test_a_retired_word_is_no_identifier(row: Row) -> None:
    """The third column is `everywhere` or folders, and perhaps `but` with files."""
    words, _, where = row
    places, _, exempt = where.partition(" but ")
    inside = tuple(quoted(places)) or tuple(f"{folder}/" for folder in FOLDERS)
    found = {
        name: used
        for word in quoted(words)
        for name, files in identifiers().items()
        if fnmatchcase(name, word)
        and (used := sorted(f for f in files if f.startswith(inside) and f not in quoted(exempt)))
    }
    assert found == {}


def test_the_places_of_retired_words_exist() -> None:
    for row in RETIRED:
        assert quoted(row[2]) or row[2] == "everywhere", row
        for place in quoted(row[2]):
            assert (ROOT / place).exists(), place
