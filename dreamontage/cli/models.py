"""Commands on models: score one, curate training data, train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dreamontage.cli.common import Weights, fail, nano_folder, quietly, showing
from dreamontage.cli.options import with_options
from dreamontage.storyboard.errors import FieldError, StoryboardError

app = typer.Typer()


@app.command()
def evaluate(
    folder: Annotated[
        Path | None,
        typer.Argument(help="The model's folder; weights/nano if left out.", show_default=False),
    ] = None,
    untuned: Annotated[
        Path | None,
        typer.Option(help="The model before adaptive tuning, if you have it.", show_default=False),
    ] = None,
    adaptive: Annotated[
        Path | None,
        typer.Option(help="The model after adaptive tuning, if you have it.", show_default=False),
    ] = None,
    expression: Annotated[
        Path | None,
        typer.Option(help="The model after SFT, before DPO, if you have it.", show_default=False),
    ] = None,
    sr: Annotated[
        Path | None,
        typer.Option(help="A super-resolution model, if there is one.", show_default=False),
    ] = None,
    clips: Annotated[int, typer.Option(min=2, help="Films of the main tasks.")] = 16,
    keyframed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Films of four keyframes, if more than --clips; the verdict depends on these. "
            "Beyond --clips only FOLDER and its controls make them.",
        ),
    ] = 0,
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
    quietly()
    from dreamontage.evaluation import show
    from dreamontage.evaluation.evaluate import evaluate as run
    from dreamontage.evaluation.evaluate import plan_for
    from dreamontage.evaluation.suite import Folders
    from dreamontage.models import devices

    pictures = Path(__file__).parents[2] / "examples" / "assets"
    if photos is None and pictures.is_dir():  # a wheel has none
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
        with showing("loading") as progress:
            found = run(
                folders,
                out,
                plan=plan_for(folders.ours, clips=clips, keyframed=keyframed, photos=photos),
                device=device,
                progress=lambda done, total, what: progress(
                    what if done == total else f"{done + 1} of {total}, {what}", done, total
                ),
            )
    except ValueError as error:
        raise fail(StoryboardError([FieldError(field="", message=str(error))])) from None
    show.show(found, Console(width=max(Console().width, show.WIDTH)))
    typer.echo(out / "evaluation.json")


@dataclass(frozen=True, kw_only=True)
class CurateOptions:
    """The options of `curate`."""

    weights: Weights = None
    device: Annotated[str, typer.Option(help="Where clips are encoded: cpu, cuda, cuda:1.")] = "cpu"
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Measure and judge; encode nothing.")
    ] = False
    size: Annotated[
        str | None,
        typer.Option(
            help="How many pixels a frame has, about, in the shape nearest to the video's; "
            "832x480, or 128x80 with weights/nano, if left out.",
            show_default=False,
        ),
    ] = None
    fps: Annotated[str, typer.Option(help="Frames a second, as in 16 or 24000/1001.")] = "16"
    longest: Annotated[
        float, typer.Option(min=1, help="Seconds of a video that are measured and encoded.")
    ] = 120
    stills_every: Annotated[
        int, typer.Option(help="Frames between those that are stored alone as well: 1, 2 or 4.")
    ] = 4
    clip: Annotated[
        Path | None,
        typer.Option(
            help="A CLIP model's folder, to compare first and last frames with; "
            "by their layout if left out.",
            show_default=False,
        ),
    ] = None
    judge: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FUNCTION from a picture (uint8, H x W x 3) to its quality, "
            "instead of our technical one.",
            show_default=False,
        ),
    ] = None
    pose: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FUNCTION from a picture to how clear its people's pose is, 0 to 1, "
            "None with nobody in it. Left out, poses are not looked at.",
            show_default=False,
        ),
    ] = None
    shortest: Annotated[float, typer.Option(help="Seconds that a video must have.")] = 1.5
    most_alike: Annotated[
        float | None,
        typer.Option(
            help="Likeness of first and last frame that drops a video; "
            "0.9 by layout, 0.95 by CLIP, if left out.",
            show_default=False,
        ),
    ] = None
    least_quality: Annotated[float, typer.Option(help="Quality that a video must have.")] = 0.35
    most_shake: Annotated[
        float, typer.Option(help="Camera shake a frame, in shares of the picture's longer side.")
    ] = 0.004
    least_motion: Annotated[
        float, typer.Option(help="Motion a second, in shares of the picture's longer side.")
    ] = 0.015


@app.command()
@with_options(CurateOptions)
def curate(
    folder: Annotated[Path, typer.Argument(help="A folder of videos.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Where data set and report go; resumes what it holds."),
    ],
    options: CurateOptions,
) -> None:
    """Find the one-shot videos in a folder, and encode them for training, with a report."""
    quietly()
    from dreamontage.models import devices
    from dreamontage.training.curation import command

    devices.check(options.device)
    choices = command.Choices(**{**vars(options), "weights": options.weights or nano_folder()})
    with showing("opening the folder") as progress:
        made = command.run(folder, out, choices, progress=progress)
    command.show(made, out, Console())


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe or a chain; see --list.")] = "",
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The run's folder; a run in it is continued.")
    ] = Path("run"),
    minutes: Annotated[float, typer.Option(help="Stop after this many minutes.")] = math.inf,
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
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and chains.")] = False,
) -> None:
    """Train weights by a recipe, or continue a run; prints losses, stores scores and sheets."""
    quietly()
    import torch  # seconds to import, and few commands need it

    from dreamontage.training import runs
    from dreamontage.training.synthetic.photos import load_photos

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
        raise fail(StoryboardError([FieldError(field="", message=str(error))])) from None
    typer.echo(made)
