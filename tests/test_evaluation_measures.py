"""Each measure falls with the fault that it is for, the controls score what they should, and the
true film scores best."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from dreamontage.evaluation import camera, names
from dreamontage.evaluation.judge import Aspect, verdict
from dreamontage.evaluation.material import FPS, MOVES, Material, Pixels, opposite
from dreamontage.evaluation.measures import Scores, measure
from dreamontage.evaluation.methods import (
    BlurredCrossFade,
    CodecRoundTrip,
    CrossFade,
    Method,
    OpticalFlow,
    Truth,
)
from dreamontage.evaluation.tasks import Kind, Plan, Task
from dreamontage.planning.geometry import Geometry
from dreamontage.sampling.conditioning.conditions import Keyframe
from dreamontage.training.objectives import nano

PLAN = Plan(
    clips=4,
    material=Material(height=64, width=96),
    geometry=Geometry(window_latents=13, tail_latents=2),
    moves=("pan_left", "tilt_up", "zoom_in", "roll_left"),
)


@pytest.fixture(scope="module")
def four() -> list[Task]:
    """Four keyframes of films whose camera moves and which stay in one world."""
    tasks = []
    for index, move in enumerate(MOVES[:6]):
        truth = PLAN.material.directed(index, move)
        stills = tuple(Keyframe(image=truth.frames_THWC[n], frame=n) for n in (0, 16, 32, 48))
        tasks.append(Task(kind=Kind.FOUR, index=index, truth=truth, conditions=stills, seed=0))
    return tasks


@pytest.fixture(scope="module")
def panned() -> Task:
    """First frame given; the true film pans left over something to be seen."""
    (move,) = (each for each in MOVES if each.name == "pan_left")
    truth = PLAN.material.directed(4, move)
    (asked, *_), _ = PLAN.prompts()
    return replace(asked, truth=truth, conditions=(Keyframe(image=truth.frames_THWC[0], frame=0),))


def blurred(film_THWC: Pixels, sigma: float = 2.0) -> Pixels:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in film_THWC])


def frozen(film_THWC: Pixels) -> Pixels:
    return np.repeat(film_THWC[:1], len(film_THWC), axis=0)


def means(method: Method, tasks: list[Task]) -> Scores:
    found = [measure(method.film(task), task) for task in tasks]
    return {name: float(np.mean([each[name] for each in found])) for name in found[0]}


def test_the_true_film_scores_best_and_controls_in_their_order(four: list[Task]) -> None:
    scores = {
        method.name: means(method, four)
        for method in (Truth(), CrossFade(), BlurredCrossFade(), OpticalFlow())
    }
    truth, fade, soft, flow = scores.values()
    best = {"motion": 1, "motion_error": 0, "ssim": 1, "texture": 0, "fidelity": 1, "camera": 1}
    for name, value in best.items():
        assert truth[name] == pytest.approx(value, abs=1e-3), name
    for name in ("motion_amount", "flicker", "sharpness", "blocks"):
        assert truth[name] == pytest.approx(1, abs=1e-3), name
    assert soft["texture"] > 1.2 * fade["texture"]
    assert flow["texture"] < 0.5 * fade["texture"]
    assert flow["motion"] > max(fade["motion"], soft["motion"]) + 0.2
    assert flow["motion_error"] < min(fade["motion_error"], soft["motion_error"]) - 0.3
    assert all(each["fidelity"] == pytest.approx(1, abs=1e-3) for each in scores.values())


def test_far_apart_pictures_that_fade_into_each_other_do_not_move() -> None:
    """And blurred, they have the better PSNR: a score that lies."""
    tasks = PLAN.first_last()
    fade, soft = means(CrossFade(), tasks), means(BlurredCrossFade(), tasks)
    assert soft["psnr"] > fade["psnr"]
    assert soft["texture"] > fade["texture"]
    for control in (fade, soft):
        assert abs(control["motion"]) < 0.25
        assert control["motion_error"] > 0.9


def test_without_motion_there_is_no_motion_to_score(panned: Task) -> None:
    found = measure(CrossFade().film(panned), panned)  # holds its only picture
    assert abs(found["motion"]) < 0.02
    assert found["motion_error"] == pytest.approx(1, abs=0.02)
    assert found["motion_amount"] < 0.02
    assert abs(found["camera"]) < 0.05


def test_blur_costs_sharpness_and_texture_and_no_motion(four: list[Task]) -> None:
    task = four[0]
    found = measure(blurred(task.truth.frames_THWC), task)
    assert found["sharpness"] < 0.85
    little = measure(blurred(task.truth.frames_THWC, 1.0), task)
    assert found["texture"] > 1.5 * little["texture"] > 0
    assert found["motion"] > 0.9
    assert found["camera"] > 0.97


def test_a_cut_is_counted_and_loses(four: list[Task]) -> None:
    task, other = four[0], four[3].truth.frames_THWC
    film = task.truth.frames_THWC.copy()
    clean = measure(film, task)
    film[20:28] = other[20:28]
    found = measure(film, task)
    assert found["cuts"] >= clean["cuts"] + 1
    assert found["cut_strength"] > 15
    assert found["motion_error"] > clean["motion_error"] + 0.1
    assert verdict(clean, found, Aspect.CUTS) == 1


def test_a_missed_condition_costs_fidelity(four: list[Task]) -> None:
    task = four[0]
    film = task.truth.frames_THWC.copy()
    film[16] = four[3].truth.frames_THWC[16]
    assert measure(film, task)["fidelity"] < 0.6


def test_a_film_run_backwards_makes_the_other_move(panned: Task) -> None:
    film = panned.truth.frames_THWC
    assert camera.dominant_motion(camera.total_motion(film)) == camera.SIGNS["pan_left"]
    assert camera.dominant_motion(camera.total_motion(film[::-1])) == camera.SIGNS["pan_right"]
    assert measure(film[::-1].copy(), panned)["camera"] < -0.9


def test_a_subject_that_crosses_the_picture_is_no_camera_move() -> None:
    film = frozen(PLAN.material.everyday(2).frames_THWC).copy()
    for frame in range(len(film)):
        film[frame, 20:44, frame : frame + 24] = (200, 40, 40)
    assert np.abs(camera.total_motion(film)).max() < 4  # the subject goes 48 pixels


def test_the_right_camera_agrees_the_wrong_and_the_still_one_do_not(panned: Task) -> None:
    (move,) = (each for each in MOVES if each.name == "tilt_up")
    tilted = PLAN.material.directed(4, move).frames_THWC
    back = PLAN.material.directed(4, opposite(move)).frames_THWC
    ways = [camera.path(film) for film in (panned.truth.frames_THWC, tilted, back)]
    second = FPS // camera.PACE
    assert camera.agreement(ways[0], ways[0], second) == pytest.approx(1)
    assert abs(camera.agreement(ways[1], ways[0], second)) < 0.2
    assert camera.agreement(ways[1], ways[2], second) < -0.9
    still = np.zeros_like(ways[0])
    assert camera.agreement(still, ways[0], second) == 0
    assert camera.agreement(still, still, second) == 1
    assert camera.agreement(ways[0], still, second) < 0.2


def test_the_codec_alone_is_nearly_the_true_film(four: list[Task]) -> None:
    vae = nano.build_frozen(seed=0, z_dim=48, batches=2).vae
    codec = CodecRoundTrip(names.CODEC, Truth(), vae, "test")
    found = means(codec, four[:2])
    assert codec.film(four[0]).shape == four[0].truth.frames_THWC.shape
    assert found["motion"] > 0.85
    assert found["texture"] < 0.06
    assert found["blocks"] > 1.0


def test_a_jolt_at_the_joins_and_colours_that_drift_are_seen() -> None:
    plan = replace(PLAN, segments=3)
    (task,) = plan.long_free()[:1]
    joins = (49, 93)
    film = task.truth.frames_THWC
    clean = measure(film, task, joins)
    assert clean["seam"] < 1.3
    jolted = film.copy()
    jolted[49:93] = np.roll(jolted[49:93], 8, axis=2)
    found = measure(jolted, task, joins)
    assert found["seam"] > clean["seam"] + 0.5
    assert found["seam 0"] > 1.5
    reddened = film.astype(float)
    reddened[93:] *= (1.3, 0.8, 0.8)
    found = measure(reddened.clip(0, 255).astype(np.uint8), task, joins)
    assert found["drift"] > clean["drift"] + 5
    assert found["saturation"] > clean["saturation"]


def test_flashes_and_wrong_colours_near_the_conditions_are_seen() -> None:
    (task,) = replace(PLAN, clips=4).large()
    film = task.truth.frames_THWC
    clean = measure(film, task)
    assert clean["colour_near"] == 0
    assert clean["flicker_near"] == pytest.approx(1)
    flash = film.astype(float)
    flash[[11, 13]] += 20
    found = measure(flash.clip(0, 255).astype(np.uint8), task)
    assert found["colour_near"] > 5
    assert found["flicker_near"] > 1.25
    assert verdict(clean, found, Aspect.CONDITIONS) == 1


def test_a_film_of_another_length_is_refused(four: list[Task]) -> None:
    with pytest.raises(ValueError, match="shape"):
        measure(four[0].truth.frames_THWC[:-1], four[0])


def test_interpolations_hold_the_outermost_pictures() -> None:
    task = next(task for task in PLAN.four() if task.shows == "anywhere" and 0 not in task.pictures)
    first = min(task.pictures)
    for method in (CrossFade(), BlurredCrossFade(), OpticalFlow()):
        film = method.film(task)
        assert len(film) == task.frames
        assert np.array_equal(film[0], task.pictures[first])
        for frame, picture in task.pictures.items():
            assert np.array_equal(film[frame], picture)
    assert task.kind is Kind.FOUR
