"""Every filter on real files: what is accepted, what is dropped, and why."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dreamontage.training.curation import flow, likeness, quality
from dreamontage.training.curation.judge import Limits, Rule, Verdict, judge
from dreamontage.training.curation.measure import Measurement, Measures, measure
from dreamontage.training.curation.target import Target
from tests.support import wild
from tests.support.media import video_of
from tests.support.scorer_films import camera, held, world
from tests.support.wild import ASSETS, FRAMES, HEIGHT, WIDTH, h264, pan, shot

TARGET = Target(width=128, height=80)
MEASURES = Measures(side=128)


def verdict(found: Measurement, limits: Limits | None = None) -> Verdict:
    return judge(found, limits or Limits(), target=TARGET, alike=0.9, seen={})


def rule(path: Path, **limits: float) -> Rule | None:
    return verdict(measure(path, MEASURES), Limits(**limits)).rule


@pytest.mark.parametrize("seed", range(6))
def test_synthetic_worlds_pass_curation(seed: int, tmp_path: Path) -> None:
    assert rule(h264(shot(seed), tmp_path / "a.mp4")) is None


@pytest.mark.parametrize("video", sorted(ASSETS.glob("*.mp4")), ids=lambda path: path.stem)
def test_the_examples_clips_pass_curation(video: Path) -> None:
    assert rule(video) is None


GOOD: dict[str, Callable[[Path], Path]] = {
    "a flash": lambda p: h264(wild.flashed(pan(0), 20), p / "a.mp4"),
    "a fast pan": lambda p: h264(fast_pan(1, 0.9), p / "a.mp4"),
    "dusk": lambda p: h264(wild.at_dusk(pan(2)), p / "a.mp4"),
    "a plunge at dusk": lambda p: h264(wild.at_dusk(plunge(3)), p / "a.mp4"),
    "a steady hand": lambda p: h264(wild.handheld(pan(0), 0.4), p / "a.mp4"),
    "a strong codec": lambda p: h264(pan(4), p / "a.mp4", crf=40),
    "a variable rate": lambda p: wild.uneven(pan(1, 73), p / "a.mp4"),
    "upright": lambda p: wild.turned(pan(1), p / "a.mp4"),
    "odd sides": lambda p: h264(pan(2)[:, :95, :157], p / "a.mkv", "-pix_fmt", "yuv444p"),
    "60 a second": lambda p: h264(pan(2, 180), p / "a.mp4", fps="60"),
    "no colour": lambda p: h264(wild.everywhere(pan(0), _grey), p / "a.mp4"),
}


def fast_pan(seed: int, way: float) -> np.ndarray:
    """Across a world in three seconds: every frame changes."""
    start, stop = (0.5 - way / 2, 0.5, 1.3), (0.5 + way / 2, 0.5, 1.3)
    return camera(world(seed), FRAMES, start=start, stop=stop, size=(WIDTH, HEIGHT))


def plunge(seed: int) -> np.ndarray:
    """Far into a world, where there is little contrast."""
    size = (WIDTH, HEIGHT)
    return camera(world(seed), FRAMES, start=(0.4, 0.5, 1), stop=(0.42, 0.5, 6), size=size)


def _grey(frame: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


@pytest.mark.parametrize("make", GOOD.values(), ids=GOOD)
def test_unusual_but_good_videos_pass_curation(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    assert verdict(measure(make(tmp_path), MEASURES)) == Verdict(rule=None, reason="")


BAD: dict[str, tuple[Rule, Callable[[Path], Path]]] = {
    "a cut": (Rule.ONE_SHOT, lambda p: h264(wild.cut(shot(0), shot(1), 25), p / "a.mp4")),
    "a cut in the first second": (
        Rule.ONE_SHOT,
        lambda p: h264(wild.cut(shot(2), shot(3), 3), p / "a.mp4"),
    ),
    "a cut in a fast pan": (
        Rule.ONE_SHOT,
        lambda p: h264(wild.cut(fast_pan(1, 0.9), fast_pan(21, -0.9), 25), p / "a.mp4"),
    ),
    "a dissolve": (
        Rule.ONE_SHOT,
        lambda p: h264(wild.dissolved(shot(2), shot(4), 12, 16), p / "a.mp4"),
    ),
    "a dissolve of two pans": (
        Rule.ONE_SHOT,
        lambda p: h264(wild.dissolved(pan(0), pan(5), 15, 14), p / "a.mp4"),
    ),
    "one picture": (Rule.GOES_SOMEWHERE, lambda p: h264(held(pan(0)[0], FRAMES), p / "a.mp4")),
    "there and back": (
        Rule.GOES_SOMEWHERE,
        lambda p: h264(np.concatenate([pan(0)[:25], pan(0)[:25][::-1]]), p / "a.mp4"),
    ),
    "out of focus": (
        Rule.GOOD,
        lambda p: h264(
            wild.everywhere(pan(0), lambda f: cv2.GaussianBlur(f, (0, 0), 4)), p / "a.mp4"
        ),
    ),
    "dark": (Rule.GOOD, lambda p: h264(wild.everywhere(pan(0), lambda f: f * 0.04), p / "a.mp4")),
    "bars": (Rule.GOOD, lambda p: h264(wild.everywhere(pan(0), wild.barred), p / "a.mp4")),
    "blocks": (
        Rule.GOOD,
        lambda p: video_of(pan(0), p / "a.avi", "-c:v", "mpeg4", "-q:v", "31"),
    ),
    "a trembling hand": (Rule.STEADY, lambda p: h264(wild.handheld(pan(0), 1.5), p / "a.mp4")),
    "a second": (Rule.LONG, lambda p: h264(pan(0)[:16], p / "a.mp4")),
    "few frames": (Rule.SMOOTH, lambda p: h264(pan(0)[::4], p / "a.mp4", fps="4")),
    "a stamp": (Rule.LARGE, lambda p: h264(pan(0)[:, ::2, ::2], p / "a.mp4")),
}


@pytest.mark.parametrize(("wanted", "make"), BAD.values(), ids=BAD)
def test_each_defect_has_its_verdict(
    wanted: Rule, make: Callable[[Path], Path], tmp_path: Path
) -> None:
    found = verdict(measure(make(tmp_path), MEASURES))
    assert found.rule is wanted
    assert found.reason


def test_weak_motion_is_dropped(tmp_path: Path) -> None:
    """Most videos with little motion end as they begin. Without that filter, the flow decides."""
    slow = camera(world(3), FRAMES, start=(0.5, 0.5, 1), stop=(0.51, 0.5, 1), size=(WIDTH, HEIGHT))
    path = h264(slow, tmp_path / "a.mp4")
    assert rule(path) is Rule.GOES_SOMEWHERE
    assert rule(path, most_alike=1.1) is Rule.MOVES
    assert rule(path, most_alike=1.1, least_motion=0.005) is None


def test_the_filters_come_in_the_papers_order(tmp_path: Path) -> None:
    """A film that fails all rules is dropped by the first; without it, by the next."""
    dark = wild.everywhere(wild.cut(held(pan(0)[0], FRAMES), held(pan(5)[0], FRAMES), 20), _dim)
    dark[-4:] = dark[0]
    found = measure(h264(dark, tmp_path / "a.mp4"), MEASURES)
    assert verdict(found).rule is Rule.ONE_SHOT
    once = Measurement(**{**vars(found), "scores": {**found.scores, "cuts": 0.0}})
    order = [
        ({}, Rule.GOES_SOMEWHERE),
        ({"most_alike": 1.1}, Rule.GOOD),
        ({"most_alike": 1.1, "least_quality": 0.0}, Rule.MOVES),
    ]
    for limits, expected in order:
        assert verdict(once, Limits(least_motion=5.0, **limits)).rule is expected


def _dim(frame: np.ndarray) -> np.ndarray:
    return frame * 0.12


def _pose(answer: float | None, picture: np.ndarray) -> float | None:
    return answer


def test_people_are_looked_at_through_a_hook(tmp_path: Path) -> None:
    path = h264(pan(0), tmp_path / "a.mp4")
    assert "pose" not in measure(path, MEASURES).scores
    for seen, expected in ((None, None), (0.2, Rule.CLEAR), (0.9, None)):
        hooked = Measures(side=128, pose=partial(_pose, seen))
        found = measure(path, hooked)
        assert ("pose" in found.scores) == (seen is not None)
        assert verdict(found).rule is expected


def test_another_judge_of_quality_may_be_given(tmp_path: Path) -> None:
    path = h264(wild.everywhere(pan(0), _dim), tmp_path / "a.mp4")
    found = measure(path, Measures(side=128, judge=lambda picture: 7.5))
    assert found.scores["quality"] == 7.5
    assert verdict(found, Limits(least_quality=8)).rule is Rule.GOOD
    assert verdict(found, Limits(least_quality=7)).rule is None


@pytest.mark.parametrize(
    ("stop", "zoom", "words"),
    [
        ((0.65, 0.5), 1, "the camera pans right"),
        ((0.2, 0.5), 1, "the camera pans left"),
        ((0.4, 0.75), 1, "the camera tilts down"),
        ((0.4, 0.5), 2, "the camera zooms in"),
        ((0.4, 0.5), 0.6, "the camera zooms out"),
        ((0.4, 0.5), 1, "the camera holds still"),
    ],
)
def test_the_cameras_move_is_worded(
    stop: tuple[float, float], zoom: float, words: str, tmp_path: Path
) -> None:
    moved = camera(
        world(2), FRAMES, start=(0.4, 0.5, 1), stop=(*stop, zoom), eased=True, size=(WIDTH, HEIGHT)
    )
    found = measure(h264(moved, tmp_path / "a.mp4"), MEASURES)
    assert [action.text for action in found.actions] == [words]
    assert (found.actions[0].start, found.actions[0].stop) == (0, FRAMES)


def test_actions_change_where_the_camera_does(tmp_path: Path) -> None:
    size = (WIDTH, HEIGHT)
    first = camera(world(2), 33, start=(0.3, 0.5, 1), stop=(0.6, 0.5, 1), size=size)
    then = camera(world(2), 33, start=(0.6, 0.5, 1), stop=(0.6, 0.5, 2.2), size=size)
    still = held(then[-1], 24)
    film = np.concatenate([first, then[1:], still])
    actions = measure(h264(film, tmp_path / "a.mp4"), MEASURES).actions
    assert [action.text for action in actions] == [
        "the camera pans right",
        "the camera zooms in",
        "the camera holds still",
    ]
    assert actions[1].start == pytest.approx(33, abs=4)
    assert actions[2].start == pytest.approx(65, abs=4)
    assert actions[-1].stop == len(film)


def test_persistence_knows_a_light_from_a_picture() -> None:
    here, other = (flow.soft(flow.small(pan(seed, 1)[0])) for seed in (0, 5))
    nowhere = np.zeros((*here.shape, 2), np.float32)
    assert flow.persistence(here, here * 0.7 + 60, nowhere) > 0.85
    assert flow.persistence(here, other, nowhere) < 0.4
    away = nowhere + np.array([500, 0], np.float32)
    assert flow.persistence(here, other, away) == 1.0, "what has left the picture does not count"


def test_layouts_are_alike_only_where_pictures_are() -> None:
    layout, film = likeness.Layout(), pan(0)
    assert likeness.likeness(layout, film[0], film[0]) == pytest.approx(1)
    assert likeness.likeness(layout, film[0], np.roll(film[0], 1, axis=1)) > 0.9
    assert likeness.likeness(layout, film[0], film[-1]) < 0.6
    black = np.zeros_like(film[0])
    assert likeness.likeness(layout, black, black) == pytest.approx(1)


def test_clip_is_read_from_a_folder(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    size = {"height": 16, "width": 16}
    CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size).save_pretrained(tmp_path)
    config = CLIPVisionConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
        projection_dim=6,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    clip, film = likeness.Clip(tmp_path), pan(0)
    assert clip(film[0]).shape == (6,)
    assert likeness.likeness(clip, film[0], film[0]) == pytest.approx(1)
    assert Measures(embed=clip).facts() != Measures().facts()
    with pytest.raises(ValueError, match="holds no CLIP model"):
        likeness.Clip(tmp_path / "none")


def test_a_videos_own_size_decides_which_blocks_are_seen() -> None:
    """Blocks of eight pixels disappear when a picture is made much smaller."""
    large = cv2.resize(pan(0, 1)[0], (640, 384), interpolation=cv2.INTER_CUBIC)
    poor: Any = cv2.imdecode(cv2.imencode(".jpg", large, [cv2.IMWRITE_JPEG_QUALITY, 4])[1], 1)
    assert quality.marks([poor], side=640).smoothness < 0.3
    assert quality.marks([poor], side=128).smoothness == 1


@pytest.mark.parametrize(
    ("video", "size"),
    [
        ((1920, 1080), (832, 480)),
        ((1080, 1920), (480, 832)),
        ((640, 480), (736, 544)),
        ((500, 500), (640, 640)),
        ((2560, 1080), (960, 416)),
        ((8, 4000), (480, 832)),
    ],
)
def test_a_video_takes_the_nearest_shape(video: tuple[int, int], size: tuple[int, int]) -> None:
    assert Target().size_for(*video) == size


def test_impossible_sizes_are_reported() -> None:
    with pytest.raises(ValueError, match="at least 16 each way"):
        Target(width=8, height=480)
    with pytest.raises(ValueError, match="fps = 0 must be above 0"):
        Target(fps=Fraction(0))
