"""Commands on storyboards: check, plan, render."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dreamontage import storyboard, timeline
from dreamontage.cli.common import Weights, fail, nano_folder, quietly, showing
from dreamontage.models import bundled
from dreamontage.pipeline import acceleration
from dreamontage.rendering import model_facts, plan_report, plan_tables, preflight
from dreamontage.rendering.assets import Known
from dreamontage.rendering.preflight import ModelFolders
from dreamontage.rendering.record import record_schema
from dreamontage.storyboard import Storyboard, variants
from dreamontage.storyboard.errors import FieldError, StoryboardError

app = typer.Typer()

File = Annotated[Path, typer.Argument(help="A storyboard, YAML or JSON.", show_default=False)]
SrWeights = Annotated[
    Path | None,
    typer.Option(
        "--sr",
        help="A super-resolution model's folder, for storyboards with `upscale`; "
        "weights/nano-sr, where there is one, if left out.",
        show_default=False,
    ),
]


def nano_sr_folder() -> Path | None:
    """The same of the shipped super-resolution model, if there is one."""
    here = Path("weights/nano-sr")
    return here if here.is_dir() else bundled.weights_or_none("nano-sr")


@app.command()
def validate(
    file: File,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Also check it against this model's folder, as `plan` and `render` do.",
            show_default=False,
        ),
    ] = None,
    sr: SrWeights = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            "--variants", help="A matrix of variants to check as well.", show_default=False
        ),
    ] = None,
) -> None:
    """Check a storyboard and its files; print every error, one a line."""
    try:
        models = None if weights is None else ModelFolders(base=weights, sr=sr or nano_sr_folder())
        known: Known = {}
        board, _ = preflight.check(file, models, known)
        films = {"": board}
        if matrix is not None:
            films |= _checked(board, matrix, file.parent, models, known)
    except StoryboardError as error:
        raise fail(error) from None
    except ValueError as error:
        raise fail(StoryboardError([_of_weights(error)])) from None
    for name, film in films.items():
        frames = sum(shot.frames(film.fps) for shot in film.shots)
        label = f"{film.title}, {name}" if name else film.title
        size = f"{film.size}" if film.upscale is None else f"{film.size} upscaled to {film.target}"
        typer.echo(
            f"{label}: no faults; {size}, shots: {len(film.shots)}, "
            f"seconds: {float(timeline.seconds_at(frames, film.fps)):.2f}"
        )


def _of_weights(error: ValueError) -> FieldError:
    return FieldError(field="--weights", message=f"= {error}")


def _checked(
    board: Storyboard, matrix: Path, base: Path, models: ModelFolders | None, known: Known
) -> dict[str, Storyboard]:
    """Every variant of a storyboard, checked."""
    found = variants.load_matrix(matrix)
    films = variants.apply_all(board.model_dump(mode="json"), found, base)
    named = {variant.name: film for variant, film in zip(found, films, strict=True)}
    errors = [
        error.prefixed(f"{name}: ")
        for name, film in named.items()
        for error in preflight.board_errors(film, base, models, known)
    ]
    if errors:
        raise StoryboardError(errors)
    return named


@app.command()
def plan(
    file: File,
    weights: Weights = None,
    sr: SrWeights = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    tflops: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="What the rendering machine reaches, in 1e12 operations a second; "
            "measured on this machine if left out.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show how a storyboard is cut into segments, and what they will cost; render nothing."""
    try:
        folder, sr = weights or nano_folder(), sr or nano_sr_folder()
        board, clip_seconds = preflight.check(file, ModelFolders(base=folder, sr=sr))
        model = model_facts.Model.from_folder(folder)
        speed = model_facts.measured_flops() if tflops is None else 1e12 * tflops
        planned = plan_report.plan_report(board, clip_seconds, model, speed, sr=sr)
    except StoryboardError as error:
        raise fail(error) from None
    except ValueError as error:
        raise fail(StoryboardError([_of_weights(error)])) from None
    if as_json:
        typer.echo(json.dumps(planned, indent=2))
    else:
        plan_tables.show(planned, Console())


@app.command()
def render(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the film goes.")] = Path("out"),
    weights: Weights = None,
    sr: SrWeights = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1.")] = "cpu",
    takes: Annotated[
        int, typer.Option(min=1, help="How many takes a shot may cost, if the gate is not content.")
    ] = 3,
    faster: Annotated[
        str,
        typer.Option(
            "--speed",
            help="What makes the model faster or smaller, such as "
            "'{attention: flash, step_cache: first_block}'.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Render a storyboard in this process, without a server."""
    try:
        options = acceleration.parse(faster)
    except ValueError as error:
        raise fail(StoryboardError([FieldError(field="--speed", message=str(error))])) from None
    for effect in acceleration.describe(options):
        # What it does to the film is said where it is asked for.
        typer.echo(
            f"{effect.option} = {effect.setting}: {effect.exactness}; {effect.note}", err=True
        )
    try:
        folder, sr = weights or nano_folder(), sr or nano_sr_folder()
        known: Known = {}
        board, _ = preflight.check(file, ModelFolders(base=folder, sr=sr), known)
        with showing("loading the model") as progress:
            quietly()
            # Seconds to import, and only this command needs it.
            from dreamontage import DreaMontagePipeline
            from dreamontage.models import devices
            from dreamontage.rendering import local

            devices.check(device)
            dtype = devices.precision(device)
            pipe = DreaMontagePipeline.from_pretrained(folder, dtype=dtype)
            acceleration.fit(pipe, options, device)
            refining = None
            if board.upscale is not None:
                assert sr is not None, "it would be a fault"
                refining = DreaMontagePipeline.from_pretrained(sr, dtype=dtype)
                acceleration.fit(refining, options.for_upscaling, device)
            made, judgements = local.render(
                board,
                file.parent,
                out,
                pipe,
                sr=refining,
                name=file.stem,
                max_takes=takes,
                known=known,
                progress=progress,
            )
    except StoryboardError as error:
        raise fail(error) from None
    except ValueError as error:
        raise fail(StoryboardError([FieldError(field="", message=str(error))])) from None
    for index, judgement in enumerate(judgements):
        reasons = f": {'; '.join(judgement.reasons)}" if judgement.reasons else ""
        typer.echo(f"{board.shot_name(index)}, gate: {judgement.verdict}{reasons}")
    for path in (made.film, made.sheet, made.record):
        typer.echo(path)


@app.command()
def schema(
    record: Annotated[
        bool, typer.Option("--record", help="The schema of films' records instead.")
    ] = False,
) -> None:
    """Print the JSON Schema of storyboards, for editors."""
    typer.echo(json.dumps(record_schema() if record else storyboard.json_schema(), indent=2))
