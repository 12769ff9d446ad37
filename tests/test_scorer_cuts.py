"""The gate finds abrupt cuts, wherever they are and however a codec smears them, and no others."""

from __future__ import annotations

import numpy as np
import pytest

from dreamontage.scorer.cuts import CutMetric, find_cuts
from tests.support.scorer_films import (
    Pixels,
    barely_trained,
    brightened,
    camera,
    dissolve,
    held,
    noisy,
    pan,
    through_codec,
    watched,
    world,
)

LOOKS = {"colourful": {}, "pale": {"colour": 0.3}, "fog": {"contrast": 0.3, "colour": 0.3}}


def cuts(frames_THWC: Pixels) -> tuple[int, int | None]:
    scores = watched(CutMetric, frames_THWC)
    assert (scores["cut_strength"].value > 0) is (scores["cuts"].value > 0)
    return int(scores["cuts"].value), scores["cuts"].frame


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_one_shots_have_no_cut(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    shot = camera(scene, 49)
    whip = camera(scene, 17, start=(0.2, 0.4, 1.0), stop=(0.8, 0.6, 1.0))
    for film in (
        shot,
        camera(scene, 49, eased=True),
        camera(scene, 49, start=(0.5, 0.5, 0.8), stop=(0.4, 0.5, 3.0)),
        whip,
        through_codec(whip),
        np.concatenate([held(shot[0], 20), shot[:20]]),
        held(shot[0], 20),
        noisy(shot, 8),
        through_codec(shot),
        barely_trained(shot),
        shot[:1],
        shot[:2],
    ):
        assert cuts(film) == (0, None)


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_a_hard_cut_is_found_to_the_frame(seed: int, look: str) -> None:
    shot, other = (pan(each, 49, **LOOKS[look]) for each in (seed, seed + 50))
    for at in (1, 2, 3, 24, 46, 47, 48):
        assert cuts(np.concatenate([shot[:at], other[: 49 - at]])) == (1, at)
    middle = np.concatenate([shot[:25], other[:24]])
    if look != "fog":  # where swimming blocks are as strong as the cut
        assert cuts(barely_trained(middle)) == (1, 25)
    # Frame 25 begins a latent, so the codec keeps the cut sharp.
    assert cuts(through_codec(middle)) == (1, 25)
    assert cuts(np.concatenate([held(shot[0], 30), held(other[0], 1)])) == (1, 30)


@pytest.mark.parametrize("look", LOOKS)
def test_a_cut_smeared_over_a_latent_is_one_cut(look: str) -> None:
    shot, other = (pan(each, 81, **LOOKS[look])[:49] for each in (0, 50))
    for smear in (1, 2, 3, 4):
        between = dissolve(shot[24], other[0], smear + 2)[1:-1]
        count, frame = cuts(np.concatenate([shot[:24], between, other[:24]]))
        assert count == 1
        assert frame in range(24, 24 + smear + 4)
    # A cut in the middle of a latent comes out of the codec as a smear.
    count, _ = cuts(through_codec(np.concatenate([shot[:27], other[:22]])))
    assert count == 1


def test_a_flash_is_one_cut() -> None:
    film = pan(0, 49)
    film[24] = brightened(film[24:25], 90)[0]
    count, frame = cuts(film)
    assert count == 1
    assert frame in (24, 25)


def test_a_long_dissolve_is_no_cut() -> None:
    """Known: `dissolve` sees it."""
    assert cuts(dissolve(pan(0, 1)[0], pan(50, 1)[0], 33)) == (0, None)


def test_every_cut_is_listed_with_its_time() -> None:
    scenes = [pan(seed, 49)[:16] for seed in (0, 50, 1)]
    scores = watched(CutMetric, np.concatenate(scenes))
    assert scores["cuts"].value == 2
    times = [entry.split(":")[0] for entry in scores["cuts"].detail.split("; ")]
    assert times == ["1.00 s", "2.00 s"]
    assert scores["cut_strength"].value > 30


def test_pulses_of_a_codec_are_no_cuts() -> None:
    pulsing = [0.0] + [30.0 if frame % 4 == 1 else 2.0 for frame in range(1, 41)]
    quiet = [0.0] + [2.0] * 40
    far = [0.0] * 4 + [10.0] * 37
    assert find_cuts(pulsing, far) == {}
    assert find_cuts([*quiet[:21], 30.0, *quiet[22:]], far) == {21: 30.0}
