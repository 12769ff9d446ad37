"""Curations of a few films: a folder of them, settings, and what a run made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamontage.digests import file_digest
from dreamontage.training.curation.encode import load_autoencoder
from dreamontage.training.curation.judge import Rule
from dreamontage.training.curation.run import Curated
from dreamontage.training.curation.target import Target
from dreamontage.training.curation.videos import Curation
from tests.support import wild
from tests.support.wild import h264, pan, shot

ROOT = Path(__file__).parents[2]
NANO = ROOT / "weights" / "nano"
TARGET = Target(width=128, height=80)
CURATION = Curation(target=TARGET)


@pytest.fixture(scope="session")
def nano_vae() -> Any:
    return load_autoencoder(NANO)


@pytest.fixture(scope="session")
def wild_films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good films, two of more than one shot, one without motion."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "more").mkdir()
    h264(shot(0), folder / "a.mp4")
    h264(pan(1), folder / "b.mkv")
    h264(pan(2), folder / "more" / "c.mp4")
    h264(wild.cut(shot(0), shot(1), 20), folder / "cut.mp4")
    h264(wild.dissolved(shot(2), shot(4), 12, 16), folder / "dissolve.mp4")
    h264(pan(0)[:1].repeat(49, 0), folder / "still.mp4")
    return folder


def verdicts(made: Curated) -> dict[str, Rule | None]:
    return {entry.name: entry.verdict.rule for entry in made.entries}


def files(folder: Path) -> dict[str, str]:
    """What a run leaves that another run must leave too."""
    return {
        path.name: file_digest(path)
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".")
    }
