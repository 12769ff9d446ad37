"""Data of small storyboards, and the errors that reading one gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamontage import storyboard
from dreamontage.storyboard.errors import StoryboardError

Data = dict[str, Any]
ASSETS = ("a.png", "b.png", "c.mp4")
KEYFRAME, CLIP, SHOT = "shots[0].keyframes[0]", "shots[0].clips[0]", "shots[0]"


@pytest.fixture
def asset_folder(tmp_path: Path) -> Path:
    """A folder with the files that the storyboards of these tests name, all empty."""
    for name in ASSETS:
        (tmp_path / name).touch()
    return tmp_path


def board(shot: Data | None = None, **fields: Any) -> Data:
    """A right storyboard of one shot of ten seconds, with changes."""
    return {
        "title": "t",
        "fps": 16,
        "size": "128x80",
        "shots": [{"duration": 10, **(shot or {})}],
        **fields,
    }


def keyframe(**fields: Any) -> Data:
    """The fields of a shot with one keyframe."""
    return {"keyframes": [{"image": "a.png"} | fields]}


def clip(**fields: Any) -> Data:
    """The fields of a shot with one clip."""
    return {"clips": [{"video": "c.mp4", **fields}]}


def prompts(*spans: Data) -> Data:
    """The fields of a shot with these prompts."""
    return {"prompts": list(spans)}


def errors(data: object, base: Path | None) -> list[str]:
    try:
        storyboard.loads(data, base)
    except StoryboardError as error:
        return [str(each) for each in error.errors]
    return []


def errors_of_file(text: str, base: Path, name: str = "board.yaml") -> list[str]:
    (base / name).write_text(text)
    try:
        storyboard.load(base / name)
    except StoryboardError as error:
        return [str(each) for each in error.errors]
    return []
