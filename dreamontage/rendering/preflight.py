"""What is wrong with a storyboard, its files and its models, found in one round before any work.

`validate`, `plan`, `render` and `submit` all ask here: what one of them refuses, all refuse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamontage.families import check_class_name
from dreamontage.files import read_json
from dreamontage.models.folder import flow_shift, folder_facts
from dreamontage.pipeline.upscale import model as upscale_model
from dreamontage.planning.coarse import can_refine, stride_error
from dreamontage.planning.cost import steps_below
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import model_errors
from dreamontage.rendering.assets import ClipSeconds, Known, inspect
from dreamontage.storyboard import Storyboard, parse, yaml_loader
from dreamontage.storyboard.errors import FieldError, StoryboardError


@dataclass(frozen=True, kw_only=True)
class ModelFolders:
    """The models that a storyboard is to be rendered with, read without loading them."""

    base: Path
    sr: Path | None = None

    def errors(self, board: Storyboard) -> list[FieldError]:
        """What these models cannot render of a storyboard that is valid by itself.

        Raises:
            ValueError: naming a file of the base model that is missing or wrong, or its pipeline if
                that is not supported.
        """
        check_class_name(self.base)
        geometry = Geometry.from_folder(self.base)
        errors = model_errors(board, geometry)
        errors += upscale_model.folder_errors(board, self.base, self.sr)
        errors += coarse_errors(board, geometry, refinable=refinable(self.base, board))
        if any(shot.draft is not None for shot in board.shots):
            errors += draft_errors(board, *_schedule(self.base, board))
        if board.upscale is not None and self.sr is not None and not errors:
            errors += self._upscale_strength_errors(board, self.sr)
        return errors

    def _upscale_strength_errors(self, board: Storyboard, sr: Path) -> list[FieldError]:
        assert board.upscale is not None
        strength = upscale_model.SrModel.from_folder(sr).upscaler(board.upscale).strength
        steps = folder_facts(sr).default_steps
        # The scheduler itself brings torch and seconds: it is asked only where a refusal is near.
        if steps_below(strength, steps, flow_shift(sr)) > 1:
            return []
        return upscale_strength_errors(board, _scheduler(sr), steps, strength)


def check(
    path: Path, models: ModelFolders | None = None, known: Known | None = None
) -> tuple[Storyboard, ClipSeconds]:
    """A storyboard's file, checked whole: the storyboard, and its clips' lengths in seconds, by
    (shot, clip).

    Args:
        models: also check what these models cannot render.
        known: facts of files by their path, as `assets.inspect` has them; filled in.

    Raises:
        StoryboardError: with every error of the storyboard, its files and its models.
        ValueError: naming a file of the base model that is missing or wrong.
    """
    data = yaml_loader.read(path)
    board, errors = parse(data, path.parent)
    seconds: ClipSeconds = {}
    if isinstance(data, Mapping):
        seconds, found = inspect(data, path.parent, known)
        # A file that is not there, or a clash that is seen without it, is in `errors` already.
        reported = {each.field for each in errors}
        errors += [each for each in found if each.field not in reported]
    if board is not None and models is not None:
        errors += models.errors(board)
    if board is None or errors:
        raise StoryboardError(sorted(errors, key=FieldError.sort_key))
    return board, seconds


def board_errors(
    board: Storyboard, base: Path, models: ModelFolders | None, known: Known | None = None
) -> list[FieldError]:
    """The same for a storyboard that is read already, as a variant is."""
    of_models = [] if models is None else models.errors(board)
    return [*of_models, *inspect(board, base, known)[1]]


def upscale_strength_errors(
    board: Storyboard, scheduler: Any, steps: int, strength: float
) -> list[FieldError]:
    """Whether the super-resolution model's schedule has a noise level as low as its strength."""
    from dreamontage.sampling.start import start_step

    try:
        start_step(scheduler, steps, strength)
    except ValueError as error:
        return [FieldError(field="upscale", message=f"= {board.upscale:g}: {error}")]
    return []


def coarse_errors(board: Storyboard, geometry: Geometry, *, refinable: bool) -> list[FieldError]:
    """The shots that ask for a coarse level that the model or a loop cannot have."""
    found = []
    for index, shot in enumerate(board.shots):
        frames = shot.frames(board.fps)
        if problem := stride_error(
            shot.coarse, frames, geometry, loop=shot.loop, refinable=refinable
        ):
            message = f"= {shot.coarse}: {problem}"
            found.append(FieldError(field=f"shots[{index}].coarse", message=message))
    return found


def refinable(folder: Path, board: Storyboard) -> bool:
    """Whether the model of a folder can refine a coarse film of the storyboard.

    Raises:
        ValueError: naming a file that is missing or wrong.
    """
    facts = folder_facts(folder)
    steps = facts.default_steps if board.sampler.steps is None else board.sampler.steps
    return can_refine(steps, flow_shift(folder))


def draft_errors(board: Storyboard, scheduler: Any, steps: int) -> list[FieldError]:
    """The drafted shots whose strength lies below the noise level of the last step."""
    # The denoise loop brings torch, and seconds, which only drafts need.
    from dreamontage.sampling.start import start_step

    found = []
    for index, shot in enumerate(board.shots):
        if shot.draft is None:
            continue
        try:
            start_step(scheduler, steps, shot.draft_strength)
        except ValueError as error:
            rule = str(error).removeprefix("strength ")
            found.append(FieldError(field=f"shots[{index}].strength", message=rule))
    return found


def _schedule(folder: Path, board: Storyboard) -> tuple[Any, int]:
    return _scheduler(folder), board.sampler.steps or folder_facts(folder).default_steps


def _scheduler(folder: Path) -> Any:
    import diffusers

    _, name = read_json(folder / "model_index.json")["scheduler"]
    return getattr(diffusers, name).from_pretrained(folder / "scheduler")
