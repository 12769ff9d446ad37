"""YAML and JSON of a storyboard: plain data, or one clear error."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from dreamontage import storyboard
from dreamontage.storyboard import yaml_loader
from dreamontage.storyboard.errors import StoryboardError
from tests.support.storyboard_data import (
    board,
    errors_of_file,
)


def test_json_is_read_too(asset_folder: Path) -> None:
    (asset_folder / "board.json").write_text(json.dumps(board(), indent="\t"))
    assert storyboard.load(asset_folder / "board.json") == storyboard.loads(board(), asset_folder)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the storyboard must be a mapping of fields, not nothing"),
        ("- a\n- b\n", "the storyboard must be a mapping of fields, not a list"),
        (
            "title: a\nshots: [\n",
            "board.yaml line 3, column 1: did not find expected node content",
        ),
        (
            "title: a\n\tfps: 16\n",
            "board.yaml line 2, column 1: found a tab character that violates indentation",
        ),
        (
            "title: a\nfps: 16\ntitle: b\n",
            "board.yaml line 3, column 1: the field 'title' is given twice",
        ),
        ("title: a\n3: b\n", "board.yaml line 2, column 1: a field's name must be text"),
        ("? [a, b]\n: c\n", "board.yaml line 1, column 3: a field's name must be text"),
        ("a: 1\n---\nb: 2\n", "board.yaml line 2, column 1: but found another document"),
        (
            "title: !!python/object/apply:os.system [ls]",
            "board.yaml line 1, column 8: could not "
            "determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
        ),
        ("a: !!bool maybe", "board.yaml line 1, column 4: 'maybe' is no bool"),
        ("a: !!float 1:30", "board.yaml line 1, column 4: '1:30' is no float"),
        (
            "a: !!timestamp foo",
            "board.yaml line 1, column 4: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:timestamp'",
        ),
        ("a: !!map foo", "board.yaml line 1, column 4: a mapping is expected"),
        ("[" * 5000, "board.yaml is nested too deeply"),
        ("[" * 1_000_000, "board.yaml is nested too deeply"),
        ("{a: " * 200_000, "board.yaml is nested too deeply"),
        ("- " * 500_000, "board.yaml is nested too deeply"),
        ("seed: " + "9" * 5000, "board.yaml holds a number that is too long"),
        (
            "a: \x07",
            "board.yaml holds a character that YAML forbids, control characters are not allowed",
        ),
        ("# " + "x" * (1 << 20), "board.yaml is larger than 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_yaml(text: str, fault: str, asset_folder: Path) -> None:
    assert errors_of_file(text, asset_folder) == [fault]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"title": "a",}', "board.json line 1, column 15: "),
        ('{"title": "a", "title": "b"}', "board.json the field 'title' is given twice"),
        ("[" * 100_000, "board.json is nested too deeply"),
        ('{"seed": ' + "9" * 5000 + "}", "board.json holds a number that is too long"),
    ],
)
def test_a_file_that_is_no_json(text: str, fault: str, asset_folder: Path) -> None:
    told = errors_of_file(text, asset_folder, "board.json")
    assert len(told) == 1
    assert told[0].startswith(fault)


def test_a_file_that_cannot_be_read(asset_folder: Path) -> None:
    (asset_folder / "latin.yaml").write_bytes("title: Café".encode("latin-1"))
    for name, fault in {
        "gone.yaml": "gone.yaml cannot be read: No such file or directory",
        "latin.yaml": "latin.yaml is not UTF-8 text, from byte 10 on",
        ".": " cannot be read: Is a directory",
    }.items():
        with pytest.raises(StoryboardError) as caught:
            storyboard.load(asset_folder / name)
        assert str(caught.value).endswith(fault)


def test_scalars_are_read_as_they_look(asset_folder: Path) -> None:
    # YAML 1.1 would make these false, ninety, eight, and a date.
    text = "title: no\nfps: 1e1\nsize: 128x80\nseed: 010\nnegative_prompt: 2024-01-01\n"
    (asset_folder / "board.yaml").write_text(text + "shots: [{duration: 1, prompts: 1:30}]")
    read = storyboard.load(asset_folder / "board.yaml")
    assert (read.title, read.fps, read.seed) == ("no", Fraction(10), 10)
    assert read.negative_prompt == "2024-01-01"
    assert read.shots[0].prompts[0].text == "1:30"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("yes", "on", "Off", "y", "1:20", "2024-01-01", "1_000", "0b1")),
        *((text, text) for text in ("<<", "=", "tRUE", "-0o7", ".", "1e", "0o8", "nan", "inf")),
        *((text, None) for text in ("", "~", "null", "Null", "NULL", "!!null ''")),
        *((text, True) for text in ("true", "True", "TRUE", "!!bool true")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *((text, 17) for text in ("17", "+17", "017", "0o21", "0x11", "!!int '17'")),
        *((text, 0.5) for text in (".5", "+.5", "0.5", "5e-1", "5E-1", "50.e-2")),
        *((text, float("inf")) for text in (".inf", ".Inf", "+.INF")),
        ("-.inf", float("-inf")),
        ("1.", 1.0),
        ("!!float 1", 1.0),
        ("!!str 17", "17"),
        ("'17'", "17"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    read: Any = yaml_loader.parse(f"- {text}\n- a", Path("t.yaml"))
    assert read == [value, "a"]
    assert type(read[0]) is type(value)


def test_not_a_number_is_read() -> None:
    read: Any = yaml_loader.parse("[.nan]", Path("t.yaml"))
    assert math.isnan(read[0])


def test_every_double_field_and_unknown_tag_is_told_at_once(asset_folder: Path) -> None:
    text = "title: !a t\nfps: 16\nshots:\n- {duration: 1, duration: 2, seed: !!set {x}}\nfps: 17\n"
    tag = "could not determine a constructor for the tag"
    assert errors_of_file(text, asset_folder) == [
        f"board.yaml line 1, column 8: {tag} '!a'",
        "board.yaml line 4, column 17: the field 'duration' is given twice",
        f"board.yaml line 4, column 36: {tag} 'tag:yaml.org,2002:set'",
        "board.yaml line 5, column 1: the field 'fps' is given twice",
    ]


def test_there_are_no_merge_keys(asset_folder: Path) -> None:
    text = "title: t\nfps: 16\nsize: 128x80\nshots:\n- &a {duration: 2}\n- {<<: *a, duration: 1}\n"
    (fault,) = errors_of_file(text, asset_folder)
    assert fault.startswith("shots[1].<< is no field of a shot; there are ")


def test_a_file_is_read_by_the_parser_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML's own parser takes seven seconds for a file of a megabyte."""

    def refuse(*_: object) -> None:
        raise AssertionError("the slow parser")

    monkeypatch.setattr("yaml.scanner.Scanner.fetch_more_tokens", refuse)
    monkeypatch.setattr("yaml.parser.Parser.__init__", refuse)
    with pytest.raises(AssertionError, match="the slow parser"):
        yaml.safe_load("title: t")
    assert yaml_loader.parse("title: t", Path("t.yaml")) == {"title": "t"}


def test_conditions_repeated_by_aliases_are_all_checked(asset_folder: Path) -> None:
    stills = ", ".join(["&k {image: gone.png, at: 0}"] + ["*k"] * 199)
    shots = ", ".join([f"&s {{duration: 1, keyframes: [{stills}]}}"] + ["*s"] * 199)
    found = errors_of_file(f"title: t\nfps: 16\nsize: 128x80\nshots: [{shots}]", asset_folder)
    assert len(found) == 200 * 200


def test_aliases_that_multiply_are_cut_off(asset_folder: Path) -> None:
    lines = ["a: &a0 [x]"] + [f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]" for n in range(12)]
    told = errors_of_file("\n".join(lines), asset_folder)
    assert (
        "a is no field of a storyboard; there are title, fps, size, upscale, seed, "
        "negative_prompt, sampler, shots" in told
    )
    assert errors_of_file("a: &a [*a]\nshots: &s [{duration: 1, keyframes: *s}]", asset_folder)
