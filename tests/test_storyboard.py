"""A storyboard is read as it was meant, or every one of its faults is told."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamontage import reading, storyboard
from dreamontage.faults import StoryboardError
from dreamontage.fields import Frames
from dreamontage.storyboard import Clip, Keyframe, PromptSpan

Data = dict[str, Any]
ASSETS = ("a.png", "b.png", "c.mp4")


@pytest.fixture
def base(tmp_path: Path) -> Path:
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


def faults(data: object, base: Path | None) -> list[str]:
    try:
        storyboard.loads(data, base)
    except StoryboardError as error:
        return [str(fault) for fault in error.faults]
    return []


def read(text: str, base: Path, name: str = "board.yaml") -> list[str]:
    (base / name).write_text(text)
    try:
        storyboard.load(base / name)
    except StoryboardError as error:
        return [str(fault) for fault in error.faults]
    return []


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


def test_every_field_is_read(base: Path) -> None:
    (base / "board.yaml").write_text(FULL)
    read = storyboard.load(base / "board.yaml")
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


def test_json_is_read_too(base: Path) -> None:
    (base / "board.json").write_text(json.dumps(board(), indent="\t"))
    assert storyboard.load(base / "board.json") == storyboard.loads(board(), base)


def test_what_is_dumped_reads_back_equal(base: Path) -> None:
    (base / "board.yaml").write_text(FULL)
    read = storyboard.load(base / "board.yaml")
    dumped = json.loads(json.dumps(read.model_dump(mode="json")))
    assert storyboard.loads(dumped, base) == read
    assert storyboard.loads(dumped, None) == read
    assert dumped["fps"] == "24000/1001"


def test_without_a_folder_files_are_not_looked_for() -> None:
    data = board({"keyframes": [{"image": "no.png", "at": 0}]})
    assert faults(data, Path("nowhere")) == [
        "shots[0].keyframes[0].image = 'no.png': there is no such file"
    ]
    assert faults(data, None) == []


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


K: Callable[..., Data] = lambda **fields: {"keyframes": [{"image": "a.png"} | fields]}  # noqa: E731
C: Callable[..., Data] = lambda **fields: {"clips": [{"video": "c.mp4", **fields}]}  # noqa: E731
P: Callable[..., Data] = lambda *spans: {"prompts": list(spans)}  # noqa: E731
KEYFRAME, CLIP, SHOT = "shots[0].keyframes[0]", "shots[0].clips[0]", "shots[0]"


@pytest.mark.parametrize(
    ("shot", "fault"),
    [
        # Places
        (K(at=12), f"{KEYFRAME}.at = 12.0 s lies past the shot's end, 10.0 s"),
        (K(at=10.01), f"{KEYFRAME}.at = 10.01 s lies past the shot's end, 10.0 s"),
        (K(frame=160), f"{KEYFRAME}.frame = 160 lies past the shot's last frame, 159"),
        (K(at=-1), f"{KEYFRAME}.at = -1 s lies before 0"),
        (K(frame=-1), f"{KEYFRAME}.frame = -1 must be at least 0"),
        (K(frame=1.5), f"{KEYFRAME}.frame must be a whole number, not 1.5"),
        (K(frame=True), f"{KEYFRAME}.frame must be a whole number, not true"),
        (K(at="2"), f"{KEYFRAME}.at must be a number of seconds, not '2'"),
        (K(at=True), f"{KEYFRAME}.at must be a number of seconds, not true"),
        (K(at=float("nan")), f"{KEYFRAME}.at must be a finite number of seconds"),
        (K(at=float("inf")), f"{KEYFRAME}.at must be a finite number of seconds"),
        (K(at=1e300), f"{KEYFRAME}.at = 1e+300 s is more than a day, 86400 s"),
        (K(at=10**400), f"{KEYFRAME}.at = a huge number s is more than a day, 86400 s"),
        (K(frame=10**400), f"{KEYFRAME}.frame = a huge number must be less than 72000"),
        (K(at=1, frame=16), f"{KEYFRAME} has both `at` and `frame`; give one"),
        (K(), f"{KEYFRAME} needs a place: `at`, in seconds, or `frame`"),
        (C(at=10), f"{CLIP}.at = 10.0 s is the shot's end: nothing of the clip would be seen"),
        (C(at=11), f"{CLIP}.at = 11.0 s lies past the shot's end, 10.0 s"),
        # Clips
        (C(at=0, out=0), f"{CLIP}.out = 0.0 s must lie after in, 0.0 s"),
        (C(at=0, **{"in": 3}, out=2), f"{CLIP}.out = 2.0 s must lie after in, 3.0 s"),
        (C(at=0, out=0.01), f"{CLIP}.out = 0.01 s leaves less than half a frame after in"),
        (
            C(at=8, **{"in": 1}, out=4),
            f"{CLIP}.out = 4.0 s: the clip runs to 11.0 s, past the shot's end, 10.0 s; "
            "leave `out` out to use what fits",
        ),
        (
            C(frame=128, out=3),
            f"{CLIP}.out = 3.0 s: the clip runs to 11.0 s, past the shot's end, 10.0 s; "
            "leave `out` out to use what fits",
        ),
        # Choices and names
        (K(at=0, fit="stretch"), f"{KEYFRAME}.fit = 'stretch' must be one of 'crop' or 'pad'"),
        (K(at=0, imgae="x"), f"{KEYFRAME}.imgae is no field of a keyframe; did you mean `image`?"),
        (
            P({"text": "a", "zzz": 1}),
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
            P({"text": "a"}, {"text": "b", "start": 5}),
            f"{SHOT}.prompts[1].start = 5.0 s lies before the end of {SHOT}.prompts[0], 10.0 s",
        ),
        (
            {"prompts": "[5, 2] a"},
            f"{SHOT}.prompts[0].end = 2.0 s must lie after start, 5.0 s",
        ),
        (
            P({"text": "a", "start": 10}),
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
        (P({"text": ""}), f"{SHOT}.prompts[0].text must not be empty"),
        (P({"text": "a\0b"}), f"{SHOT}.prompts[0].text holds control characters"),
        (
            P({"text": "a" * 5001}),
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
def test_a_fault_of_a_shot_is_named_alone(shot: Data, fault: str, base: Path) -> None:
    assert faults(board(shot), base) == [fault]


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
def test_a_fault_of_the_storyboard_is_named_alone(fields: Data, fault: str) -> None:
    assert faults(board(**fields), None) == [fault]


@pytest.mark.parametrize("data", [None, [], [1], "title", 3, {}])
def test_what_is_no_storyboard_at_all(data: object) -> None:
    told = faults(data, None)
    if data == {}:
        assert told == [f"{field} is missing" for field in ("fps", "shots", "size", "title")]
    else:
        assert len(told) == 1
        assert told[0].startswith("the storyboard must be a mapping of fields, not ")


def test_all_faults_are_told_at_once_though_parts_could_not_be_read(base: Path) -> None:
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
    assert [fault.split(" ")[0] for fault in faults(data, base)] == [
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


def test_faults_are_in_the_order_of_their_shots(base: Path) -> None:
    shots = [{"duration": -1} for _ in range(11)]
    told = faults(board(shots=shots), base)
    assert [fault.split(".")[0] for fault in told] == [f"shots[{index}]" for index in range(11)]


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [
        (
            K(at=2),
            K(frame=32),
            f"{KEYFRAME[:-2]}1].frame stands on frame 32, which is taken by {KEYFRAME}",
        ),
        (
            K(frame=30),
            K(frame=31),
            f"{KEYFRAME[:-2]}1].frame stands on frame 31; of the frames 29 "
            f"to 32, which the model sees as one, only one can be given, and one is taken by "
            f"{KEYFRAME}",
        ),
        (K(frame=33), K(frame=32), None),
        (C(at=1, out=2), K(at=2), f"{KEYFRAME}.at stands on frame 32, which is taken by {CLIP}"),
        (C(at=1, out=2), K(at=3), None),
        (
            C(at=1, out=2),
            C(at=2.5),
            f"{CLIP[:-2]}1].at stands on frame 40, which is taken by {CLIP}",
        ),
        # Back to back, in the same latent: the later one's first frame has the slot.
        (C(at=1, out=1), C(at=2), None),
        # How long a clip without `out` is, only its file knows.
        (C(at=1), K(at=2), None),
        (C(at=2), K(at=2), f"{CLIP}.at stands on frame 32, which is taken by {KEYFRAME}"),
    ],
)
def test_conditions_that_stand_in_each_others_place(
    first: Data, second: Data, fault: str | None, base: Path
) -> None:
    shot = copy.deepcopy(first)
    for kind, entries in second.items():
        shot.setdefault(kind, []).extend(entries)
    assert faults(board(shot), base) == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("clip", "seconds", "fault"),
    [
        ({"frame": 81}, 100, None),  # what does not fit is left away
        ({"at": 0, "in": 1, "out": 3}, 3, None),
        ({"at": 0, "in": 1, "out": 3}, 2.98, None),  # within half a frame
        ({"at": 0, "out": 3}, 2.5, f"{CLIP}.out = 3.0 s lies past the video's end, 2.5 s"),
        ({"at": 0, "in": 3}, 2.5, f"{CLIP}.in = 3.0 s lies past the video's end, 2.5 s"),
        ({"at": 4}, 2, f"{KEYFRAME}.at stands on frame 80, which is taken by {CLIP}"),
        ({"at": 4}, 1, None),
    ],
)
def test_clips_are_checked_against_their_files_lengths(
    clip: Data, seconds: float, fault: str | None
) -> None:
    shot = {"clips": [{"video": "c.mp4", **clip}], **K(at=5)}
    read = storyboard.loads(board(shot), None)
    told = storyboard.check_clips(read, {(0, 0): Fraction(str(seconds))})
    assert [str(each) for each in told] == ([fault] if fault else [])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the storyboard must be a mapping of fields, not nothing"),
        ("- a\n- b\n", "the storyboard must be a mapping of fields, not a list"),
        (
            "title: a\nshots: [\n",
            "board.yaml line 3, column 1: expected the node content, but found '<stream end>'",
        ),
        (
            "title: a\n\tfps: 16\n",
            "board.yaml line 2, column 1: found character '\\t' that cannot start any token",
        ),
        (
            "title: a\nfps: 16\ntitle: b\n",
            "board.yaml line 3, column 1: the field 'title' stands twice",
        ),
        ("title: a\n3: b\n", "board.yaml line 2, column 1: a field's name must be text"),
        ("? [a, b]\n: c\n", "board.yaml line 1, column 3: a field's name must be text"),
        ("a: 1\n---\nb: 2\n", "board.yaml line 2, column 1: but found another document"),
        (
            "title: !!python/object/apply:os.system [ls]",
            "board.yaml line 1, column 8: could not "
            "determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("[" * 5000, "board.yaml is nested too deeply"),
        ("seed: " + "9" * 5000, "board.yaml holds a number that is too long"),
        (
            "a: \x07",
            "board.yaml holds a character that YAML forbids, special characters are not allowed",
        ),
        ("# " + "x" * (1 << 20), "board.yaml is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_yaml(text: str, fault: str, base: Path) -> None:
    assert read(text, base) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"title": "a",}', "board.json line 1, column 15: "),
        ('{"title": "a", "title": "b"}', "board.json the field 'title' stands twice"),
        ("[" * 100_000, "board.json is nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "board.json holds a number that is too long"),
    ],
)
def test_a_file_that_is_no_json(text: str, fault: str, base: Path) -> None:
    told = read(text, base, "board.json")
    assert len(told) == 1
    assert told[0].startswith(fault)


def test_a_file_that_cannot_be_read(base: Path) -> None:
    (base / "latin.yaml").write_bytes("title: Café".encode("latin-1"))
    for name, fault in {
        "gone.yaml": "gone.yaml cannot be read: No such file or directory",
        "latin.yaml": "latin.yaml is not UTF-8 text, from byte 10 on",
        ".": " cannot be read: Is a directory",
    }.items():
        with pytest.raises(StoryboardError) as caught:
            storyboard.load(base / name)
        assert str(caught.value).endswith(fault)


def test_scalars_are_read_as_they_look(base: Path) -> None:
    # YAML 1.1 would make these false, ninety, eight, and a date.
    text = "title: no\nfps: 1e1\nsize: 128x80\nseed: 010\nnegative_prompt: 2024-01-01\n"
    (base / "board.yaml").write_text(text + "shots: [{duration: 1, prompts: 1:30}]")
    read = storyboard.load(base / "board.yaml")
    assert (read.title, read.fps, read.seed) == ("no", Fraction(10), 10)
    assert read.negative_prompt == "2024-01-01"
    assert read.shots[0].prompts[0].text == "1:30"


def test_aliases_that_multiply_are_cut_off(base: Path) -> None:
    lines = ["a: &a0 [x]"] + [f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(12)]
    told = read("\n".join(lines), base)
    assert (
        "a is no field of a storyboard; there are title, fps, size, upscale, seed, "
        "negative_prompt, sampler, shots" in told
    )
    assert read("a: &a [*a]\nshots: &s [{duration: 1, keyframes: *s}]", base)


def test_the_json_schema_agrees_with_the_reader(base: Path) -> None:
    document = storyboard.json_schema()
    jsonschema.Draft202012Validator.check_schema(document)
    validator = jsonschema.Draft202012Validator(document)
    (base / "board.yaml").write_text(FULL)
    written = reading.read(base / "board.yaml")
    validator.validate(written)
    validator.validate(storyboard.load(base / "board.yaml").model_dump(mode="json"))
    for shot in (
        K(),
        K(at=1, frame=1),
        K(at=-1),
        K(at=1, imgae=1),
        {"duration": "10s"},
        {"duration": 0},
        {"name": "a/b"},
        {"keyframes": "a.png"},
    ):
        assert faults(board(shot), None)
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
    jsonschema.Draft202012Validator(storyboard.json_schema()).validate(reading.read(path))
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
def test_junk_is_told_and_never_a_crash(fields: Data, shots: list[Any]) -> None:
    data = {**board(), **fields, "shots": shots}
    try:
        read = storyboard.loads(data, Path("nowhere"))
    except StoryboardError as error:
        told = [str(fault) for fault in error.faults]
    else:
        told = []
        assert storyboard.loads(read.model_dump(mode="json"), Path("nowhere")) == read
    assert all(fault.isprintable() for fault in told)
