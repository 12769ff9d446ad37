"""The library's commands. The farm's `dreamontage` command takes them in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dreamontage import assets, report, shipped, speed, storyboard, timeline, variants
from dreamontage.faults import Fault, StoryboardError
from dreamontage.storyboard import Storyboard
from dreamontage.upscale.model import folder_faults

app = typer.Typer(no_args_is_help=True, help="One seamless long take from stills and clips.")

File = Annotated[Path, typer.Argument(help="A storyboard, YAML or JSON.", show_default=False)]
Weights = Annotated[
    Path | None,
    typer.Option(help="A model's folder; weights/nano if left out.", show_default=False),
]

SrWeights = Annotated[
    Path | None,
    typer.Option(
        "--sr",
        help="A super-resolution model's folder, for storyboards with `upscale`; "
        "weights/nano-sr, where there is one, if left out.",
        show_default=False,
    ),
]


def fail(error: StoryboardError) -> typer.Exit:
    """Print every fault on a line of its own; what is returned is to be raised."""
    for fault in error.faults:
        # Plain, without rich: a line is a fault, however narrow the terminal.
        typer.echo(str(fault), err=True)
    return typer.Exit(1)


def _quietly() -> None:
    """For torch and transformers, before they are imported.

    Threads that spin while they wait are slow on busy cores; and transformers would tell every
    producer that torchvision is not there.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def nano_folder() -> Path:
    """The shipped model's folder: of the working directory, else the one we came with."""
    here = Path("weights/nano")
    return here if here.is_dir() else shipped.weights("nano")


def nano_sr_folder() -> Path | None:
    """The same of the super-resolution model, if one is shipped."""
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
        with _progress("loading the model") as progress:
            _quietly()
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
def evaluate(
    folder: Annotated[
        Path | None,
        typer.Argument(help="The model's folder; weights/nano if left out.", show_default=False),
    ] = None,
    untuned: Annotated[
        Path | None,
        typer.Option(help="The model before adaptive tuning, if kept.", show_default=False),
    ] = None,
    adaptive: Annotated[
        Path | None,
        typer.Option(help="The model after adaptive tuning, if kept.", show_default=False),
    ] = None,
    expression: Annotated[
        Path | None,
        typer.Option(help="The model after SFT, before DPO, if kept.", show_default=False),
    ] = None,
    sr: Annotated[
        Path | None,
        typer.Option(help="A super-resolution model, if there is one.", show_default=False),
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Films of the main tasks.")] = 16,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Where films, sheets and evaluation.json go.")
    ] = Path("out/evaluation"),
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Pictures to move over; those of a clone's examples if left out.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1.")] = "cpu",
) -> None:
    """Score a model on films it has not seen, beside controls; say whether it may be shipped."""
    _quietly()
    from dreamontage import devices
    from dreamontage.evaluation import show
    from dreamontage.evaluation.evaluate import evaluate as run
    from dreamontage.evaluation.evaluate import plan_for
    from dreamontage.evaluation.suite import Folders

    pictures = Path(__file__).parents[1] / "examples" / "assets"
    if photos is None and pictures.is_dir():  # a wheel brings none
        photos = pictures
    folders = Folders(
        ours=folder or nano_folder(),
        untuned=untuned,
        adaptive=adaptive,
        expression=expression,
        sr=sr,
    )
    try:
        devices.check(device)
        with _progress("loading") as progress:
            found = run(
                folders,
                out,
                plan=plan_for(folders.ours, clips=clips, photos=photos),
                device=device,
                tell=lambda done, total, what: progress(
                    what if done == total else f"{done + 1} of {total}, {what}", done, total
                ),
            )
    except ValueError as error:
        raise fail(StoryboardError([Fault(field="", message=str(error))])) from None
    show.show(found, Console(width=max(Console().width, show.WIDTH)))
    typer.echo(out / "evaluation.json")


