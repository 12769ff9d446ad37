"""A key changes with everything that determines a segment's latents, and with nothing else."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import unicodedata
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from dreamontage.digests import digest
from dreamontage.pipeline.upscale import Upscaler
from dreamontage.planning import keys
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segment_keys import RenderSettings, base_keys, upscale_keys
from dreamontage.planning.segments import Segment, ShotPlan, plan_shot
from dreamontage.storyboard import PromptSpan, Shot, Size
from dreamontage.storyboard.placement import Placed

FIRST = Segment(index=0, start=0, stop=9, tail=0, prompt="a man walks", conditions=(0, 1), seed=11)
SECOND = replace(FIRST, index=1, start=7, stop=16, tail=2, conditions=(1,), seed=12)
PLACED = [
    Placed(index=0, kind="keyframe", frame=0, frames=1),
    Placed(index=1, kind="clip", frame=28, frames=20),
]
DIGESTS = ["d" * 64, "e" * 64]
INPUT: dict[str, Any] = {
    "model_revision": "nano-1",
    "machine": "cpu float32",
    "segment": FIRST,
    "conditions": keys.window_conditions(FIRST, PLACED, DIGESTS),
    "width": 128,
    "height": 80,
    "negative_prompt": "text",
    "sampler": {"name": "unipc", "steps": 4, "guidance": 3.0},
    "previous": None,
}
GOLDEN = "1df9a2fa283e571d0eed67ac6217a654f7d47d0c4fba8adbde7cf2f420384ee2"


def key(**changes: Any) -> str:
    return keys.segment_key(**{**INPUT, **changes})


def second(**changes: Any) -> str:
    return key(**{"segment": SECOND, "previous": "p" * 64, **changes})


def conditions(**changes: Any) -> list[dict[str, object]]:
    first, *rest = INPUT["conditions"]
    return [{**first, **changes}, *rest]


def test_the_golden_key() -> None:
    """Another value means that every finished segment, everywhere, is rendered again."""
    assert key() == GOLDEN


def test_a_key_is_the_same_in_another_process() -> None:
    code = (
        "from tests import test_keys; import sys; sys.stdout.write(test_keys.key());"
        "assert 'torch' not in sys.modules"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "5"},
    )
    assert found.stdout == key()


CHANGES: dict[str, dict[str, Any]] = {
    "model": {"model_revision": "nano-2"},
    "machine": {"machine": "cuda bfloat16"},
    "prompt": {"segment": replace(FIRST, prompt="a man runs")},
    "seed": {"segment": replace(FIRST, seed=12)},
    "length": {"segment": replace(FIRST, stop=8)},
    "width": {"width": 144},
    "height": {"height": 96},
    "negative prompt": {"negative_prompt": ""},
    "sampler": {"sampler": {"name": "euler", "steps": 4, "guidance": 3.0}},
    "steps": {"sampler": {"name": "unipc", "steps": 5, "guidance": 3.0}},
    "guidance": {"sampler": {"name": "unipc", "steps": 4, "guidance": 3.5}},
    "kind": {"conditions": conditions(kind="clip")},
    "content": {"conditions": conditions(digest="c" * 64)},
    "place": {"conditions": conditions(frame=1)},
    "frames": {"conditions": conditions(frames=2)},
    "one less": {"conditions": INPUT["conditions"][1:]},
    "one twice": {"conditions": [*INPUT["conditions"], INPUT["conditions"][0]]},
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_determining_input_changes_the_key(change: str) -> None:
    assert key(**CHANGES[change]) != key()


def test_all_of_these_keys_differ_from_each_other() -> None:
    found = [
        key(),
        second(),
        second(previous="q" * 64),
        *(key(**each) for each in CHANGES.values()),
    ]
    found.append(second(segment=replace(SECOND, start=6, tail=3)))
    assert len(set(found)) == len(found)


def test_a_windows_position_does_not_change_the_key() -> None:
    later = replace(SECOND, index=5, start=47, stop=56, conditions=(0,))
    assert second(segment=later) == second()


def test_the_order_of_conditions_does_not_change_the_key() -> None:
    assert key(conditions=INPUT["conditions"][::-1]) == key()


def test_equal_numbers_and_equal_text_give_equal_keys() -> None:
    assert key(sampler={"guidance": 3, "steps": 4.0, "name": "unipc"}) == key()
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    assert composed != decomposed
    assert key(negative_prompt=composed) == key(negative_prompt=decomposed)


def test_conditions_in_a_key_count_from_their_window() -> None:
    # Latent 7 begins with frame 25.
    assert keys.window_conditions(SECOND, PLACED, DIGESTS) == [
        {"kind": "clip", "digest": "e" * 64, "frame": 3, "frames": 20}
    ]
    late = replace(SECOND, start=9, stop=18)
    assert keys.window_conditions(late, PLACED, DIGESTS)[0]["frame"] == -5


def test_two_storyboards_that_share_their_start_share_its_keys() -> None:
    def chain(frames: int, last: str) -> list[str]:
        placed = [
            Placed(index=0, kind="keyframe", frame=0, frames=1),
            Placed(index=1, kind="keyframe", frame=frames - 1, frames=1),
        ]
        plan = plan_shot(
            frames=frames,
            fps=Fraction(16),
            prompts=[PromptSpan(text="zoom in")],
            conditions=placed,
            seed=3,
            geometry=Geometry(window_latents=9, tail_latents=2),
        )
        found: list[str] = []
        for segment in plan.segments:
            found.append(
                key(
                    segment=segment,
                    conditions=keys.window_conditions(segment, placed, ["d" * 64, last]),
                    previous=found[-1] if found else None,
                )
            )
        return found

    uk, de = chain(160, "1" * 64), chain(160, "2" * 64)
    assert len(uk) > 4
    assert [one == other for one, other in zip(uk, de, strict=True)] == [True] * (len(uk) - 1) + [
        False
    ]
    assert chain(200, "1" * 64)[:3] == uk[:3]


UPSCALER = {
    "scale": 2.0,
    "tile_latents": [60, 104],
    "overlap_latents": 16,
    "strength": 0.7,
    "shared_rope": True,
}
REFINED: dict[str, Any] = {
    "model_revision": "nano-sr-1",
    "machine": "cpu float32",
    "segment": SECOND,
    "conditions": keys.window_conditions(SECOND, PLACED, DIGESTS),
    "width": 256,
    "height": 160,
    "negative_prompt": "text",
    "sampler": {"steps": 8, "guidance": 3.0},
    "upscaler": UPSCALER,
    "seed": 5,
    "film": ["f" * 64, "0" * 64],
    "previous": "p" * 64,
    "head": None,
}
GOLDEN_REFINED = "ef8dd703afe419e304c81de9a652474197fe750e64c1b3201d542111d4fce929"


def refined(**changes: Any) -> str:
    return keys.upscale_key(**{**REFINED, **changes})


def test_the_golden_key_of_a_refined_segment() -> None:
    assert refined() == GOLDEN_REFINED


def test_every_determining_input_changes_a_refined_segments_key() -> None:
    """Its place in the shot too, unlike a base segment's: a latent's noise comes from it."""
    first, *rest = REFINED["conditions"]
    changes: list[dict[str, Any]] = [
        {"model_revision": "nano-sr-2"},
        {"machine": "cuda bfloat16"},
        {"segment": replace(SECOND, prompt="a man runs")},
        {"segment": replace(SECOND, stop=15)},
        {"segment": replace(SECOND, start=8, stop=17)},
        {"segment": replace(SECOND, start=6, tail=3)},
        {"width": 288},
        {"height": 180},
        {"negative_prompt": ""},
        {"sampler": {"steps": 7, "guidance": 3.0}},
        {"sampler": {"steps": 8, "guidance": 2.0}},
        *({"upscaler": UPSCALER | {name: value}} for name, value in OTHER_UPSCALER.items()),
        {"seed": 6},
        {"film": ["f" * 64]},
        {"film": ["f" * 64, "1" * 64]},
        {"film": ["0" * 64, "f" * 64]},
        {"previous": "q" * 64},
        {"segment": replace(SECOND, head=2), "head": "h" * 64},
        {"segment": replace(SECOND, head=3), "head": "h" * 64},
        {"segment": replace(SECOND, head=2), "head": "i" * 64},
        {"conditions": [{**first, "digest": "c" * 64}, *rest]},
        {"conditions": [{**first, "frame": 4}, *rest]},
        {"conditions": []},
    ]
    found = [refined(), second(), *(refined(**each) for each in changes)]
    assert len(set(found)) == len(found)
    # The segment's own seed is the base model's affair.
    assert refined(segment=replace(SECOND, seed=99)) == refined()


def test_the_order_of_conditions_does_not_change_a_refined_segments_key() -> None:
    first = REFINED["conditions"][0]
    two = [first, {**first, "kind": "keyframe", "frames": 1}]
    assert refined(conditions=two) == refined(conditions=two[::-1])


OTHER_UPSCALER: dict[str, Any] = {
    "scale": 1.5,
    "tile_latents": [60, 60],
    "overlap_latents": 8,
    "strength": 0.6,
    "shared_rope": False,
}


def test_a_refined_segment_holds_the_base_segments_up_to_its_end() -> None:
    """A causal decode depends on all that comes before, and on nothing that comes after."""

    def chain(upscaler: Upscaler, last: str) -> tuple[list[str], list[str]]:
        placed = [
            Placed(index=0, kind="keyframe", frame=0, frames=1),
            Placed(index=1, kind="keyframe", frame=159, frames=1),
        ]
        digests = ["d" * 64, last]

        def plan(window: int) -> ShotPlan:
            return plan_shot(
                frames=160,
                fps=Fraction(16),
                prompts=[PromptSpan(text="zoom in")],
                conditions=placed,
                seed=3,
                geometry=Geometry(window_latents=window, tail_latents=2),
            )

        settings = RenderSettings(
            revision="r", machine="cpu", sampler={"steps": 8, "guidance": 1.0}, negative_prompt=""
        )
        size = Size(width=128, height=80)
        base, larger = plan(9), plan(7)
        own = base_keys(
            base,
            Shot(duration=Fraction(10)),
            settings=settings,
            size=size,
            placed=placed,
            digests=digests,
            animatic=None,
        )
        large = upscale_keys(
            larger,
            settings=settings,
            upscaler=upscaler,
            size=size.times(upscaler.scale),
            seed=3,
            placed=placed,
            digests=["t" * 64, last[::-1]],
            base=list(zip(base.segments, own, strict=True)),
        )
        return own, large

    uk, de = (chain(Upscaler(scale=2.0), name * 64) for name in "12")
    for one, other in zip(uk, de, strict=True):
        shared = [mine == theirs for mine, theirs in zip(one, other, strict=True)]
        assert shared == sorted(shared, reverse=True)
        assert sum(shared) >= len(shared) - 2 > 2
        assert not shared[-1]
    small, large = chain(Upscaler(scale=1.5), "1" * 64)
    assert small == uk[0]
    assert not set(large) & set(uk[1])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ([1, 2], (1, 2)),
        (5, 5.0),
        (0.0, -0.0),
        ("é", "e\u0301"),
        ({"é": 1}, {"e\u0301": 1}),
    ],
)
def test_values_that_mean_the_same_have_one_digest(one: object, other: object) -> None:
    assert digest(one) == digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (0, False),
        ("1", 1),
        ([], {}),
        (None, ""),
        (0.1, 0.1 + 2e-17),
        ([[1], 2], [1, [2]]),
    ],
)
def test_values_that_differ_have_two(one: object, other: object) -> None:
    assert (digest(one) == digest(other)) is (one == other and type(one) is type(other))


def test_what_has_no_canonical_form_is_refused() -> None:
    for value in (float("nan"), float("inf"), {"é": 1, "e\u0301": 2}):
        with pytest.raises(ValueError, match=r"no canonical form|is given twice"):
            digest(value)
    for foreign in (b"x", {1: 2}, {1, 2}, Fraction(1, 2)):
        with pytest.raises(TypeError):
            digest(foreign)


def test_the_digest_is_of_plain_json() -> None:
    text = json.dumps({"a": [1, 2.5, "é", None, True]}, sort_keys=True, separators=(",", ":"))

    assert digest({"a": (1, 2.5, "é", None, True)}) == hashlib.sha256(text.encode()).hexdigest()
