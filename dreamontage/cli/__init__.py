"""The library's commands. The farm's `dreamontage` command takes them in."""

import typer

from dreamontage.cli import films, models

app = typer.Typer(no_args_is_help=True, help="One seamless long take from stills and clips.")
app.add_typer(films.app)
app.add_typer(models.app)
