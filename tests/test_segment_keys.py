"""Keys of whole takes: golden ones, and what each part of a take does to them.

A key holds the key before it, so the last key of a chain stands for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest

from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segment_keys import (
    RenderSettings,
    base_keys,
    sampler_to_json,
    upscale_keys,
)
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.storyboard import PromptSpan, Shot, Size
from dreamontage.storyboard.placement import Placed

PLACED = [
    Placed(index=0, kind="keyframe", frame=0, frames=1),
    Placed(index=1, kind="clip", frame=69, frames=8),
]
GUIDED = {"steps": 8, "guidance": 3.0, "image_guidance": 1.5}
PLAIN = {"steps": 8, "guidance": 1.0}


SETTINGS = RenderSettings(revision="r", machine="cpu", sampler=GUIDED, negative_prompt="grey")
SIZE = Size(width=128, height=80)


@dataclass(frozen=True, kw_only=True)
class TakeInputs:
    """What the keys of a take are made of."""

    loop: bool = False
    draft: str | None = None
    animatic: str | None = None
    settings: RenderSettings = SETTINGS
    size: Size = SIZE
    seed: int = 4
    scale: float = 2.0
    digests: tuple[str, ...] = ("d" * 64, "e" * 64)
    targets: tuple[str, ...] = ("1" * 64, "2" * 64)

    def plan(self, window: int) -> ShotPlan:
        return plan_shot(
            frames=160 if self.loop else 161,
            fps=Fraction(16),
            prompts=[PromptSpan(text="zoom in")],
            conditions=PLACED,
            seed=3,
            geometry=Geometry(window_latents=window, tail_latents=2),
            loop=self.loop,
        )

    def keys(self) -> tuple[list[str], list[str]]:
        """Those of the base stage, and those of the super-resolution stage."""
        base, larger = self.plan(9), self.plan(7)
        small = base_keys(
            base,
            Shot(duration=Fraction(10), loop=self.loop, draft=self.draft),
            settings=self.settings,
            size=self.size,
            placed=PLACED,
            digests=self.digests,
            animatic=self.animatic,
        )
        large = upscale_keys(
            larger,
            settings=self.settings,
            upscaler=Upscaler(scale=self.scale),
            size=self.size.times(self.scale),
            seed=self.seed,
            placed=PLACED,
            digests=self.targets,
            base=list(zip(base.segments, small, strict=True)),
        )
        return small, large


def with_sampler(sampler: dict[str, float]) -> RenderSettings:
    return replace(SETTINGS, sampler=sampler)


GOLDEN = {
    "plain": (
        TakeInputs(),
        "3d3341083c1643ce23e6b7972ea92fd8fc89aeeb84ce68d44760aa2299f79938",
        "e6e6d89a822f537ad9984dc5f5c36607df436ebf2e03a4a2b55b3f625b82faf1",
    ),
    "loop": (
        TakeInputs(loop=True),
        "260140bc07921bd1bf9cbd1bac214848c74d0ce7096a76592f49d19c44cddf6c",
        "73ce42595c9ea4f6f63846b3688c83eca20e95c60ee98d11b8c0405db909bcaa",
    ),
    "automatic draft, no guidance": (
        TakeInputs(draft="auto", settings=with_sampler(PLAIN)),
        "d7b0387fa2c544cef1ef472effcf79f9da4820c8130dd1fb530b4c2dfbee69fe",
        "ac66bc2f55479e52d2289266aaed6df28850efb33bdbee577ea0cdf9d3ea51f1",
    ),
    "loop from an animatic": (
        TakeInputs(loop=True, draft="a.mp4", animatic="3" * 64),
        "7f18fed3bcd7c788358d31f9a1cf1d4da741a77bfb52a278dcc8715674be5e3d",
        "a348c20546f31701e1eb8c11a58871b52b80f1d257eb8670db63a89874673382",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_keys_of_a_take(name: str) -> None:
    """Another value means that every such take, everywhere, is rendered again."""
    inputs, base, upscaled = GOLDEN[name]
    small, large = inputs.keys()
    assert (small[-1], large[-1]) == (base, upscaled)


def test_each_input_changes_the_keys_of_the_stages_that_it_is_for() -> None:
    small, large = TakeInputs().keys()
    both = [
        TakeInputs(settings=replace(SETTINGS, revision="s")),
        TakeInputs(settings=replace(SETTINGS, machine="cuda")),
        TakeInputs(settings=replace(SETTINGS, negative_prompt="blue")),
        TakeInputs(settings=with_sampler(GUIDED | {"steps": 9})),
        TakeInputs(settings=with_sampler(GUIDED | {"image_guidance": 2.0})),
        TakeInputs(size=Size(width=144, height=80)),
        TakeInputs(size=Size(width=128, height=96)),
        TakeInputs(digests=("c" * 64, "e" * 64)),
    ]
    for inputs in both:
        base, upscaled = inputs.keys()
        assert base[0] != small[0]
        assert upscaled[0] != large[0]
    for inputs in (TakeInputs(seed=5), TakeInputs(scale=1.5), TakeInputs(targets=("3" * 64,) * 2)):
        base, upscaled = inputs.keys()
        assert base == small
        assert upscaled[0] != large[0]


def test_image_guidance_is_in_the_keys_of_segments_with_conditions_alone() -> None:
    first, second, *_ = TakeInputs().plan(9).segments
    assert (first.has_image_condition, second.has_image_condition) == (True, False)
    assert SETTINGS.sampler_for(first) == GUIDED
    assert SETTINGS.sampler_for(second) == {"steps": 8, "guidance": 3.0}


def test_a_sampler_names_image_guidance_only_where_it_does_something() -> None:
    assert sampler_to_json(steps=8, guidance=3.0, image_guidance=1.0) == {
        "steps": 8,
        "guidance": 3.0,
    }
    assert sampler_to_json(steps=8, guidance=3.0, image_guidance=1.5) == GUIDED


def test_a_large_segment_holds_the_small_segments_that_begin_before_its_end() -> None:
    """A window of latents 0 to 6 needs nothing of the small segment that begins with latent 7."""
    base, larger = TakeInputs().plan(9), TakeInputs().plan(7)
    assert base.segments[1].start == larger.segments[0].stop == 7

    def first_key(others: str) -> str:
        return upscale_keys(
            larger,
            settings=SETTINGS,
            upscaler=Upscaler(scale=2.0),
            size=Size(width=256, height=160),
            seed=4,
            placed=PLACED,
            digests=TakeInputs().targets,
            base=[(each, "b" * 64 if each.index == 0 else others * 64) for each in base.segments],
        )[0]

    assert first_key("0") == first_key("1")


def test_without_guidance_the_negative_prompt_is_in_no_key() -> None:
    plain = with_sampler(PLAIN)
    other = replace(plain, negative_prompt="blue")
    assert TakeInputs(settings=plain).keys() == TakeInputs(settings=other).keys()
