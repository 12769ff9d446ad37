"""Captions beside the videos of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dreamontage.training.curation import sidecar
from dreamontage.training.curation.run import curate
from dreamontage.training.datasets.shards import Dataset
from dreamontage.training.synthetic.captions import Action
from tests.support.curated import CURATION

CAPTIONS = [
    ("a.txt", "she walks ", "she walks"),
    ("a.mp4.txt", "she walks", "she walks"),
    ("a.json", '{"prompts": "she walks"}', "she walks"),
    (
        "a.txt",
        "[0, 1] she stands; [1, 2.5] she walks",
        [(0, 1, "she stands"), (1, 2.5, "she walks")],
    ),
    (
        "a.json",
        '[{"start": 0, "end": 0.1, "text": "a"}, {"start": 1, "end": 2, "text": "b"}]',
        [(0, "1/10", "a"), (1, 2, "b")],
    ),
]


@pytest.mark.parametrize(("name", "text", "wanted"), CAPTIONS)
def test_captions_are_read_from_beside_the_video(
    name: str, text: str, wanted: Any, tmp_path: Path
) -> None:
    from fractions import Fraction

    (tmp_path / name).write_text(text)
    file = sidecar.find(tmp_path / "a.mp4")
    assert file == tmp_path / name
    spans = sidecar.read(file)
    if isinstance(wanted, str):
        assert spans == wanted
    else:
        assert spans == [(Fraction(a), Fraction(b), words) for a, b, words in wanted]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", "", "says nothing"),
        ("a.txt", "[0, 1]", "says nothing"),
        ("a.txt", "[2, 1] a", r"prompts\[0\]: end = 1 must lie after start = 2"),
        ("a.json", "{", "is no JSON"),
        ("a.json", "{}", 'needs "prompts"'),
        ("a.json", "[]", "holds no spans"),
        ("a.json", '[{"start": "now", "end": 1, "text": "a"}]', "needs start and end"),
        ("a.json", '[{"start": 0, "end": 1, "text": 7}]', "says nothing"),
        ("a.json", "[3]", "needs start and end"),
    ],
)
def test_unusable_captions_are_reported(name: str, text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=why):
        sidecar.read(tmp_path / name)


def test_time_stamped_captions_are_the_actions(
    wild_films: Path, tmp_path: Path, nano_vae: Any
) -> None:
    shutil.copy(wild_films / "b.mkv", tmp_path / "b.mkv")
    (tmp_path / "b.txt").write_text("[0, 1.4] over the hill; [2, 9] and down")
    curate(tmp_path, tmp_path / "out", CURATION, autoencoder=nano_vae)
    (facts,) = Dataset(tmp_path / "out").clips
    assert facts.actions == (
        Action(start=0, stop=22, text="over the hill"),
        Action(start=32, stop=49, text="and down"),
    )
    assert {22, 32} <= set(facts.stills), "borders of actions are stored alone"
    assert facts.boundaries() == [0, 22, 32, 48]
