"""Recipes and chains by name, run in a folder."""

from __future__ import annotations

import math
from pathlib import Path

from torch import Tensor

from dreamontage.models.loading import no_bars
from dreamontage.training.loop.recipe import Chain
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.recipes import CHAINS, RECIPES

NAMES = sorted([*RECIPES, *CHAINS])
_DONE = "done"


@no_bars()  # the bars of each file that is read or written would be among our own lines
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
    """Run a recipe or a chain of recipes in `out`, or continue the run in that folder.

    Args:
        minutes, steps: when to stop. A chain takes minutes only, and divides them among its parts.
        init: a model folder to start from.

    Returns:
        The folder of the last model that was written.

    Raises:
        ValueError: for an unknown name, a run without an end, an `init` without a model, and as the
            recipe's objective.
        RuntimeError: for every error once training has begun.
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
                f"init is missing: {name} continues from weights that were trained before"
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
    _run(run)
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
            _run(run)
            run.accelerator.free_memory()
            (folder / _DONE).touch()
        before = latest(folder)
    assert before is not None
    return before


def _run(run: Trainer) -> None:
    """Train, and raise every error as a RuntimeError.

    A user's mistakes are found before, and are shown as one line. What fails from here on must be
    shown with its traceback, also a ValueError.
    """
    try:
        run.run()
    except ValueError as error:
        raise RuntimeError(f"{run.recipe.name} failed at step {run.step}: {error}") from error


def latest(run: Path) -> Path:
    """The newest exported model of a run."""
    return (run / "exports" / "latest").resolve()
