"""Conditions that contradict each other, or their files, are refused."""

from __future__ import annotations

import copy
from fractions import Fraction
from pathlib import Path

import pytest

from dreamontage import storyboard
from tests.support.storyboard_data import (
    CLIP,
    KEYFRAME,
    Data,
    board,
    clip,
    errors,
    keyframe,
)


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (
            keyframe(at=2),
            keyframe(frame=32),
            f"{KEYFRAME[:-2]}1].frame is on frame 32, which is taken by {KEYFRAME}",
        ),
        (
            keyframe(frame=30),
            keyframe(frame=31),
            f"{KEYFRAME[:-2]}1].frame is on frame 31; of the frames 29 "
            f"to 32, which the model sees as one, only one can be given, and one is taken by "
            f"{KEYFRAME}",
        ),
        (keyframe(frame=33), keyframe(frame=32), None),
        (
            clip(at=1, out=2),
            keyframe(at=2),
            f"{KEYFRAME}.at is on frame 32, which is taken by {CLIP}",
        ),
        (clip(at=1, out=2), keyframe(at=3), None),
        (
            clip(at=1, out=2),
            clip(at=2.5),
            f"{CLIP[:-2]}1].at is on frame 40, which is taken by {CLIP}",
        ),
        # Back to back, in the same latent: the later one's first frame has the slot.
        (clip(at=1, out=1), clip(at=2), None),
        # How long a clip without `out` is, only its file knows.
        (clip(at=1), keyframe(at=2), None),
        (clip(at=2), keyframe(at=2), f"{CLIP}.at is on frame 32, which is taken by {KEYFRAME}"),
    ],
)
def test_conditions_that_occupy_the_same_frames(
    first: Data, second: Data, fault: str | None, asset_folder: Path
) -> None:
    shot = copy.deepcopy(first)
    for kind, entries in second.items():
        shot.setdefault(kind, []).extend(entries)
    assert errors(board(shot), asset_folder) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("clip", "seconds", "fault"),
    [
        ({"frame": 81}, 100, None),  # what does not fit is left away
        ({"at": 0, "in": 1, "out": 3}, 3, None),
        ({"at": 0, "in": 1, "out": 3}, 2.98, None),  # within half a frame
        ({"at": 0, "out": 3}, 2.5, f"{CLIP}.out = 3.0 s lies past the video's end, 2.5 s"),
        ({"at": 0, "in": 3}, 2.5, f"{CLIP}.in = 3.0 s lies past the video's end, 2.5 s"),
        ({"at": 4}, 2, f"{KEYFRAME}.at is on frame 80, which is taken by {CLIP}"),
        ({"at": 4}, 1, None),
    ],
)
def test_clips_are_checked_against_their_files_lengths(
    clip: Data, seconds: float, fault: str | None
) -> None:
    shot = {"clips": [{"video": "c.mp4", **clip}], **keyframe(at=5)}
    read = storyboard.loads(board(shot), None)
    told = storyboard.check_clips(read, {(0, 0): Fraction(str(seconds))})
    assert [str(each) for each in told] == ([fault] if fault else [])
