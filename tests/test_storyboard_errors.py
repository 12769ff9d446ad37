"""Each error of a storyboard is named by its field and rule, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.storyboard_data import (
    CLIP,
    KEYFRAME,
    SHOT,
    Data,
    board,
    clip,
    errors,
    keyframe,
    prompts,
)


@pytest.mark.parametrize(
    ("shot", "fault"),
    [
        # Places
        (keyframe(at=12), f"{KEYFRAME}.at = 12.0 s lies past the shot's end, 10.0 s"),
        (keyframe(at=10.01), f"{KEYFRAME}.at = 10.01 s lies past the shot's end, 10.0 s"),
        (keyframe(frame=160), f"{KEYFRAME}.frame = 160 lies past the shot's last frame, 159"),
        (keyframe(at=-1), f"{KEYFRAME}.at = -1 s lies before 0"),
        (keyframe(frame=-1), f"{KEYFRAME}.frame = -1 must be at least 0"),
        (keyframe(frame=1.5), f"{KEYFRAME}.frame must be a whole number, not 1.5"),
        (keyframe(frame=True), f"{KEYFRAME}.frame must be a whole number, not true"),
        (keyframe(at="2"), f"{KEYFRAME}.at must be a number of seconds, not '2'"),
        (keyframe(at=True), f"{KEYFRAME}.at must be a number of seconds, not true"),
        (keyframe(at=float("nan")), f"{KEYFRAME}.at must be a finite number of seconds"),
        (keyframe(at=float("inf")), f"{KEYFRAME}.at must be a finite number of seconds"),
        (keyframe(at=1e300), f"{KEYFRAME}.at = 1e+300 s is more than a day, 86400 s"),
        (keyframe(at=10**400), f"{KEYFRAME}.at = a huge number s is more than a day, 86400 s"),
        (keyframe(frame=10**400), f"{KEYFRAME}.frame = a huge number must be less than 72000"),
        (keyframe(at=1, frame=16), f"{KEYFRAME} has both `at` and `frame`; give one"),
        (keyframe(), f"{KEYFRAME} needs a place: `at`, in seconds, or `frame`"),
        (clip(at=10), f"{CLIP}.at = 10.0 s is the shot's end: nothing of the clip would be seen"),
        (clip(at=11), f"{CLIP}.at = 11.0 s lies past the shot's end, 10.0 s"),
        # Clips
        (clip(at=0, out=0), f"{CLIP}.out = 0.0 s must lie after in, 0.0 s"),
        (clip(at=0, **{"in": 3}, out=2), f"{CLIP}.out = 2.0 s must lie after in, 3.0 s"),
        (clip(at=0, out=0.01), f"{CLIP}.out = 0.01 s leaves less than half a frame after in"),
        (
            clip(at=8, **{"in": 1}, out=4),
            f"{CLIP}.out = 4.0 s: the clip runs to 11.0 s, past the shot's end, 10.0 s; "
            "leave `out` out to use what fits",
        ),
        (
            clip(frame=128, out=3),
            f"{CLIP}.out = 3.0 s: the clip runs to 11.0 s, past the shot's end, 10.0 s; "
            "leave `out` out to use what fits",
        ),
        # Choices and names
        (
            keyframe(at=0, fit="stretch"),
            f"{KEYFRAME}.fit = 'stretch' must be one of 'crop' or 'pad'",
        ),
        (
            keyframe(at=0, imgae="x"),
            f"{KEYFRAME}.imgae is no field of a keyframe; did you mean `image`?",
        ),
        (
            prompts({"text": "a", "zzz": 1}),
            f"{SHOT}.prompts[0].zzz is no field of a prompt span; there are start, end, text",
        ),
        (
            {"name": "a/b"},
            f"{SHOT}.name = 'a/b' must be 1 to 64 letters, digits, dots, dashes and underscores, "
            "starting with a letter or digit: files are named for it",
        ),
        # Durations
        ({"duration": 0}, f"{SHOT}.duration = 0 s must be longer than that"),
        ({"duration": 0.01}, f"{SHOT}.duration = 0.01 s is shorter than half a frame"),
        ({"duration": 1e9}, f"{SHOT}.duration = 1000000000.0 s is more than a day, 86400 s"),
        ({"duration": 601}, f"{SHOT}.duration = 601.0 s is longer than a shot may be, 600 s"),
        (
            {"duration": "10000f"},
            f"{SHOT}.duration = 10000 frames, 625.0 s, is longer than a shot may be, 600 s",
        ),
        (
            {"duration": {"frames": 0}},
            f"{SHOT}.duration = 0 frames must lie between 1 and 72000",
        ),
        (
            {"duration": "10s"},
            f"{SHOT}.duration must be seconds, such as 10, or frames, such as {{frames: 81}} or "
            "\"81f\", not '10s'",
        ),
        # Prompts
        (
            {"prompts": "[0, 5] a; [5, 12] b"},
            f"{SHOT}.prompts[1].end = 12.0 s lies past the shot's end, 10.0 s",
        ),
        (
            {"prompts": "[0, 5] a; [4, 10] b"},
            f"{SHOT}.prompts[1].start = 4.0 s lies before the end of {SHOT}.prompts[0], 5.0 s",
        ),
        (
            prompts({"text": "a"}, {"text": "b", "start": 5}),
            f"{SHOT}.prompts[1].start = 5.0 s lies before the end of {SHOT}.prompts[0], 10.0 s",
        ),
        (
            {"prompts": "[5, 2] a"},
            f"{SHOT}.prompts[0].end = 2.0 s must lie after start, 5.0 s",
        ),
        (
            prompts({"text": "a", "start": 10}),
            f"{SHOT}.prompts[0].start = 10.0 s lies past the shot's end, 10.0 s",
        ),
        (
            {"prompts": "[1, 1.01] a"},
            f"{SHOT}.prompts[0] from 1.0 s to 1.01 s holds for no frame",
        ),
        (
            {"prompts": "a [0, 5] b"},
            f"{SHOT}.prompts has text before its first span; start with `[`, or use no spans",
        ),
        (prompts({"text": ""}), f"{SHOT}.prompts[0].text must not be empty"),
        (prompts({"text": "a\0b"}), f"{SHOT}.prompts[0].text holds control characters"),
        (
            prompts({"text": "a" * 5001}),
            f"{SHOT}.prompts[0].text has 5001 characters; at most 5000 are allowed",
        ),
        # Paths
        (
            {"keyframes": [{"image": "/etc/passwd", "at": 0}]},
            f"{KEYFRAME}.image = '/etc/passwd' must be relative to the storyboard's file",
        ),
        (
            {"keyframes": [{"image": "C:\\a.png", "at": 0}]},
            f"{KEYFRAME}.image = 'C:\\a.png' must be relative to the storyboard's file",
        ),
        (
            {"keyframes": [{"image": "https://a/b.png", "at": 0}]},
            f"{KEYFRAME}.image = 'https://a/b.png' must be relative to the storyboard's file",
        ),
        (
            {"keyframes": [{"image": "a\0b", "at": 0}]},
            f"{KEYFRAME}.image = 'a\\x00b' is no path of a file",
        ),
        (
            {"keyframes": [{"image": "x" * 500, "at": 0}]},
            f"{KEYFRAME}.image = '{'x' * 59}…': there is no such file",
        ),
        (
            {"keyframes": [{"image": ".", "at": 0}]},
            f"{KEYFRAME}.image = '.': there is no such file",
        ),
        # Shapes
        ({"keyframes": {"image": "a.png"}}, f"{SHOT}.keyframes must be a list, not a mapping"),
        ({"keyframes": "a.png"}, f"{SHOT}.keyframes must be a list, not 'a.png'"),
        ({"keyframes": [3]}, f"{KEYFRAME} must be a mapping of fields, not 3"),
        ({"keyframes": [None]}, f"{KEYFRAME} must be a mapping of fields, not nothing"),
        ({"seed": -1}, f"{SHOT}.seed = -1 must be at least 0"),
        ({"seed": 2**63}, f"{SHOT}.seed = a huge number must be at most {2**63 - 1}"),
    ],
)
def test_an_error_of_a_shot_is_the_only_one_reported(
    shot: Data, fault: str, asset_folder: Path
) -> None:
    assert errors(board(shot), asset_folder) == [fault]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"title": ""}, "title must not be empty"),
        ({"title": 3}, "title must be text, not 3"),
        ({"title": "a" * 201}, "title has 201 characters; at most 200 are allowed"),
        ({"title": "\ud800"}, "title must be text of valid Unicode, not '\\ud800'"),
        ({"titel": "x"}, "titel is no field of a storyboard; did you mean `title`?"),
        ({"fps": 0}, "fps = 0 must lie between 1 and 120"),
        ({"fps": 1e300}, "fps = 1e+300 must lie between 1 and 120"),
        (
            {"fps": 16.123456},
            "fps = 16.123456 is no rate that a film can have; write it as a fraction",
        ),
        (
            {"fps": "24/0"},
            'fps must be a number of frames a second, such as 16, 23.976 or "24000/1001"',
        ),
        (
            {"fps": float("nan")},
            'fps must be a number of frames a second, such as 16, 23.976 or "24000/1001"',
        ),
        (
            {"fps": True},
            'fps must be a number of frames a second, such as 16, 23.976 or "24000/1001", not true',
        ),
        ({"size": "big"}, "size must be a width and a height such as 128x80, not 'big'"),
        ({"size": "100x80"}, "size.width = 100 must be a multiple of 16"),
        ({"size": {"width": 128, "height": 4112}}, "size.height = 4112 must be at most 4096"),
        ({"size": {"width": 128}}, "size.height is missing"),
        ({"size": {"width": 48, "height": 64}}, "size.width = 48 must be at least 64"),
        ({"size": [128, 80]}, "size must be a mapping of fields, not a list"),
        ({"upscale": 3}, "upscale = 3 must be one of 1.5, 2, 2.25"),
        ({"upscale": "2"}, "upscale = '2' must be one of 1.5, 2, 2.25"),
        ({"upscale": True}, "upscale = true must be one of 1.5, 2, 2.25"),
        ({"upscale": float("nan")}, "upscale = nan must be one of 1.5, 2, 2.25"),
        ({"seed": "1"}, "seed must be a whole number, not '1'"),
        ({"sampler": {"steps": 0}}, "sampler.steps = 0 must be at least 1"),
        (
            {"sampler": {"guidance": float("inf")}},
            "sampler.guidance must be a finite number, not inf",
        ),
        ({"shots": []}, "shots must not be empty"),
        ({"shots": None}, "shots must be a list, not nothing"),
        ({"shots": [{"duration": 1}] * 201}, "shots has 201 entries; at most 200 are allowed"),
        (
            {"shots": [{"duration": 1, "name": "a"}, {"duration": 1, "name": "A"}]},
            "shots[1].name = 'A' is also the name of shots[0]",
        ),
        (
            {"shots": [{"duration": 1, "name": "shot-2"}, {"duration": 1}]},
            "shots[1].name = 'shot-2' is also the name of shots[0]",
        ),
    ],
)
def test_an_error_of_the_storyboard_is_the_only_one_reported(fields: Data, fault: str) -> None:
    assert errors(board(**fields), None) == [fault]


@pytest.mark.parametrize("data", [None, [], [1], "title", 3, {}])
def test_what_is_no_storyboard_at_all(data: object) -> None:
    told = errors(data, None)
    if data == {}:
        assert told == [f"{field} is missing" for field in ("fps", "shots", "size", "title")]
    else:
        assert len(told) == 1
        assert told[0].startswith("the storyboard must be a mapping of fields, not ")


def test_all_errors_are_reported_at_once_though_parts_are_unreadable(asset_folder: Path) -> None:
    data = board(
        {
            "nmae": "x",
            "prompts": "[0, 5] a; [5, 12] b",
            "keyframes": [
                {"image": "gone.png", "at": 12, "fit": "pud"},
                {"image": 3, "at": 1, "frame": 2},
                7,
            ],
            "clips": [{"video": "c.mp4", "at": 8, "in": -1, "out": 5, "frmae": 2}],
        },
        size="1x1",
    )
    data["shots"] += ["x", {"keyframes": [{"image": "a.png", "frame": 3}, {"image": "a.png"}]}]
    assert [fault.split(" ")[0] for fault in errors(data, asset_folder)] == [
        "shots[0].clips[0].frmae",
        "shots[0].clips[0].in",
        "shots[0].keyframes[0].at",
        "shots[0].keyframes[0].fit",
        "shots[0].keyframes[0].image",
        "shots[0].keyframes[1]",
        "shots[0].keyframes[1].image",
        "shots[0].keyframes[2]",
        "shots[0].nmae",
        "shots[0].prompts[1].end",
        "shots[1]",
        "shots[2].duration",
        "shots[2].keyframes[1]",
        "size.height",
        "size.width",
    ]


def test_errors_are_in_the_order_of_their_shots(asset_folder: Path) -> None:
    shots = [{"duration": -1} for _ in range(11)]
    told = errors(board(shots=shots), asset_folder)
    assert [fault.split(".")[0] for fault in told] == [f"shots[{index}]" for index in range(11)]
