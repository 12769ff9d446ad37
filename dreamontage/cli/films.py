"""Commands on storyboards: check, plan, render."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dreamontage import assets, report, shipped, speed, storyboard, timeline, variants
from dreamontage.cli.common import Weights, fail, nano_folder, quietly, showing
from dreamontage.faults import Fault, StoryboardError
from dreamontage.storyboard import Storyboard
from dreamontage.upscale.model import folder_faults

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
    return here if here.is_dir() else shipped.weights_or_none("nano-sr")


@app.command()
def validate(
    file: File,
    matrix: Annotated[
        Path | None,
        typer.Option(
            "--variants", help="A matrix of variants to check as well.", show_default=False
        ),
    ] = None,
) -> None:
    """Check a storyboard and its files; print every fault, one a line."""
    try:
        board, _ = assets.examine(file)
        films = {"": board}
        if matrix is not None:
            films |= _examined(board, matrix, file.parent)
    except StoryboardError as error:
        raise fail(error) from None
    for name, film in films.items():
        frames = sum(shot.frames(film.fps) for shot in film.shots)
        label = f"{film.title}, {name}" if name else film.title
        size = f"{film.size}" if film.upscale is None else f"{film.size} upscaled to {film.target}"
        typer.echo(
            f"{label}: no faults; {size}, shots: {len(film.shots)}, "
            f"seconds: {float(timeline.seconds_at(frames, film.fps)):.2f}"
        )


def _examined(board: Storyboard, matrix: Path, base: Path) -> dict[str, Storyboard]:
    """Every variant of a storyboard, its files opened."""
    found = variants.load_matrix(matrix)
    films = variants.apply_all(board.model_dump(mode="json"), found, base)
    known: assets.Known = {}
    named = {variant.name: film for variant, film in zip(found, films, strict=True)}
    faults = [
        fault.under(f"{name}: ")
        for name, film in named.items()
        for fault in assets.inspect(film, base, known)[1]
    ]
    if faults:
        raise StoryboardError(faults)
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
        board, clip_seconds = assets.examine(file)
        model = report.Model.from_folder(weights or nano_folder())
        speed = report.reached_flops() if tflops is None else 1e12 * tflops
        planned = report.plan_report(board, clip_seconds, model, speed, sr=sr or nano_sr_folder())
    except StoryboardError as error:
        raise fail(error) from None
    except ValueError as error:
        raise fail(StoryboardError([Fault(field="--weights", message=f"= {error}")])) from None
    if as_json:
        typer.echo(json.dumps(planned, indent=2))
    else:
        report.show(planned, Console())


@app.command()
def render(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the film goes.")] = Path("out"),
    weights: Weights = None,
    sr: SrWeights = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1.")] = "cpu",
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
        options = speed.parse(faster)
    except ValueError as error:
        raise fail(StoryboardError([Fault(field="--speed", message=str(error))])) from None
    for effect in speed.describe(options):
        # What it does to the film is said where it is asked for.
        typer.echo(
            f"{effect.option} = {effect.setting}: {effect.exactness}; {effect.note}", err=True
        )
    try:
        board, _ = assets.examine(file)
        folder, sr = weights or nano_folder(), sr or nano_sr_folder()
        if faults := folder_faults(board, folder, sr):
            raise StoryboardError(faults)
        with showing("loading the model") as progress:
            quietly()
            # Seconds to import, and only this command needs it.
            from dreamontage import DreaMontagePipeline, devices, local

            devices.check(device)
            dtype = devices.precision(device)
            pipe = DreaMontagePipeline.from_pretrained(folder, dtype=dtype)
            speed.fit(pipe, options, device)
            refining = None
            if board.upscale is not None:
                assert sr is not None, "it would be a fault"
                refining = DreaMontagePipeline.from_pretrained(sr, dtype=dtype)
                speed.fit(refining, options.for_upscaling, device)
            made, judgements = local.render(
                board,
                file.parent,
                out,
                pipe,
                sr=refining,
                name=file.stem,
                progress=progress,
            )
    except StoryboardError as error:
        raise fail(error) from None
    except ValueError as error:
        raise fail(StoryboardError([Fault(field="", message=str(error))])) from None
    for index, judgement in enumerate(judgements):
        reasons = f": {'; '.join(judgement.reasons)}" if judgement.reasons else ""
        typer.echo(f"{board.shot_name(index)}, gate: {judgement.verdict}{reasons}")
    for path in (made.film, made.sheet, made.record):
        typer.echo(path)


@app.command()
def schema() -> None:
    """Print the JSON Schema of storyboards, for editors."""
    typer.echo(json.dumps(storyboard.json_schema(), indent=2))
