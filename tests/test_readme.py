"""The README says what is true: every command is in it, and what it shows runs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from dreamontage.storyboard import loads
from flows.cli import app
from flows.studio.processes import python

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
COMMANDS = [shlex.split(line)[1:] for line in SHELL if line.startswith("dreamontage ")]
OF_THE_LIBRARY = {"validate", "plan", "schema", "render", "curate"}


def test_every_command_is_shown_and_has_help() -> None:
    group: Any = get_command(app)
    commands = group.commands
    assert set(commands) == {command[0] for command in COMMANDS}
    for name, command in commands.items():
        assert command.help, f"{name} has no help"
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name} has no help"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_options_that_are_shown_exist(command: list[str]) -> None:
    group: Any = get_command(app)
    known = group.commands[command[0]]
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word for word in command[1:] if word.startswith("-")} <= options
    for word in command[1:]:
        if word.startswith("examples/"):
            assert (ROOT / word).exists()


@pytest.mark.parametrize(
    "command", [each for each in COMMANDS if each[0] in OF_THE_LIBRARY], ids=" ".join
)
def test_the_librarys_commands_run(command: list[str], tmp_path: Path) -> None:
    words = [str(tmp_path) if word == "out" else word for word in command]
    done = subprocess.run(
        python("-m", "flows.cli", *words), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if command[0] == "render":
        assert {path.suffix for path in tmp_path.iterdir()} >= {".mp4", ".png", ".json"}


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = [line.split()[1] for line in SHELL if line.startswith("make ")]
    assert shown == ["demo", "test"]
    assert set(shown) <= set(targets)


def test_the_storyboard_that_is_shown_is_one() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert loads(yaml.safe_load(text), None).shots[0].prompts[1].text == "the man walks forward"


def test_pictures_and_files_that_are_named_exist() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
    for path in re.findall(r"`((?:\w+/)+[\w.-]*)`", README):
        if not path.startswith("out"):
            assert (ROOT / path).exists(), path
