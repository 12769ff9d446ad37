"""Held-out films and the tasks made of them: unseen, repeatable, and as the tasks need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreamontage.evaluation import camera
from dreamontage.evaluation.material import MOVES, Material, opposite
from dreamontage.evaluation.models import joins_of
from dreamontage.evaluation.tasks import Kind, Plan
from dreamontage.planning.geometry import Geometry
from dreamontage.storyboard.seeds import derive
from dreamontage.timeline import latent_of
from dreamontage.training.synthetic.photos import load_photos

MATERIAL = Material(height=64, width=96)
BY_NAME = {move.name: move for move in MOVES}
PLAN = Plan(clips=8, material=MATERIAL, geometry=Geometry(window_latents=13, tail_latents=2))


def test_the_same_index_gives_the_same_film_and_another_another() -> None:
    first, again, other = (MATERIAL.everyday(index) for index in (0, 0, 1))
    assert np.array_equal(first.frames_THWC, again.frames_THWC)
    assert first.prompt() == again.prompt()
    assert not np.array_equal(first.frames_THWC, other.frames_THWC)


def test_no_training_step_draws_these_seeds() -> None:
    """Steps' seeds, and the scenes' below them, for any recipe's seed of this size."""
    held_out = {
        derive(0, "evaluation", use, index, turn)
        for use in ("everyday", "directed", "clips", "journey", "large")
        for index in range(64)
        for turn in range(4)
    }
    steps = {derive(seed, "step", n) for seed in range(3) for n in range(20_000)}
    assert not held_out & (steps | {derive(step, "scenes") for step in steps})


def test_pictures_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere: there is no such folder"):
        load_photos(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no pictures"):
        load_photos(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.png: is no picture that can be read"):
        load_photos(tmp_path)


def test_every_second_film_is_a_photos(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    material = Material(height=32, width=48, photos_NCHW=load_photos(tmp_path))
    assert all("photo" in material.everyday(index).prompt() for index in (1, 3))
    assert all("photo" not in material.everyday(index).prompt() for index in (0, 2))


@pytest.mark.parametrize("name", list(BY_NAME))
def test_a_directed_film_makes_its_move_and_starts_as_its_opposite_does(name: str) -> None:
    there = MATERIAL.directed(4, BY_NAME[name])
    back = MATERIAL.directed(4, opposite(BY_NAME[name]))
    assert BY_NAME[name].words in there.prompt()
    assert np.array_equal(there.frames_THWC[0], back.frames_THWC[0])
    assert camera.dominant_motion(camera.total_motion(there.frames_THWC)) == camera.SIGNS[name]
    assert camera.motion_along(camera.total_motion(back.frames_THWC), name) < 0


def test_a_journey_goes_on_moving_and_every_act_is_in_its_prompt() -> None:
    journey = MATERIAL.journey(0, stops=(40, 90, 130, 200))
    assert len(journey.frames_THWC) == 200
    assert [a.stop for a in journey.actions[:-1]] == [a.start for a in journey.actions[1:]]
    assert journey.actions[-1].stop == 200
    for action in journey.actions:
        moved = journey.frames_THWC[action.start].astype(int) - journey.frames_THWC[action.stop - 1]
        assert np.abs(moved).mean() > 2
        assert action.text in journey.prompt()


def test_four_keyframes_are_even_or_random_each_in_its_own_latent() -> None:
    tasks = PLAN.four()
    even = [list(task.pictures) for task in tasks if task.shows == "evenly spread"]
    loose = [list(task.pictures) for task in tasks if task.shows == "anywhere"]
    assert len(even) == len(loose) == 4
    assert all(places == [0, 16, 32, 48] for places in even)
    assert len({tuple(places) for places in loose}) == 4
    for places in loose:
        assert len({latent_of(place) for place in places}) == 4


def test_what_is_given_is_what_the_true_film_shows() -> None:
    for tasks in (PLAN.first_last(), PLAN.four(), PLAN.clip_to_clip(), PLAN.extension()):
        task = tasks[0]
        assert task.given_T.sum() == len(task.pictures)
        for frame, picture in task.pictures.items():
            assert np.array_equal(picture, task.truth.frames_THWC[frame])
    assert PLAN.extension()[0].given_T[:17].all()
    assert not PLAN.extension()[0].given_T[17:].any()


def test_a_changed_prompt_changes_nothing_else() -> None:
    plan = Plan(clips=2, material=MATERIAL, geometry=PLAN.geometry, moves=("pan_left", "zoom_out"))
    asked, changed = plan.prompts()
    assert [task.shows for task in asked] == ["pan_left", "zoom_out"]
    assert [task.shows for task in changed] == ["pan_right", "zoom_in"]
    for one, other in zip(asked, changed, strict=True):
        assert one.seed == other.seed
        assert np.array_equal(one.pictures[0], other.pictures[0])
        assert one.key != other.key


def test_long_tasks_have_as_many_segments_as_asked_for() -> None:
    plan = Plan(clips=2, material=Material(height=16, width=32), geometry=PLAN.geometry)
    (free,), (keyed,) = plan.long_free(), plan.long_keyed()
    assert free.kind is Kind.LONG_FREE
    assert free.frames == keyed.frames == 709
    for task in (free, keyed):
        assert len(joins_of(task, plan.geometry)) == 15
    assert list(keyed.pictures)[:3] == [0, 48, 92]
    assert list(keyed.pictures)[-1] == 708


def test_keys_change_with_what_is_asked_and_with_the_true_film() -> None:
    tasks = [*PLAN.first_last(), *PLAN.four(), *PLAN.clip_to_clip(), *PLAN.extension()]
    assert len({task.key for task in tasks}) == len(tasks)
    assert PLAN.four()[2].key == PLAN.four()[2].key
    torch.manual_seed(1)  # nothing here may hang on torch's own generator
    assert PLAN.four()[2].key == tasks[10].key
