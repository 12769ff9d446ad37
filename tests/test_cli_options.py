"""A dataclass as the options of a command."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from typer.testing import CliRunner

from dreamontage.cli.options import with_options


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option(help="In pixels.")] = 128
    label: Annotated[str | None, typer.Option("-l", "--label")] = None


def made() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @with_options(Size)
    def show(name: Annotated[str, typer.Argument()], options: Size) -> None:
        """Show it."""
        typer.echo(f"{name} {options}")

    return app


def test_fields_are_options() -> None:
    found = CliRunner().invoke(made(), ["a", "--width", "64", "-l", "b"])
    assert found.output == "a Size(width=64, label='b')\n"
    assert "In pixels." in CliRunner().invoke(made(), ["--help"]).output


def test_defaults_are_the_fields_own() -> None:
    assert CliRunner().invoke(made(), ["a"]).output == "a Size(width=128, label=None)\n"


def test_a_wrong_value_is_a_usage_error() -> None:
    assert CliRunner().invoke(made(), ["a", "--width", "wide"]).exit_code == 2
