"""What `dreamontage curate` does: settings from its options, the run, and its output."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console

from dreamontage.files import read_json
from dreamontage.models.codec import LinearCodec
from dreamontage.planning.geometry import Geometry
from dreamontage.training.curation import report
from dreamontage.training.curation.encode import load_autoencoder
from dreamontage.training.curation.judge import Limits
from dreamontage.training.curation.likeness import Clip, Layout
from dreamontage.training.curation.run import Curated, Progress, curate
from dreamontage.training.curation.target import Target
from dreamontage.training.curation.videos import Curation

_SIZE = {True: (128, 80), False: (832, 480)}  # for our own codec, and for Wan's
_MULTIPLE = 16  # for an autoencoder alone, without a DiT whose patch is known


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The command's options, as the user gave them."""

    weights: Path
    device: str = "cpu"
    report_only: bool = False
    size: str | None = None
    fps: str = "16"
    longest: float = 120
    stills_every: int = 4
    clip: Path | str | None = None
    judge: str | None = None
    pose: str | None = None
    shortest: float = 1.5
    most_alike: float | None = None
    least_quality: float = 0.35
    most_shake: float = 0.004
    least_motion: float = 0.015


def run(folder: Path, out: Path, choices: Choices, *, progress: Progress) -> Curated:
    """Raises ValueError naming an impossible option, and as `run.curate` does."""
    curation = curation_of(choices)
    autoencoder = None
    if not choices.report_only:
        autoencoder = load_autoencoder(choices.weights, choices.device)
    return curate(folder, out, curation, autoencoder=autoencoder, progress=progress)


def curation_of(choices: Choices) -> Curation:
    """The settings that the options name. Raises ValueError naming an impossible option."""
    if choices.stills_every not in (1, 2, 4):
        raise ValueError(f"--stills-every = {choices.stills_every} must be 1, 2 or 4")
    limits = Limits(
        shortest=choices.shortest,
        most_alike=choices.most_alike,
        least_quality=choices.least_quality,
        most_shake=choices.most_shake,
        least_motion=choices.least_motion,
    )
    return Curation(
        target=_target(choices),
        limits=limits,
        longest=choices.longest,
        stills_every=choices.stills_every,
        embed=Layout() if choices.clip is None else Clip(Path(choices.clip), choices.device),
        judge=_hook("--judge", choices.judge),
        pose=_hook("--pose", choices.pose),
    )


def _target(choices: Choices) -> Target:
    """Size and frame rate from the options, on the grid of the model."""
    own = choices.weights / "vae" if (choices.weights / "vae").is_dir() else choices.weights
    ours = read_json(own / "config.json").get("_class_name") == LinearCodec.__name__
    width, height = _SIZE[ours]
    if choices.size is not None:
        found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", choices.size)
        if found is None:
            raise ValueError(f"--size = {choices.size!r} must read WIDTHxHEIGHT, as in 832x480")
        width, height = int(found[1]), int(found[2])
    try:
        fps = Fraction(choices.fps)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"--fps = {choices.fps!r} must be a number, or a fraction") from None
    multiple = _MULTIPLE
    if (choices.weights / "model_index.json").is_file():
        multiple = Geometry.from_folder(choices.weights).spatial_multiple
    try:
        return Target(fps=fps, width=width, height=height, multiple=multiple)
    except ValueError as error:
        raise ValueError(f"--{error}") from None


def _hook(option: str, place: str | None) -> Callable[..., Any] | None:
    """The function that an option names as module:function."""
    if place is None:
        return None
    module, _, name = place.partition(":")
    try:
        hook = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"{option} = {place!r} must name MODULE:FUNCTION ({error})") from None
    if not callable(hook):
        raise ValueError(f"{option} = {place!r} is no function")
    found: Callable[..., Any] = hook
    return found


def show(made: Curated, out: Path, console: Console) -> None:
    """Print the counts, and the paths of the results."""
    console.print(report.table(made.entries))
    if made.clips is not None:
        console.print(f"{made.clips} clips in {out}", soft_wrap=True, markup=False)
    for name in (report.TEXT, report.JSON, report.KEPT, report.DROPPED):
        console.print(str(out / name), soft_wrap=True, markup=False, highlight=False)
