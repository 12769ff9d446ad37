"""A matrix of variants is many storyboards, each checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamontage import storyboard
from dreamontage.storyboard import variants
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.variants import Variant

DATA: dict[str, Any] = {
    "title": "t",
    "fps": 16,
    "size": "128x80",
    "shots": [
        {
            "duration": 5,
            "prompts": "[0, 2] a; [2, 5] b",
            "keyframes": [{"image": "a.png", "at": 0}, {"image": "a.png", "at": 5}],
        },
        {"duration": 1},
    ],
}


def matrix(text: str, asset_folder: Path) -> list[Variant]:
    (asset_folder / "matrix.yaml").write_text(text)
    return variants.load_matrix(asset_folder / "matrix.yaml")


def matrix_faults(text: str, asset_folder: Path) -> list[str]:
    with pytest.raises(StoryboardError) as caught:
        matrix(text, asset_folder)
    return [str(field_error) for field_error in caught.value.errors]


def apply_faults(asset_folder: Path, *found: Variant) -> list[str]:
    with pytest.raises(StoryboardError) as caught:
        variants.apply_all(DATA, found, asset_folder)
    return [str(field_error) for field_error in caught.value.errors]


def test_variants_by_hand_and_by_axes(asset_folder: Path) -> None:
    found = matrix(
        """
        variants:
          - {name: short, set: {"shots[0].duration": 81f}}
        axes:
          market:
            uk: {"shots[0].keyframes[1].image": b.png}
            de: {title: Titel}
          format:
            wide: {}
            tall: {size: 80x128, "shots[1].seed": 3}
        """,
        asset_folder,
    )
    assert found == [
        Variant(name="short", overrides={"shots[0].duration": "81f"}),
        Variant(name="uk-wide", overrides={"shots[0].keyframes[1].image": "b.png"}),
        Variant(
            name="uk-tall",
            overrides={
                "shots[0].keyframes[1].image": "b.png",
                "size": "80x128",
                "shots[1].seed": 3,
            },
        ),
        Variant(name="de-wide", overrides={"title": "Titel"}),
        Variant(
            name="de-tall",
            overrides={"title": "Titel", "size": "80x128", "shots[1].seed": 3},
        ),
    ]


def test_overrides_change_what_they_name_and_nothing_else(asset_folder: Path) -> None:
    plain = storyboard.loads(DATA, asset_folder)
    variant = Variant(
        name="uk",
        overrides={
            "shots[0].keyframes[1].image": "b.png",
            "shots[0].prompts[1].text": "c",
            "size.height": 128,
            "upscale": 1.5,
            "sampler.steps": 3,
            "shots[1].keyframes": [{"image": "b.png", "frame": 2}],
        },
    )
    changed = variants.apply(DATA, variant, asset_folder)
    assert changed.shots[0].keyframes[1].image == "b.png"
    assert [span.text for span in changed.shots[0].prompts] == ["a", "c"]
    assert (changed.size.width, changed.size.height) == (128, 128)
    assert (plain.upscale, changed.upscale, str(changed.target)) == (None, 1.5, "192x192")
    assert changed.sampler.steps == 3
    assert changed.shots[1].keyframes[0].frame == 2
    assert changed.shots[0].keyframes[0] == plain.shots[0].keyframes[0]
    assert variants.apply(DATA, Variant(name="same", overrides={}), asset_folder) == plain


def test_a_variant_does_not_change_the_next(asset_folder: Path) -> None:
    keyframes = [{"image": "a.png", "at": 0}]
    first, second = variants.apply_all(
        DATA,
        [
            Variant(name="one", overrides={"shots[0].keyframes": keyframes, "title": "u"}),
            Variant(name="two", overrides={"shots[1].keyframes": keyframes}),
        ],
        asset_folder,
    )
    assert (first.title, second.title) == ("u", "t")
    assert [len(each.shots[0].keyframes) for each in (first, second)] == [1, 2]


def test_every_error_of_every_variant_is_reported_under_its_name(asset_folder: Path) -> None:
    messages = apply_faults(
        asset_folder,
        Variant(name="uk", overrides={"shots[0].duration": 1, "size": "32x32"}),
        Variant(name="de", overrides={"shots[0].keyframes[0].image": "gone.png"}),
        Variant(name="fr", overrides={"title": "right"}),
    )
    assert messages == [
        "uk: shots[0].keyframes[1].at = 5.0 s lies past the shot's end, 1.0 s",
        "uk: shots[0].prompts[0].end = 2.0 s lies past the shot's end, 1.0 s",
        "uk: shots[0].prompts[1].end = 5.0 s lies past the shot's end, 1.0 s",
        "uk: size.height = 32 must be at least 64",
        "uk: size.width = 32 must be at least 64",
        "de: shots[0].keyframes[0].image = 'gone.png': there is no such file",
    ]


@pytest.mark.parametrize(
    ("path", "field_error"),
    [
        ("titel", "is no field of a storyboard; did you mean `title`?"),
        ("shots[0].keyframes[0].imag", "is no field of a keyframe; did you mean `image`?"),
        ("shots[2].seed", "cannot be set: entry 2 is past the list's last, 1"),
        ("shots[1].keyframes[0].image", "cannot be set: entry 0 is past the list's last, -1"),
        ("shots.seed", "cannot be set: a list has no field 'seed'"),
        ("title.seed", "cannot be set: 't' has no field 'seed'"),
        ("title[0]", "cannot be set: 't' has no entries"),
        ("sampelr.steps", "cannot be set: the storyboard has no 'sampelr' there"),
        ("", "is no path of a field, such as shots[0].duration"),
        ("shots[-1].seed", "is no path of a field, such as shots[0].duration"),
        ("shots[0]seed", "is no path of a field, such as shots[0].duration"),
        ("shots[00].seed", "is no path of a field, such as shots[0].duration"),
        (".title", "is no path of a field, such as shots[0].duration"),
        ("shots..seed", "is no path of a field, such as shots[0].duration"),
    ],
)
def test_a_path_that_leads_nowhere(path: str, field_error: str, asset_folder: Path) -> None:
    assert apply_faults(asset_folder, Variant(name="uk", overrides={path: 1})) == [
        f"uk: {path} {field_error}"
    ]


def test_a_path_inside_another(asset_folder: Path) -> None:
    overrides = {"shots[0]": {"duration": 1}, "shots[0].seed": 1}
    messages = apply_faults(asset_folder, Variant(name="uk", overrides=overrides))
    assert messages == ["uk: shots[0].seed lies inside shots[0], which is set as well"]


def test_an_invalid_storyboard_is_reported_before_its_variants(asset_folder: Path) -> None:
    data = {field: value for field, value in DATA.items() if field != "fps"}
    with pytest.raises(StoryboardError, match=r"^fps is missing$"):
        variants.apply(data, Variant(name="uk", overrides={"title": ""}), asset_folder)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", ["the matrix must be a mapping of fields, not nothing"]),
        ("{}", ["matrix.yaml has 0 variants; there must be 1 to 1000"]),
        (
            "variants: [{name: a b, set: {}}]",
            [
                "variants[0].name = 'a b' must be 1 to 64 letters, digits, dots, dashes and "
                "underscores, starting with a letter or digit: files are named for it"
            ],
        ),
        (
            "variants: [{name: a}, {set: {}, nam: b}]",
            [
                "variants[0].set is missing",
                "variants[1].nam is no field of a variant entry; did you mean `name`?",
                "variants[1].name is missing",
            ],
        ),
        ("variants: [{name: a, set: {}}, {name: A, set: {}}]", ["A is the name of two variants"]),
        ("axes: {m: {}}", ["axes.m must not be empty"]),
        ("axes: {m: [a]}", ["axes.m must be a mapping, not a list"]),
        ("axes: {m: {a: {size: 1}}, n: {b: {size: 2}}}", ["a-b: size is set by two axes"]),
        ("axis: {}", ["axis is no field of a matrix; did you mean `axes`?"]),
        (
            "axes: {" + ", ".join(f"a{n}: {{x: {{}}, y: {{}}}}" for n in range(40)) + "}",
            ["matrix.yaml has 1099511627776 variants; there must be 1 to 1000"],
        ),
        (
            "variants: [",
            ["matrix.yaml line 2, column 1: did not find expected node content"],
        ),
    ],
)
def test_a_matrix_that_is_none(text: str, messages: list[str], asset_folder: Path) -> None:
    assert matrix_faults(text, asset_folder) == messages
