"""Films and scores that are made once: a run that was killed goes on where it was.

A film's name is a digest of its method's revision and of its task's key, so whatever changes
either makes a new one; scores go with the film's own bytes and the code that measured them. Files
are written whole or not at all.

Shapes: T frames, H W height and width, C = 3 colours (uint8).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dreamontage.evaluation.material import Pixels
from dreamontage.evaluation.measures import REVISION, Scores, measure
from dreamontage.evaluation.methods import Method
from dreamontage.evaluation.tasks import Task
from dreamontage.files import write_file, write_text


class Store:
    """A folder of films and scores. `made` counts the films that this process made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0
        folder.mkdir(parents=True, exist_ok=True)

    def film(self, method: Method, task: Task) -> Pixels:
        """The method's film, made if it was not before."""
        path = self.folder / f"{_digest(method.revision, task.key)}.npz"
        if path.exists():
            with np.load(path) as file:
                return np.asarray(file["frames_THWC"], np.uint8)
        frames_THWC = method.film(task)
        write_file(path, lambda temporary: _save(temporary, frames_THWC))
        self.made += 1
        return frames_THWC

    def scores(self, method: Method, task: Task, joins: Sequence[int] = ()) -> Scores:
        """The film's scores, measured if they were not before."""
        film = _digest(method.revision, task.key)
        path = self.folder / f"{_digest(film, REVISION, list(joins))}.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        scores = measure(self.film(method, task), task, joins)
        write_text(path, json.dumps(scores, indent=1))
        return scores


def _save(path: Path, frames_THWC: Pixels) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, frames_THWC=frames_THWC)


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]
