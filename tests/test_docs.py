"""The documents say what is true: links, paths, commands and imports that they name exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from dreamontage.training import runs
from flows.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *(ROOT / f"{name}.md" for name in ("EXPERIMENTS", "INVARIANTS")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").rglob("*.md")),
    *sorted((ROOT / "weights").rglob("*.md")),
]
_FOLDERS = "bench|db|docs|dreamontage|examples|flows|storage|tests|weights"
_OWN_PATH = re.compile(rf"(?:{_FOLDERS})/[\w./-]*")
_RECIPE = re.compile(r"(?:nano|wan)_\w+")

document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix()
)


def prose(document: Path) -> str:
    """The text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def quoted(document: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(document))


def anchor(heading: str) -> str:
    """What a page gives a heading as its anchor: lower case, dashes for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def anchors(document: Path) -> set[str]:
    return {anchor(line) for line in re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)}


@document
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if "://" in target:
            continue
        name, _, place = target.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), f"{target}: there is no such file"
        assert not place or place in anchors(path), f"{target}: there is no such heading"


@document
def test_paths_exist(document: Path) -> None:
    named = [path for path in quoted(document) if _OWN_PATH.fullmatch(path)]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_document_is_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)\)", (ROOT / "README.md").read_text()))
    assert linked == {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}


@document
def test_recipes_exist(document: Path) -> None:
    named = [name for name in quoted(document) if _RECIPE.fullmatch(name)]
    assert sorted({*named} - {*runs.NAMES}) == []


def shell_lines(document: Path) -> Iterator[str]:
    """The command lines of a document's blocks."""
    text = document.read_text().replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        lines = (re.split(r"\s#\s", line)[0].strip() for line in block.splitlines())
        yield from filter(None, lines)


SHOWN = sorted({line for path in DOCUMENTS for line in shell_lines(path)})
MENTIONED = sorted({text for path in DOCUMENTS for text in quoted(path)} - {*SHOWN})


def of_dreamontage(lines: list[str]) -> list[str]:
    # `...` and `…` stand for what a reader adds.
    found = (re.sub(r"\s(\.\.\.|…)", "", line) for line in lines)
    return [line for line in found if re.fullmatch(r"dreamontage [a-z]+( .*)?", line)]


@pytest.mark.parametrize("line", of_dreamontage(SHOWN))
def test_commands_that_are_shown_parse(line: str) -> None:
    _, name, *words = shlex.split(line)
    known = get_command(app).commands  # type: ignore[attr-defined]
    known[name].make_context(name, words)
    for word in words:
        if re.match(r"(examples|weights)/", word):
            assert (ROOT / word).exists(), word


@pytest.mark.parametrize("line", of_dreamontage(MENTIONED))
def test_commands_that_are_mentioned_exist(line: str) -> None:
    """A text may leave out what a command cannot do without: `dreamontage render --speed`."""
    _, name, *words = shlex.split(line)
    known = get_command(app).commands  # type: ignore[attr-defined]
    options = {option for parameter in known[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= {*options, "--help"}


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [line for line in (*SHOWN, *MENTIONED) if re.match(r"make [a-z-]+( |$)", line)]
    assert sorted({line.split()[1] for line in lines} - {*targets}) == []


def module(name: str) -> Path | None:
    """The file of a module, by its dotted name."""
    path = ROOT.joinpath(*name.split("."))
    found = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in found if file.is_file()), None)


@document
def test_modules_that_are_run_exist(document: Path) -> None:
    if document.name == "CHANGELOG.md":
        return  # it names old ones
    for line in (*shell_lines(document), *quoted(document)):
        for name in re.findall(rf"-m ((?:{_FOLDERS})[\w.]*)", line):
            assert module(name), line


@document
def test_imports_that_are_shown_exist(document: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    for name, imported in re.findall(r"^from (\S+) import (.+)$", "\n".join(blocks), re.MULTILINE):
        if name.partition(".")[0] in _FOLDERS.split("|"):
            file = module(name)
            assert file, name
            for each in imported.split(", "):
                assert re.search(rf"\b{each}\b", file.read_text()), f"{name} has no {each}"


def test_python_that_is_shown_compiles() -> None:
    for path in DOCUMENTS:
        for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
            compile(block, path.name, "exec")


def rows(document: Path, head: str) -> list[list[str]]:
    """The cells of the table whose first row is `head`."""
    table = document.read_text().partition(head)[2]
    lines = table.splitlines()[2:]
    until = next((at for at, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[:until]]


def test_what_moved_is_where_the_changelog_says() -> None:
    moved = rows(ROOT / "CHANGELOG.md", "| old import path | new |")
    assert moved
    for _, new in moved:
        for name in re.findall(r"`([^`]+)`", new):
            assert module(name), name


def layers() -> list[str]:
    """The rooms of the library from the top down, as import-linter holds them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (found,) = (
        each["layers"]
        for each in contracts["contracts"]
        if each["type"] == "layers" and each["containers"] == ["dreamontage"]
    )
    return [room.strip() for layer in found for room in layer.split("|")]


def test_the_rooms_are_those_of_the_contract() -> None:
    table = rows(ROOT / "docs" / "architecture.md", "| room | is |")
    rooms = [Path(name).stem for row in table for name in re.findall(r"`([^`]+)`", row[0])]
    assert rooms == layers()


def test_the_picture_shows_the_rooms_of_the_contract() -> None:
    picture = (ROOT / "docs" / "architecture.svg").read_text()
    texts = re.findall(r'<text x="27"[^>]*class="m">([^<]+)</text>', picture)
    assert [room for text in texts for room in text.split(", ")] == layers()


def test_the_way_of_a_storyboard_goes_through_every_room_that_it_needs() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    way = text.split("\n## The way of one storyboard\n")[1].split("\n## ")[0]
    steps = re.findall(r"^(\d+)\. ", way, re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    named = set(re.findall(r"`dreamontage/(\w+)/", way))
    # Two make and judge models; which family a model has, its folder decides.
    outside = {"evaluation", "training", "families"}
    assert named >= {room for room in layers() if (ROOT / "dreamontage" / room).is_dir()} - outside
