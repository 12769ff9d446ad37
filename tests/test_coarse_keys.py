"""Keys of a take that is rendered coarse first: golden ones, and what they hold.

A key holds the key before it, so the last key of a chain stands for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest

from dreamontage.planning import segment_keys
from dreamontage.planning.coarse import CoarseLevel, coarse_level
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segment_keys import RenderSettings, base_keys, coarse_level_keys
from dreamontage.planning.segments import ShotPlan, plan_shot
from dreamontage.storyboard import PromptSpan, Shot, Size
from dreamontage.storyboard.placement import Placed

PLACED = [
    Placed(index=0, kind="keyframe", frame=0, frames=1),
    Placed(index=1, kind="clip", frame=69, frames=20),
    Placed(index=2, kind="keyframe", frame=157, frames=1),
]
DIGESTS = ("d" * 64, "e" * 64, "f" * 64)
SETTINGS = RenderSettings(
    revision="r",
    machine="cpu",
    sampler={"steps": 8, "guidance": 3.0, "image_guidance": 1.5},
    negative_prompt="grey",
)
SIZE = Size(width=128, height=80)


@dataclass(frozen=True, kw_only=True)
class CoarseTake:
    """What the keys of both levels are made of."""

    stride: int = 4
    loop: bool = False
    draft: str | None = None
    animatic: str | None = None
    digests: tuple[str, ...] = DIGESTS

    @property
    def conditions(self) -> list[Placed]:
        # On a loop's last latent nothing can be given.
        return PLACED[:2] if self.loop else PLACED

    def level(self) -> CoarseLevel:
        return coarse_level(
            self.stride,
            frames=160,
            fps=Fraction(16),
            prompts=[PromptSpan(text="zoom in")],
            conditions=self.conditions,
            seed=3,
            geometry=Geometry(window_latents=5, tail_latents=1),
            loop=self.loop,
        )

    def plan(self) -> ShotPlan:
        return plan_shot(
            frames=160,
            fps=Fraction(16),
            prompts=[PromptSpan(text="zoom in")],
            conditions=self.conditions,
            seed=3,
            geometry=Geometry(window_latents=5, tail_latents=1),
            loop=self.loop,
        )

    def keys(self) -> tuple[list[str], list[str]]:
        """Those of the coarse level, and those of the shot."""
        shot = Shot(duration=Fraction(10), loop=self.loop, draft=self.draft)
        level = self.level()
        coarse = coarse_level_keys(
            level,
            shot,
            settings=SETTINGS,
            size=SIZE,
            digests=self.digests,
            animatic=self.animatic,
        )
        fine = base_keys(
            self.plan(),
            shot,
            settings=SETTINGS,
            size=SIZE,
            placed=self.conditions,
            digests=self.digests,
            animatic=self.animatic,
            coarse=(level, coarse),
        )
        return coarse, fine


GOLDEN: dict[str, tuple[CoarseTake, str, str]] = {
    "stride 4": (
        CoarseTake(),
        "113a70e773c9770f427f262f037ba539ca8a8acb825c42f3eb51cd134ff46e7d",
        "e56b096b9f2625dae62a47a6eb9357e50fe92acef8b8713ed8b94c0533b1a61f",
    ),
    "stride 8": (
        CoarseTake(stride=8),
        "cc09c89bb42fc6156420248daf5722ae01fb41058b4c56650d14ad227be737f7",
        "f9f0f30fe4f4d9121aaf3d86979a35938b8d90636d9c0d2430774ebffe1df377",
    ),
    "loop": (
        CoarseTake(loop=True),
        "6b7d03ead1c943d8636fae70dfd85809e75b707d086c2091dd736db8c7d98366",
        "9360f2a62f3d45f6cd0d368380bd92edc2f682d270361badd772de61a9164f80",
    ),
    "automatic draft": (
        CoarseTake(draft="auto"),
        "4a318874d6b7281d8d5f69abc55e2e1eb685ecebb0ad8b1e50e84ded73990f34",
        "3ba583ce118bbd8d7aa7f26827a5c7a2ad886c272198d3b0256eda9f9746957c",
    ),
    "animatic": (
        CoarseTake(draft="a.mp4", animatic="3" * 64),
        "a3540e33bcbb889924d14b20d033a67a059ad40dcd0eea46e7daa0401737a465",
        "aa42642eae8eec62600c6d35b00b8099f3c8207a14d9e3ec5881e1925af4f7ad",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_golden_keys_of_a_coarse_take(name: str) -> None:
    """Another value means that every such take, everywhere, is rendered again."""
    take, coarse, fine = GOLDEN[name]
    levels = take.keys()
    assert tuple(each[-1] for each in levels) == (coarse, fine)


def test_what_changes_the_coarse_film_changes_the_segments_refined_from_it() -> None:
    takes = [take for take, _, _ in GOLDEN.values()]
    takes += [CoarseTake(stride=2), CoarseTake(digests=("c" * 64, *DIGESTS[1:]))]
    found = [take.keys() for take in takes]
    assert len({coarse[-1] for coarse, _ in found}) == len(takes)
    assert len({fine[-1] for _, fine in found}) == len(takes)


def test_a_segment_names_the_coarse_segments_before_its_end() -> None:
    """A change of the last coarse segment leaves all segments that end before it begins."""
    take = CoarseTake()
    level, plan = take.level(), take.plan()
    coarse, _ = take.keys()
    other = [*coarse[:-1], "0" * 64]

    def described(keys: list[str]) -> list[object]:
        return [segment_keys.coarse_key(each, level, keys) for each in plan.segments]

    begin = 4 * (level.plan.segments[-1].start - 1) * level.stride
    same = [one == two for one, two in zip(described(coarse), described(other), strict=True)]
    assert same == sorted(same, reverse=True)
    assert not same[-1]
    for segment, unchanged in zip(plan.segments, same, strict=True):
        if 4 * segment.stop < begin:
            assert unchanged, segment


def test_a_coarse_keyframe_has_the_key_of_its_rendition_and_a_coarse_clip_its_own() -> None:
    """The clip's frames at one stride are not those at another."""
    level = CoarseTake().level()
    shifted = replace(
        level,
        conditions=tuple(
            replace(each, offsets=tuple(offset + 1 for offset in each.offsets))
            if each.placed.kind == "clip"
            else each
            for each in level.conditions
        ),
    )
    shot = Shot(duration=Fraction(10))

    def keys_of(one: CoarseLevel) -> list[str]:
        return coarse_level_keys(
            one, shot, settings=SETTINGS, size=SIZE, digests=DIGESTS, animatic=None
        )

    mine, theirs = keys_of(level), keys_of(shifted)
    assert mine[0] == theirs[0], "no clip in the first window"
    assert mine[-1] != theirs[-1]
