"""What the commands share: their options and faults, and what shows how far they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dreamontage.models import bundled
from dreamontage.storyboard.errors import StoryboardError

Weights = Annotated[
    Path | None,
    typer.Option(help="A model's folder; weights/nano if left out.", show_default=False),
]


def fail(error: StoryboardError) -> typer.Exit:
    """Print every fault on a line of its own; what is returned is to be raised."""
    for field_error in error.errors:
        # Plain, without rich: a line is a fault, however narrow the terminal.
        typer.echo(str(field_error), err=True)
    return typer.Exit(1)


def quietly() -> None:
    """For torch and transformers, before they are imported.

    Threads that spin while they wait are slow on busy cores; and transformers would tell every
    producer that torchvision is not there.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def nano_folder() -> Path:
    """The shipped model's folder: of the working directory, else the one we came with."""
    here = Path("weights/nano")
    return here if here.is_dir() else bundled.weights("nano")


@contextmanager
def showing(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar of the steps of what is at hand, by calls with its name, what is done, and of how many.

    Without a terminal, in a log, a line whenever something else is at hand.
    """
    console = Console(stderr=True)
    last_message = ""

    def line(what: str, done: int, total: int) -> None:
        nonlocal last_message
        if what != last_message:
            last_message = what
            typer.echo(what, err=True)

    if not console.is_terminal:
        line(first, 0, 0)
        yield line
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(first, total=None)
        yield lambda what, done, total: bar.update(
            task, description=escape(what), completed=done, total=total
        )
