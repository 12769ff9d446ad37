"""A storyboard is read as it was meant, and the schema agrees."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamontage import storyboard
from dreamontage.storyboard import Clip, Keyframe, PromptSpan, yaml_loader
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.types import Frames
from tests.support.storyboard_data import (
    Data,
    board,
    errors,
    keyframe,
)

FULL = """
title: A walk
  by the sea
fps: 23.976
size: 128x80
upscale: 2.25
seed: 7
negative_prompt: text, watermark
sampler: {steps: 4, guidance: 3, image_guidance: 1.5}
shots:
  - name: eye
    duration: 10
    seed: 1
    prompts: "[0, 5] zoom into the eye; [5, 10] the man walks"
    keyframes:
      - {image: a.png, at: 0.1}
      - {image: b.png, frame: 37, fit: pad}
    clips:
      - {video: c.mp4, at: 7.5, in: 1, out: 3}
  - duration: 81f
    prompts: he waits
  - duration: {frames: 5}
    prompts:
      - {text: first, end: 0.1}
      - {start: 0.1, text: then}
"""


def test_every_field_is_read(asset_folder: Path) -> None:
    (asset_folder / "board.yaml").write_text(FULL)
    read = storyboard.load(asset_folder / "board.yaml")
    assert read.title == "A walk by the sea"
    assert read.fps == Fraction(24000, 1001)
    assert (read.size.width, read.size.height) == (128, 80)
    assert (read.upscale, str(read.target)) == (2.25, "288x180")
    assert (read.seed, read.negative_prompt) == (7, "text, watermark")
    assert read.sampler.model_dump() == {"steps": 4, "guidance": 3, "image_guidance": 1.5}
    eye, waits, last = read.shots
    assert (eye.name, eye.duration, eye.seed) == ("eye", Fraction(10), 1)
    assert eye.prompts == (
        PromptSpan(start=Fraction(0), end=Fraction(5), text="zoom into the eye"),
        PromptSpan(start=Fraction(5), end=Fraction(10), text="the man walks"),
    )
    assert eye.keyframes == (
        Keyframe(image="a.png", at=Fraction(1, 10)),
        Keyframe(image="b.png", frame=37, fit="pad"),
    )
    assert eye.clips == (
        Clip(video="c.mp4", at=Fraction(15, 2), in_=Fraction(1), out=Fraction(3), fit="crop"),
    )
    assert (waits.duration, waits.prompts) == (Frames(frames=81), (PromptSpan(text="he waits"),))
    assert [(span.start, span.end) for span in last.prompts] == [
        (0, Fraction(1, 10)),
        (Fraction(1, 10), None),
    ]
    assert [read.shot_name(index) for index in range(3)] == ["eye", "shot-2", "shot-3"]
    assert [shot.frames(read.fps) for shot in read.shots] == [240, 81, 5]


def test_what_is_dumped_reads_back_equal(asset_folder: Path) -> None:
    (asset_folder / "board.yaml").write_text(FULL)
    read = storyboard.load(asset_folder / "board.yaml")
    dumped = json.loads(json.dumps(read.model_dump(mode="json")))
    assert storyboard.loads(dumped, asset_folder) == read
    assert storyboard.loads(dumped, None) == read
    assert dumped["fps"] == "24000/1001"


def test_without_a_folder_files_are_not_looked_for() -> None:
    data = board({"keyframes": [{"image": "no.png", "at": 0}]})
    assert errors(data, Path("nowhere")) == [
        "shots[0].keyframes[0].image = 'no.png': there is no such file"
    ]
    assert errors(data, None) == []


@pytest.mark.parametrize(
    ("written", "fps"),
    [
        (16, Fraction(16)),
        ("16", Fraction(16)),
        (12.5, Fraction(25, 2)),
        ("24000/1001", Fraction(24000, 1001)),
        (23.976, Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
    ],
)
def test_frame_rates(written: object, fps: Fraction) -> None:
    assert storyboard.loads(board(fps=written), None).fps == fps


def test_times_go_to_the_nearest_frame_and_the_shots_end_to_its_last() -> None:
    keyframes = [{"image": "a.png", "at": at} for at in (0, 0.35, 9.9, 10)]
    read = storyboard.loads(board({"keyframes": keyframes[:3]}, fps=10), None)
    shot = read.shots[0]
    assert [shot.frame_of(each, read.fps) for each in shot.keyframes] == [0, 4, 99]
    read = storyboard.loads(board({"keyframes": keyframes[3:]}, fps=10), None)
    assert read.shots[0].frame_of(read.shots[0].keyframes[0], read.fps) == 99


def test_a_shots_seed_is_its_own_or_follows_from_the_storyboards() -> None:
    one = storyboard.loads(board(seed=1, shots=[{"duration": 1}] * 2), None)
    two = storyboard.loads(board(seed=2, shots=[{"duration": 1}, {"duration": 1, "seed": 5}]), None)
    assert len({one.shot_seed(0), one.shot_seed(1), two.shot_seed(0)}) == 3
    assert two.shot_seed(1) == 5


def test_the_json_schema_agrees_with_the_reader(asset_folder: Path) -> None:
    document = storyboard.json_schema()
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)
    (asset_folder / "board.yaml").write_text(FULL)
    written = yaml_loader.read(asset_folder / "board.yaml")
    validator.validate(written)
    validator.validate(storyboard.load(asset_folder / "board.yaml").model_dump(mode="json"))
    for shot in (
        keyframe(),
        keyframe(at=1, frame=1),
        keyframe(at=-1),
        keyframe(at=1, imgae=1),
        {"duration": "10s"},
        {"duration": 0},
        {"name": "a/b"},
        {"keyframes": "a.png"},
    ):
        assert errors(board(shot), None)
        assert not validator.is_valid(board(shot)), shot
    assert validator.is_valid(board(upscale=2))
    assert not validator.is_valid(board(upscale=3))


EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[1] / "examples").glob("*.yaml")
    if not path.stem.endswith("variants")
)


def test_there_are_examples_of_every_mode() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_right_by_schema_and_by_reader(path: Path) -> None:
    jsonschema.Draft202012Validator(storyboard.json_schema()).validate(yaml_loader.read(path))
    assert storyboard.load(path).shots


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["at", "frame", "image", "video", "frames", "width", "text", "in", "out"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


FIELDS = st.dictionaries(
    st.sampled_from(["name", "duration", "seed", "prompts", "keyframes", "clips"]), JUNK
)


@given(
    st.dictionaries(
        st.sampled_from(["title", "fps", "size", "upscale", "seed", "sampler", "negative_prompt"]),
        JUNK,
    ),
    st.lists(FIELDS | JUNK, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_junk_is_reported_and_never_a_crash(fields: Data, shots: list[Any]) -> None:
    data = {**board(), **fields, "shots": shots}
    try:
        read = storyboard.loads(data, Path("nowhere"))
    except StoryboardError as error:
        messages = [str(fault) for fault in error.errors]
    else:
        messages = []
        assert storyboard.loads(read.model_dump(mode="json"), Path("nowhere")) == read
    assert all(fault.isprintable() for fault in messages)
