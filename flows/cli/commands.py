"""The `dreamontage` command: the library's own commands, and those of the farm."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer
from rich import print as rprint
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import OperationalError

from db.progress import StoryboardProgress
from db.states import StoryboardState
from dreamontage.cli import app as library
from dreamontage.storyboard.errors import StoryboardError
from flows.actions.fetch import fetch as fetch_deliverables
from flows.actions.status import recent
from flows.actions.status import status as storyboard_status
from flows.actions.submit import submit as submit_storyboards
from flows.actions.submit import submit_and_start
from flows.cli.progress import summary, tree, until_final
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import NotUpError, read_settings
from flows.studio.stack import StackError
from flows.studio.stack import down as stack_down
from flows.studio.stack import up as stack_up
from storage import NotFound

app = typer.Typer(
    name="dreamontage",
    help="One seamless long take from stills and clips placed anywhere on a timeline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(library)

console = Console(stderr=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """A spinner with the step's name and its seconds so far, then how long it took."""
    start = monotonic()
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    # In a log it would leave an empty line of each step.
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        progress.add_task(name, total=None)
        yield
    console.print(f"[green]✓[/] {name} [dim]{monotonic() - start:.1f} s[/]")


@app.command()
def up() -> None:
    """Start the studio on this machine: database, Prefect server and workers."""
    address = stack_up(read_settings(), step)
    typer.echo(f"Prefect UI: {address}")


@app.command()
def down() -> None:
    """Stop all that `up` started. Films and finished work stay."""
    stack_down(read_settings(), step)


Id = Annotated[str, typer.Argument(help="A storyboard's id, or how it begins.", show_default=False)]


@app.command()
def submit(
    files: Annotated[
        list[Path], typer.Argument(help="Storyboards, YAML or JSON.", show_default=False)
    ],
    matrix: Annotated[
        Path | None,
        typer.Option("--variants", help="Submit these variants instead.", show_default=False),
    ] = None,
    due: Annotated[
        datetime | None,
        typer.Option(help="Leave it to the first nightly batch after this.", show_default=False),
    ] = None,
    tonight: Annotated[bool, typer.Option(help="Leave it to the next nightly batch.")] = False,
    wait: Annotated[bool, typer.Option(help="Show its progress until it has ended.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Wait, and put the films there.", show_default=False),
    ] = None,
) -> None:
    """Hand storyboards to the farm: checked whole, stored, and started."""
    due_at = datetime.now().astimezone() if tonight else due and due.astimezone()
    if due_at is not None and (wait or out):
        raise ValueError("--wait and --out are for storyboards that start now, not for --due")
    with open_farm() as farm:
        with console.status(escape(f"taking in {', '.join(file.name for file in files)}")):
            if due_at is None:
                submitted = submit_and_start(farm, *files, matrix=matrix)
            else:
                submitted = submit_storyboards(farm, *files, matrix=matrix, due_at=due_at)
        for each in submitted:
            variant = f" ({each.variant})" if each.variant else ""
            when = f", due {due_at:%Y-%m-%d %H:%M %Z}" if due_at else ""
            typer.echo(f"{each.id}  {each.title}{variant}{when}")
        if wait or out:
            ids = [each.id for each in submitted]
            ended = until_final(farm, ids, console)
            rprint(summary(ended))
            for progress in ended:
                if progress.storyboard.state is StoryboardState.FAILED:
                    rprint(tree(progress))
            if out is not None:
                for progress in ended:
                    if progress.deliverables:
                        _fetch(farm, progress.storyboard.id, out)
            _exit_unless_rendered(ended)


@app.command()
def status(
    storyboard: Annotated[
        str | None,
        typer.Argument(help="An id, or how it begins; the latest ones if left out."),
    ] = None,
    follow: Annotated[bool, typer.Option(help="Show it until it has ended.")] = False,
) -> None:
    """Show how far a storyboard has come: shots, takes, segments, who holds them."""
    with open_farm() as farm:
        if storyboard is None:
            rprint(summary(recent(farm)))
            return
        progress = storyboard_status(farm, storyboard)
        if follow:
            (progress,) = until_final(farm, [progress.storyboard.id], console)
        rprint(tree(progress))
        _exit_unless_rendered([progress])


@app.command()
def fetch(
    storyboard: Id,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to put them.")] = Path(),
) -> None:
    """Copy a finished storyboard's film, contact sheet and record into a folder."""
    with open_farm() as farm:
        _fetch(farm, storyboard, out)


def _fetch(farm: Farm, storyboard_id: str, out: Path) -> None:
    for path in fetch_deliverables(farm, storyboard_id, out):
        typer.echo(path)


def _exit_unless_rendered(ended: Sequence[StoryboardProgress]) -> None:
    if any(progress.storyboard.state is StoryboardState.FAILED for progress in ended):
        raise typer.Exit(1)


def main() -> Any:
    """Run the command line. A user's fault is a message and exit code 1, not a traceback."""
    try:
        return app()
    except StoryboardError as error:
        for field_error in error.errors:
            # Plain: a line is a fault, however narrow the terminal.
            typer.echo(str(field_error), err=True)
    except OperationalError:
        _print_error("the database does not answer: start the studio with `dreamontage up`")
    except (ValueError, LookupError, NotUpError, StackError, OSError) as error:
        # A bare KeyError or IndexError is a fault of ours.
        if isinstance(error, KeyError | IndexError) and not isinstance(error, NotFound):
            raise
        _print_error(str(error))
    sys.exit(1)


def _print_error(error: str) -> None:
    console.print(f"[red]error:[/] {escape(error)}", highlight=False, soft_wrap=True)
