"""Recipes and chains by name, run in a folder."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from dreamontage.models.loading import no_bars
from dreamontage.training.recipe import Chain
from dreamontage.training.recipes import CHAINS, RECIPES
from dreamontage.training.trainer import Trainer

NAMES = sorted([*RECIPES, *CHAINS])
_DONE = "done"


@no_bars()  # of every file that is read or written, among our own lines
def train(
    name: str,
    out: Path,
    *,
    minutes: float = math.inf,
    steps: float = math.inf,
    init: Path | None = None,
    photos: Tensor | None = None,
    data: Path | None = None,
) -> Path:
    """Run a recipe, or a chain of them, in `out`, or go on with the run that it holds.

    Args:
        minutes, steps: when to stop; a chain takes minutes alone, and shares them.
        init: a model folder to start from.

    Returns:
        The folder of the last model that was written.

    Raises:
        ValueError: for a name that is neither, a run without an end, an `init` that holds no model,
            and as the recipe's objective.
        RuntimeError: for whatever goes wrong once it trains.
    """
    for field, value in (("minutes", minutes), ("steps", steps)):
        if not value > 0:
            raise ValueError(f"{field} = {value:g} must be more than 0")
    if init is not None and not (init / "model_index.json").is_file():
        raise ValueError(f"init = {init}: holds no model; there is no model_index.json")
    if data is not None and not data.is_dir():
        raise ValueError(f"data = {data}: there is no such folder")
    if data is not None and not name.startswith("wan_"):
        raise ValueError(f"data = {data}: {name} draws worlds of its own; Wan's recipes take data")
    if name in CHAINS:
        if minutes == math.inf:
            raise ValueError(f"minutes are missing: {name} is a chain, and shares them out")
        if CHAINS[name].continues and init is None:
            raise ValueError(
                f"init is missing: {name} goes on from weights that were trained before"
            )
        return _chain(CHAINS[name], out, minutes=minutes, init=init, photos=photos, data=data)
    if name not in RECIPES:
        raise ValueError(f"recipe = {name!r} must be one of {', '.join(NAMES)}")
    if minutes == steps == math.inf:
        raise ValueError(f"minutes or steps are missing: {name} would never end")
    out.mkdir(parents=True, exist_ok=True)
    run = Trainer(
        RECIPES[name],
        out,
        init=init,
        photos=photos,
        data=data,
        minutes=minutes,
        steps=steps,
    )
    _go_through(run)
    return latest(out)


def _chain(
    chain: Chain,
    out: Path,
    *,
    minutes: float,
    init: Path | None,
    photos: Tensor | None,
    data: Path | None,
) -> Path:
    total = sum(share for _, share in chain.parts)
    before = init
    for recipe, share in chain.parts:
        folder = out / recipe.name
        source = chain.starts.get(recipe.name)
        start = before if source is None else latest(out / source)
        if not (folder / _DONE).exists():
            folder.mkdir(parents=True, exist_ok=True)
            run = Trainer(
                recipe,
                folder,
                init=start,
                photos=photos,
                data=data,
                minutes=minutes * share / total,
            )
            _go_through(run)
            run.accelerator.free_memory()
            (folder / _DONE).touch()
        before = latest(folder)
    assert before is not None
    return before


def _go_through(run: Trainer) -> None:
    """Train. Users are told their faults in a line, and those come before: what fails from here on
    is to be seen with its traceback, though it be a ValueError."""
    try:
        run.run()
    except ValueError as error:
        raise RuntimeError(f"{run.recipe.name} failed at step {run.step}: {error}") from error


def latest(run: Path) -> Path:
    """The newest model that a run has written."""
    return (run / "exports" / "latest").resolve()
