"""Loops in a storyboard: lengths, conditions at the end, variants."""

from __future__ import annotations

from typing import Any

import pytest

from dreamontage import storyboard
from dreamontage.storyboard import variants
from dreamontage.storyboard.errors import StoryboardError


def board(shot: dict[str, Any], **fields: Any) -> dict[str, Any]:
    shots = [{"duration": 5, "loop": True, **shot}]
    return {"title": "t", "fps": 16, "size": "64x64", "shots": shots, **fields}


def errors(shot: dict[str, Any], **fields: Any) -> list[str]:
    try:
        storyboard.loads(board(shot, **fields), None)
    except StoryboardError as error:
        return [str(field_error) for field_error in error.errors]
    return []


def test_seconds_go_to_the_nearest_loop_and_frames_must_be_one() -> None:
    at_25 = storyboard.loads(board({}, fps=25), None)
    assert at_25.shots[0].frames(at_25.fps) == 124
    assert not storyboard.loads(board({"loop": False}, fps=25), None).shots[0].loop
    ntsc = storyboard.loads(board({"duration": 4}, fps=23.976), None)
    assert ntsc.shots[0].frames(ntsc.fps) == 96
    assert errors({"duration": "80f"}) == []
    assert errors({"duration": "81f"}) == [
        "shots[0].duration = 81 frames: a loop has a multiple of 4, such as 80 or 84"
    ]
    assert errors({"duration": 0.1}) == [
        "shots[0].duration = 0.1 s is shorter than what a loop can have"
    ]
    assert errors({"loop": 1}) == ["shots[0].loop must be true or false, not 1"]
    assert storyboard.json_schema()["$defs"]["Shot"]["properties"]["loop"]["type"] == "boolean"


def test_a_condition_on_a_loops_end_latent_is_refused() -> None:
    def at(**place: Any) -> list[str]:
        return errors({"keyframes": [{"image": "a.png", **place}]})

    for frame in (0, 40, 76):
        assert at(frame=frame) == []
    for frame in (77, 79):
        assert at(frame=frame) == [
            f"shots[0].keyframes[0].frame is on frame {frame}; of the frames 77 to 80, which "
            "the model sees as one, only one can be given, and frame 80 is the loop's first, met "
            "again"
        ]
    assert at(at=5) == [
        "shots[0].keyframes[0].at = 5.0 s is the loop's end, which is its first frame: give 0"
    ]
    assert errors({"clips": [{"video": "a.mp4", "frame": 70, "in": 0, "out": 0.625}]}) == []
    assert "frame 80 is the loop's first" in errors({"clips": [{"video": "a.mp4", "frame": 77}]})[0]


def test_a_variant_may_loop() -> None:
    data = board({"loop": False, "duration": "81f"})
    looping = {"shots[0].loop": True}
    with pytest.raises(StoryboardError, match=r"^screen: shots\[0\].duration = 81 frames: a loop"):
        variants.apply(data, variants.Variant(name="screen", overrides=looping), None)
    shorter = looping | {"shots[0].duration": "80f"}
    film = variants.apply(data, variants.Variant(name="screen", overrides=shorter), None)
    assert film.shots[0].loop
