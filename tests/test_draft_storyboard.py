"""Drafts in a storyboard: the fields, the film's record and sheet, and wrong draft files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamontage import DreaMontagePipeline, media, storyboard
from dreamontage.delivery.film import shot_notes
from dreamontage.rendering import local
from dreamontage.rendering.ingest import ingest_drafts
from dreamontage.storyboard.errors import StoryboardError
from tests.support.boards import WriteBoard
from tests.support.drafts import drafted_shot
from tests.support.media import numbers, video_of


def errors(shot: dict[str, Any], base: Path | None = None) -> list[str]:
    data = {"title": "t", "fps": 16, "size": "80x64", "shots": [{"duration": 2, **shot}]}
    try:
        storyboard.loads(data, base)
    except StoryboardError as error:
        return [str(field_error) for field_error in error.errors]
    return []


def test_what_a_draft_may_be(tmp_path: Path) -> None:
    frame = {"keyframes": [{"image": "a.png", "at": 0}]}
    assert errors({"draft": "auto", "strength": 0.5, **frame}) == []
    assert errors({"draft": "auto"}) == [
        "shots[0].draft = 'auto' needs a keyframe or a clip to make a draft of"
    ]
    assert errors({"strength": 0.5}) == [
        "shots[0].strength = 0.5 is for a draft; give one, as in `draft: auto`"
    ]
    assert errors({"draft": "auto", "strength": 1.5, **frame}) == [
        "shots[0].strength = 1.5 must be at most 1.0"
    ]
    assert errors({"draft": "auto", "strength": 0, **frame}) == [
        "shots[0].strength = 0 must be more than 0.0"
    ]
    assert errors({"draft": "no.mp4"}, tmp_path) == [
        "shots[0].draft = 'no.mp4': there is no such file"
    ]
    assert errors({"draft": "/no.mp4"}) == [
        "shots[0].draft = '/no.mp4' must be relative to the storyboard's file"
    ]


def test_a_sheet_says_what_a_shot_was_drafted_from() -> None:
    assert shot_notes(drafted_shot(draft=None)) == ()
    assert shot_notes(drafted_shot(strength=0.5)) == ("drafted: auto, strength 0.5",)
    assert shot_notes(drafted_shot(draft="cut/v2.mp4", loop=True)) == (
        "loops",
        "drafted: v2.mp4, strength 0.6",
    )


def drafted(write_board: WriteBoard, name: str, seconds: float = 2.1, **fields: Any) -> Path:
    """A storyboard of 33 frames between two stills, beside it an animatic."""
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 32}]
    one = {"name": "walk", "duration": {"frames": 33}, "keyframes": stills, **fields}
    path = write_board(name, shots=[one])
    levels_T = np.arange(round(seconds * 24)) * 5
    frames_THWC = np.broadcast_to(levels_T[:, None, None, None], (len(levels_T), 64, 80, 3))
    video_of(frames_THWC.astype(np.uint8), path.parent / "animatic.mp4", "-crf", "5", fps="24")
    return path


def render(path: Path, weights: Path, out: Path) -> dict[str, Any]:
    pipe = DreaMontagePipeline.from_pretrained(weights)
    made, _ = local.render(storyboard.load(path), path.parent, out, pipe, name=path.stem)
    record: dict[str, Any] = json.loads(made.record.read_text())
    return record


def test_a_film_records_its_draft_and_has_keys_of_its_own(
    write_board: WriteBoard, tiny_ours: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shots = {}
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "auto": {"draft": "auto", "strength": 0.8},
        "other": {"draft": "auto", "strength": 0.9},
        "video": {"draft": "animatic.mp4", "strength": 0.8},
    }
    for name, fields in changes.items():
        (shots[name],) = render(drafted(write_board, name, **fields), tiny_ours, out)["shots"]
    assert shots["plain"]["draft"] is None
    unset = {"asset": None, "rendition": None, "made_by": None}
    assert shots["auto"]["draft"] == {"kind": "auto", "strength": 0.8} | unset
    record = shots["video"]["draft"]
    assert (record["kind"], record["strength"]) == ("video", 0.8)
    assert record["made_by"] == {
        "fit": "crop",
        "width": 80,
        "height": 64,
        "fps": "16",
        "in": 0.0,
        "out": 33 / 16,
    }
    keys = [{each["key"] for each in one["segments"]} for one in shots.values()]
    assert len(set.union(*keys)) == sum(map(len, keys)), "no two share a segment"


def test_a_draft_shorter_than_its_shot_is_an_error(
    write_board: WriteBoard, tiny_ours: Path, tmp_path: Path
) -> None:
    path = drafted(write_board, "short", seconds=1.5, draft="animatic.mp4")
    with pytest.raises(StoryboardError) as error:
        render(path, tiny_ours, tmp_path)
    assert str(error.value) == (
        "shots[0].draft = 'animatic.mp4' lasts 1.5 s, and the shot 2.0625 s"
    )
    path = drafted(write_board, "still", draft="still0.png")
    with pytest.raises(StoryboardError, match=r"'still0.png' is of kind image"):
        render(path, tiny_ours, tmp_path)


def test_an_animatic_is_shown_at_the_films_rate(write_board: WriteBoard, tmp_path: Path) -> None:

    path = drafted(write_board, "rate", draft="animatic.mp4")
    (made,) = ingest_drafts(storyboard.load(path), path.parent, tmp_path).values()
    frames = np.stack(list(media.read_frames(made.path)))
    assert len(frames) == 33
    # The picture at n / 16 s, of 24 frames a second. A frame's grey level is 5 times its number.
    expected = [n * 24 // 16 * 5 for n in range(33)]
    levels = frames.mean(axis=(1, 2, 3))
    assert np.abs(levels - expected).max() < 5, numbers(frames)
