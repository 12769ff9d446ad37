"""The gate sees whether a film passes through its conditions, and forgives softness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dreamontage.media import Encoder, Profile
from dreamontage.scorer import Better, Film, Mark, Score, measure
from dreamontage.scorer.fidelity import FidelityMetric
from tests.support.scorer_films import (
    FPS,
    HEIGHT,
    WIDTH,
    Pixels,
    barely_trained,
    blurred,
    brightened,
    dissolve,
    ends,
    pan,
    psnr,
    still,
    through_codec,
    watched,
    write,
)

LOOKS = {"colourful": {}, "pale": {"colour": 0.3}, "fog": {"contrast": 0.3, "colour": 0.3}}


def fidelity(frames_THWC: Pixels, *marks: Mark) -> Score:
    return watched(FidelityMetric, frames_THWC, marks=marks)["keyframe_fidelity"]


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_soft_but_right_pictures_are_right(seed: int, look: str) -> None:
    good = pan(seed, 33, **LOOKS[look])
    marks = (*ends(good), still(good[16], 16))
    assert fidelity(good, *marks).value == pytest.approx(1.0, abs=1e-4)
    coded = through_codec(good)
    assert psnr(good, coded) < 36 or look == "fog", "the codec is as lossy as it is meant to be"
    assert fidelity(coded, *marks).value > 0.95
    assert fidelity(blurred(good, 2.0), *marks).value > 0.95
    if look != "fog":  # noise and blocks as strong as the picture itself are not the picture
        assert fidelity(barely_trained(good), *marks).value > 0.86


@pytest.mark.parametrize(("seed", "look"), [(0, "colourful"), (3, "pale"), (1, "fog")])
def test_wrong_pictures_are_wrong_however_alike_in_tone(seed: int, look: str) -> None:
    good, other = pan(seed, 33, **LOOKS[look]), pan(seed + 50, 33, **LOOKS[look])
    mark = still(good[16], 16)
    film = good.copy()
    for wrong_HWC, limit in (
        (other[16], 0.5),
        (good[28], 0.7),  # the right world, too early
        (dissolve(good[16], other[16], 3)[1], 0.8),
        (np.full_like(good[16], 128), 0.7),
        (brightened(good[16:17], 90)[0], 0.5),
    ):
        film[16] = wrong_HWC
        score = fidelity(film, mark)
        assert score.value < limit
        assert score.frame == 16
        assert score.better is Better.HIGHER


def test_the_worst_condition_counts_and_is_named() -> None:
    good = pan(0, 33)
    marks = (still(good[0], 0, "opening"), still(pan(50, 1)[0], 20, "product"), still(good[32], 32))
    score = fidelity(good, *marks)
    assert score.frame == 20
    assert "product: 0." in score.detail
    assert "opening: 1.000" in score.detail


def test_every_frame_of_a_clip_counts() -> None:
    good = pan(1, 33)
    clip = Mark(frame=8, frames=9, picture=good[8:17])
    assert fidelity(good, clip).value == pytest.approx(1.0, abs=1e-4)
    late = np.concatenate([good[:8], np.repeat(good[8:9], 9, axis=0), good[17:]])
    held = fidelity(late, clip)
    assert held.value < 0.85
    assert held.frame == 16, "farthest from the clip at its end"


def test_conditions_are_read_from_files(tmp_path: Path) -> None:
    good = pan(2, 25)
    film = write(tmp_path / "take.mkv", good)
    clip = write(tmp_path / "clip.mkv", good[4:20])
    right = Mark(frame=4, frames=9, picture=clip)
    late = Mark(frame=10, frames=9, picture=clip)
    for mark, passes in ((right, True), (late, False)):
        scores = {s.name: s.value for s in measure(Film(path=film, fps=FPS, marks=(mark,)))}
        assert (scores["keyframe_fidelity"] > 0.99) is passes
        assert scores["cuts"] == 0


def test_a_clip_of_one_frame_is_a_clip_and_a_still_a_still_whatever_the_files_are_called(
    tmp_path: Path,
) -> None:
    good = pan(2, 17)
    film = write(tmp_path / "take.mkv", good)
    clip = write(tmp_path / "clip.mkv", good[8:9]).rename(tmp_path / "condition0")
    image = tmp_path / "condition1"
    Image.fromarray(good[16]).save(image, format="PNG")
    for at, passes in (((8, 16), True), ((0, 4), False)):
        marks = tuple(
            Mark(frame=frame, picture=picture)
            for frame, picture in zip(at, (clip, image), strict=True)
        )
        scores = {s.name: s.value for s in measure(Film(path=film, fps=FPS, marks=marks))}
        assert (scores["keyframe_fidelity"] > 0.99) is passes


def test_a_mark_that_does_not_fit_its_film_is_refused(tmp_path: Path) -> None:
    good = pan(0, 9)
    with pytest.raises(ValueError, match=r"product ends at frame 9.*it has 9 frames"):
        fidelity(good, still(good[0], 9, "product"))
    with pytest.raises(ValueError, match=r"must have the film's size"):
        fidelity(good, still(good[0, :, :64], 0))
    with pytest.raises(ValueError, match=r"needs pixels of 1 frames"):
        Mark(frame=0, picture=good[0])
    with pytest.raises(ValueError, match=r"frames >= 1"):
        Mark(frame=0, frames=0, picture=good)


def test_a_film_without_conditions_says_so() -> None:
    score = fidelity(pan(0, 5))
    assert (score.value, score.frame, score.detail) == (1.0, None, "no conditions")


def test_a_film_of_many_pixels_is_measured_alike(tmp_path: Path) -> None:
    good = pan(0, 9)
    large = good.repeat(5, axis=1).repeat(5, axis=2)
    path = tmp_path / "large.mkv"
    with Encoder(
        path, width=5 * WIDTH, height=5 * HEIGHT, fps=FPS, profile=Profile.MEZZANINE
    ) as encoder:
        encoder.write(large)
    wrong = large[0, ::-1]
    marks = (still(large[0], 0), still(wrong, 5, "upside down"))
    scores = {s.name: s for s in measure(Film(path=path, fps=FPS, marks=marks))}
    assert scores["keyframe_fidelity"].value < 0.5
    assert scores["keyframe_fidelity"].frame == 5
