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
from dreamontage.faults import StoryboardError
from flows import watch
from flows.farm import Farm, open_farm
from flows.settings import NotUpError, read_settings
from flows.stack import StackError
from flows.stack import down as stack_down
from flows.stack import up as stack_up
from flows.start import find_deployment, start_storyboard
from flows.submit import submit as submit_storyboards
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
        # Nothing is stored that could then not be started, nor one file without the others.
        if due_at is None:
            find_deployment(farm.settings)
        with console.status(escape(f"taking in {', '.join(file.name for file in files)}")):
            taken_in = submit_storyboards(farm, *files, matrix=matrix, due_at=due_at)
        for each in taken_in:
            if due_at is None:
                run = start_storyboard(farm.settings, each.id)
                farm.repository.set_flow_run(each.id, run)
            variant = f" ({each.variant})" if each.variant else ""
            when = f", due {due_at:%Y-%m-%d %H:%M %Z}" if due_at else ""
            typer.echo(f"{each.id}  {each.title}{variant}{when}")
        if wait or out:
            ids = [each.id for each in taken_in]
            ended = watch.until_final(ids, farm.repository, farm.settings, console)
            rprint(watch.summary(ended))
            for progress in ended:
                if progress.storyboard.state is StoryboardState.FAILED:
                    rprint(watch.tree(progress))
            if out is not None:
                for storyboard_id in ids:
                    _fetch(farm, storyboard_id, out)
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
            recent = farm.repository.recent_storyboards(20)
            rprint(watch.summary([farm.repository.progress(each.id) for each in recent]))
            return
        found = farm.repository.find_storyboard(storyboard)
        if follow:
            (progress,) = watch.until_final([found.id], farm.repository, farm.settings, console)
        else:
            progress = farm.repository.progress(found.id)
        rprint(watch.tree(progress))
        _exit_unless_rendered([progress])


@app.command()
def fetch(
    storyboard: Id,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where to put them.")] = Path(),
) -> None:
    """Copy a finished storyboard's film, contact sheet and record into a folder."""
    with open_farm() as farm:
        found = farm.repository.find_storyboard(storyboard)
        if not _fetch(farm, found.id, out):
            raise ValueError(f"{found.id} is {found.state}: it has nothing to fetch yet")


def _fetch(farm: Farm, storyboard_id: str, out: Path) -> bool:
    """Whether there was anything to fetch."""
    deliverables = farm.repository.deliverables(storyboard_id)
    out.mkdir(parents=True, exist_ok=True)
    for each in deliverables:
        typer.echo(farm.store.fetch(each.address, out / each.info["name"]))
    return bool(deliverables)


def _exit_unless_rendered(ended: Sequence[StoryboardProgress]) -> None:
    if any(progress.storyboard.state is StoryboardState.FAILED for progress in ended):
        raise typer.Exit(1)


def main() -> Any:
    """Run the command line. A user's fault is a message and exit code 1, not a traceback."""
    try:
        return app()
    except StoryboardError as error:
        for fault in error.faults:
            # Plain: a line is a fault, however narrow the terminal.
            typer.echo(str(fault), err=True)
    except OperationalError:
        _tell("the database does not answer: start the studio with `dreamontage up`")
    except (ValueError, LookupError, NotUpError, StackError, OSError) as error:
        # A bare KeyError or IndexError is a fault of ours.
        if isinstance(error, KeyError | IndexError) and not isinstance(error, NotFound):
            raise
        _tell(str(error))
    sys.exit(1)


def _tell(error: str) -> None:
    console.print(f"[red]error:[/] {escape(error)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
