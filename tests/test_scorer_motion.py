"""The gate feels what no subject does, and sees colours creep away; camera moves are neither."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dreamontage.scorer import DEFAULT_THRESHOLDS, Mark, Score
from dreamontage.scorer.drift import strays
from dreamontage.scorer.measures import flow_metrics
from dreamontage.training.synthetic import motion_faults, worlds
from dreamontage.training.synthetic.motion_faults import MotionFault
from tests.support.scorer_films import (
    Pixels,
    barely_trained,
    camera,
    ends,
    held,
    still,
    through_codec,
    watched,
    world,
)

LOOKS = {"colourful": {}, "pale": {"colour": 0.3}, "fog": {"contrast": 0.3, "colour": 0.3}}


def limit(name: str) -> float:
    (threshold,) = (each for each in DEFAULT_THRESHOLDS if each.name == name)
    assert threshold.review_above is not None
    return threshold.review_above


def scores(frames_THWC: Pixels, *marks: Mark) -> dict[str, Score]:
    return watched(flow_metrics, frames_THWC, marks=marks)


def jolt(frames_THWC: Pixels) -> Score:
    return scores(frames_THWC)["motion_jolt"]


def drift(frames_THWC: Pixels, *marks: Mark) -> Score:
    return scores(frames_THWC, *marks)["colour_drift"]


def saturated(frames_THWC: Pixels, factors_T: np.ndarray) -> Pixels:
    grey = frames_THWC.mean(axis=3, keepdims=True)
    out = grey + (frames_THWC - grey) * factors_T[:, None, None, None]
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_camera_moves_are_smooth_and_keep_their_colours(seed: int, look: str) -> None:
    scene = world(seed, **LOOKS[look])
    shot = camera(scene, 81)
    whip = camera(scene, 33, start=(0.2, 0.4, 1.0), stop=(0.8, 0.6, 1.0))
    zoom = camera(scene, 81, start=(0.5, 0.5, 0.8), stop=(0.4, 0.5, 3.0))
    for film in (shot, camera(scene, 81, eased=True), zoom, whip, held(shot[0], 33)):
        for seen in (film, through_codec(film), barely_trained(film)):
            found = scores(seen)
            assert found["motion_jolt"].value < 0.5 * limit("motion_jolt")
            assert found["colour_drift"].value < limit("colour_drift")
    assert scores(shot[:1])["motion_jolt"].value == 1
    assert scores(shot[:2])["colour_drift"].frame in (None, 1)


@pytest.mark.parametrize("kind", motion_faults.KINDS)
def test_a_motion_fault_is_measured_at_its_frame(kind: MotionFault) -> None:
    clips, _, _ = worlds.clips(31, 8, frames=33, height=80, width=128)
    made = motion_faults.add_motion_fault(
        clips,
        clips.roll(1, 0),
        generator=torch.Generator().manual_seed(4),
        levels_B=torch.full((8,), 4),
        kinds=[kind],
    )

    def pixels(clip_CTHW: torch.Tensor) -> Pixels:
        return ((clip_CTHW.movedim(0, -1) + 1) * 127.5).round().to(torch.uint8).numpy()

    right = [jolt(pixels(clip)) for clip in made.clean_BCTHW]
    wrong = [jolt(pixels(clip)) for clip in made.clips_BCTHW]
    higher = [b.value > 1.3 * a.value for a, b in zip(right, wrong, strict=True)]
    assert sum(higher) >= 6
    near = [
        bool(where_T[max(0, score.frame - 2) : score.frame + 3].any())
        for score, where_T in zip(wrong, made.where_BT, strict=True)
        if score.frame is not None
    ]
    assert sum(near) >= 6


@pytest.mark.parametrize("look", ["colourful", "pale"])
def test_colours_that_grow_stronger_are_a_drift(look: str) -> None:
    shot = camera(world(0, **LOOKS[look]), 81)
    still_growing = saturated(shot, np.linspace(1, 2, 81))
    found = drift(still_growing, still(shot[0], 0))
    assert found.value > 7
    assert found.frame is not None
    assert found.frame >= 76
    control = drift(shot, still(shot[0], 0))
    assert control.value < 0.2 * found.value


def test_between_conditions_colours_may_go_where_the_next_one_has_them() -> None:
    shot = camera(world(0), 81)
    gain = np.linspace(1, 0.5, 81)[:, None, None, None]
    dusk = (shot * gain).astype(np.uint8)
    assert drift(dusk, *ends(dusk)).value < 3
    # Where nothing says so, the same is a drift unless it is quick; so is going astray and back.
    assert drift(dusk, still(dusk[0], 0)).value > limit("colour_drift")
    assert drift(dusk, still(dusk[80], 80)).value > limit("colour_drift")
    quick = shot.copy()
    quick[40:] = shot[40:] * np.interp(np.arange(41), (0, 12), (1, 0.5))[:, None, None, None]
    assert drift(quick, still(quick[0], 0)).value < 0.3 * drift(dusk, still(dusk[0], 0)).value
    there_and_back = saturated(shot, 1 + np.sin(np.linspace(0, np.pi, 81)))
    found = drift(there_and_back, *ends(there_and_back))
    assert found.value > 7
    assert found.frame is not None
    assert 30 <= found.frame <= 50


def test_what_a_condition_shows_is_no_drift() -> None:
    sums_T4 = np.zeros((41, 4))
    sums_T4[:, 0] = np.linspace(0, 10, 41)  # four a second
    clip = Mark(frame=10, frames=21, picture=np.zeros((21, 8, 8, 3), np.uint8))
    off_T = strays(sums_T4, [clip], second=16)
    assert not off_T[10:31].any()
    assert off_T[0] == pytest.approx(2.5)
    assert off_T[40] == pytest.approx(2.5)
    assert strays(sums_T4, [], second=16)[40] == pytest.approx(10)
    # Twice as quick it is no drift, but for its last half second: who knows how it goes on?
    assert strays(2 * sums_T4, [], second=16)[40] < 5
