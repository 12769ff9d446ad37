"""Prompts in the paper's notation are read and written as it writes them."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamontage.storyboard import prompt_syntax


def spans(text: str) -> list[tuple[Any, Any, Any]]:
    found, problems = prompt_syntax.parse(text)
    assert problems == []
    return [(each.get("start"), each.get("end"), each["text"]) for each in found]


def test_the_papers_own_example() -> None:
    assert spans("[0, 5] zoom into the eye; [5, 10] the man walks forward") == [
        (0, 5, "zoom into the eye"),
        (5, 10, "the man walks forward"),
    ]


@pytest.mark.parametrize("text", ["[0,5]a;[5,10]b", " [ 0 , 5 ]  a ;\n [5 ,10 ] b ; "])
def test_white_space_is_free(text: str) -> None:
    assert spans(text) == [(0, 5, "a"), (5, 10, "b")]


def test_decimals_are_exact() -> None:
    assert spans("[.5, 2.125] a")[0][:2] == (Decimal("0.5"), Decimal("2.125"))


def test_commas_semicolons_and_brackets_may_stand_in_a_text() -> None:
    text = "[0, 5] a man, tall [in red]; then he waits; [5, 10] he goes"
    assert spans(text) == [
        (0, 5, "a man, tall [in red]; then he waits"),
        (5, 10, "he goes"),
    ]


def test_plain_text_holds_for_the_whole_shot() -> None:
    assert spans("a man; [wide], he walks") == [(None, None, "a man; [wide], he walks")]
    assert spans("  ") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("zoom [0, 5] in", "has text before its first span; start with `[`, or use no spans"),
        ("[0-5] zoom", "= '[0-5] zoom' must start with a span such as [0, 5]"),
        ("[0, 5] a; [-5, 10] b", "= '[-5, 10] b' must start with a span such as [0, 5]"),
        ("[0, 5] a [5, 10] b", "lacks a `;` before '[5, 10]'"),
        ("[0, 5] ; [5, 10] b", "= '[0, 5]' says nothing; leave the span out instead"),
        ("[0, 1e9] a", "= '[0, 1e9] a' must start with a span such as [0, 5]"),
    ],
)
def test_invalid_prompt_syntax_is_reported(text: str, problem: str) -> None:
    assert prompt_syntax.parse(text)[1] == [problem]


def test_every_problem_of_a_text_is_reported() -> None:
    assert len(prompt_syntax.parse("[0, 5]; [five, 10] b; [10, 11] c [11, 12] d")[1]) == 3


def test_times_are_written_without_trailing_zeros() -> None:
    text = prompt_syntax.write(
        [(Fraction(0), Fraction(5, 2), "a"), (Fraction(5, 2), Fraction(29, 16), "b")]
    )
    assert text == "[0, 2.5] a; [2.5, 1.81] b"
    assert prompt_syntax.write([(Fraction(10), Fraction(100), "a")]) == "[10, 100] a"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6),
            st.integers(0, 10**6),
            st.from_regex(r"[a-z][a-z ,.]*[a-z]", fullmatch=True),
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read_again(rows: list[tuple[int, int, str]]) -> None:
    written = prompt_syntax.write(
        [(Fraction(a, 100), Fraction(b, 100), text) for a, b, text in rows]
    )
    assert spans(written) == [(Decimal(a) / 100, Decimal(b) / 100, text) for a, b, text in rows]


@given(st.text(alphabet="[]0159,.; ab", max_size=60))
def test_any_text_is_read_or_reported(text: str) -> None:
    found, problems = prompt_syntax.parse(text)
    assert bool(found or problems) == bool(text.strip())