@app.command()
def curate(
    folder: Annotated[Path, typer.Argument(help="A folder of videos.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Where data set and report go; resumes what it holds."),
    ],
    weights: Weights = None,
    device: Annotated[
        str, typer.Option(help="Where clips are encoded: cpu, cuda, cuda:1.")
    ] = "cpu",
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Measure and judge; encode nothing.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            help="About so many pixels a frame, in the shape nearest to the video's; "
            "832x480, or 128x80 with weights/nano, if left out.",
            show_default=False,
        ),
    ] = None,
    fps: Annotated[str, typer.Option(help="Frames a second, as in 16 or 24000/1001.")] = "16",
    longest: Annotated[
        float, typer.Option(min=1, help="Seconds of a video that are looked at and kept.")
    ] = 120,
    stills_every: Annotated[
        int, typer.Option(help="Frames between those that are stored alone as well: 1, 2 or 4.")
    ] = 4,
    clip: Annotated[
        Path | None,
        typer.Option(
            help="A CLIP model's folder, to compare first and last frames with; "
            "by their layout if left out.",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FUNCTION from a picture (uint8, H x W x 3) to its quality, "
            "instead of our technical one.",
            show_default=False,
        ),
    ] = None,
    pose: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FUNCTION from a picture to how clear its people's pose is, 0 to 1, "
            "None with nobody in it. Left out, poses are not looked at.",
            show_default=False,
        ),
    ] = None,
    shortest: Annotated[float, typer.Option(help="Seconds that a video must have.")] = 1.5,
    most_alike: Annotated[
        float | None,
        typer.Option(
            help="Likeness of first and last frame that drops a video; "
            "0.9 by layout, 0.95 by CLIP, if left out.",
            show_default=False,
        ),
    ] = None,
    least_quality: Annotated[float, typer.Option(help="Quality that a video must have.")] = 0.35,
    most_shake: Annotated[
        float, typer.Option(help="Camera shake a frame, in shares of the picture's longer side.")
    ] = 0.004,
    least_motion: Annotated[
        float, typer.Option(help="Motion a second, in shares of the picture's longer side.")
    ] = 0.015,
) -> None:
    """Find the one-shot videos in a folder, and encode them for training, with a report."""
    _quietly()
    from dreamontage import devices
    from dreamontage.training.curation import command

    devices.check(device)

    choices = command.Choices(
        weights=weights or nano_folder(),
        device=device,
        report_only=report_only,
        size=size,
        fps=fps,
        longest=longest,
        stills_every=stills_every,
        clip=clip,
        judge=judge,
        pose=pose,
        shortest=shortest,
        most_alike=most_alike,
        least_quality=least_quality,
        most_shake=most_shake,
        least_motion=least_motion,
    )
    with _progress("opening the folder") as progress:
        made = command.run(folder, out, choices, progress=progress)
    command.show(made, out, Console())


@contextmanager
def _progress(first: str) -> Iterator[Callable[[str, int, int], None]]:
    """A bar of the steps of what is at hand, by calls with its name, what is done, and of how many.

    Without a terminal, in a log, a line whenever something else is at hand.
    """
    console = Console(stderr=True)
    told = ""

    def line(what: str, done: int, total: int) -> None:
        nonlocal told
        if what != told:
            told = what
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


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe or a chain; see --list.")] = "",
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The run's folder; one that holds a run goes on.")
    ] = Path("run"),
    minutes: Annotated[float, typer.Option(help="Stop after so many.")] = math.inf,
    steps: Annotated[float, typer.Option(help="Stop at this step of the run.")] = math.inf,
    init: Annotated[
        Path | None, typer.Option(help="A model folder to start from.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="What `curate` made.", show_default=False)
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Pictures for worlds to show.", show_default=False)
    ] = None,
    crops: Annotated[int, typer.Option(help="Squares of each picture.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    list_: Annotated[bool, typer.Option("--list", help="Name the recipes and chains.")] = False,
) -> None:
    """Train weights by a recipe, or go on with a run; losses, scores and sheets on the way."""
    _quietly()
    import torch  # seconds to import, and few commands need it

    from dreamontage.training import runs
    from dreamontage.training.photos import load_photos

    if list_:
        for name in runs.NAMES:
            typer.echo(name)
        return
    torch.set_num_threads(threads)
    try:
        made = runs.train(
            recipe,
            out,
            minutes=minutes,
            steps=steps,
            init=init,
            photos=None if photos is None else load_photos(photos, crops=crops),
            data=data,
        )
    except ValueError as error:
        raise fail(StoryboardError([Fault(field="", message=str(error))])) from None
    typer.echo(made)


@app.command()
def schema() -> None:
    """Print the JSON Schema of storyboards, for editors."""
    typer.echo(json.dumps(storyboard.json_schema(), indent=2))
