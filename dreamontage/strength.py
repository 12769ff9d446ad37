"""Whether a model's schedule has noise levels as low as a storyboard's drafts ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers

from dreamontage.faults import Fault
from dreamontage.models.folder import folder_facts
from dreamontage.plan import read_json
from dreamontage.sampling import entry
from dreamontage.storyboard import Storyboard


def faults(board: Storyboard, scheduler: Any, steps: int) -> list[Fault]:
    """The drafted shots whose strength lies below the last of so many steps."""
    found = []
    for index, shot in enumerate(board.shots):
        if shot.draft is None:
            continue
        try:
            entry(scheduler, steps, shot.draft_strength)
        except ValueError as error:
            rule = str(error).removeprefix("strength ")
            found.append(Fault(field=f"shots[{index}].strength", message=rule))
    return found


def folder_faults(board: Storyboard, folder: Path) -> list[Fault]:
    """The same from the model's folder. Raises `ValueError` naming a file that is missing."""
    _, name = read_json(folder / "model_index.json")["scheduler"]
    scheduler = getattr(diffusers, name).from_pretrained(folder / "scheduler")
    return faults(board, scheduler, board.sampler.steps or folder_facts(folder).default_steps)
