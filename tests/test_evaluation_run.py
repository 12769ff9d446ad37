"""The whole evaluation at test size, a run that was killed, and the models that it films with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreamontage import DreaMontagePipeline
from dreamontage.evaluation import names
from dreamontage.evaluation.evaluate import evaluate, plan_for
from dreamontage.evaluation.methods import CrossFade, Truth
from dreamontage.evaluation.models import (
    Concatenation,
    Model,
    PixelHandover,
    Refined,
    SmallFilms,
    untrained,
)
from dreamontage.evaluation.report import Holds
from dreamontage.evaluation.store import Store
from dreamontage.evaluation.suite import Folders, Suite, run
from dreamontage.evaluation.tasks import Kind, Plan, Task
from dreamontage.models.codec import LinearCodec
from dreamontage.pipeline.upscale import Upscaler, sr_channels
from tests.support.evaluation import save_model


class KilledError(Exception):
    pass


def test_from_folders_to_tables_json_and_sheets(
    mini_model: Path, mini_plan: Plan, tmp_path: Path
) -> None:
    folders = Folders(
        ours=mini_model,
        untuned=save_model(tmp_path / "untuned", seed=1),
        adaptive=save_model(tmp_path / "adaptive", seed=2),
        expression=save_model(tmp_path / "expression", seed=3),
        sr=save_model(tmp_path / "sr", channels=sr_channels(8)),
    )
    found = evaluate(folders, tmp_path / "out", plan=mini_plan)
    assert not found.left_out
    assert not found.shippable  # random weights
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    wanted = {value for name, value in vars(names).items() if name.isupper()}
    filmed = {method for methods in written["scores"].values() for method in methods}
    assert filmed == wanted
    assert set(written["scores"]) == set(Kind)
    for path in written["facts"]["sheets"]:
        with Image.open(tmp_path / "out" / path) as sheet:
            assert min(sheet.size) > 100
    assert len(written["facts"]["sheets"]) == len(Kind) - 1  # both prompts are on one

    again = evaluate(folders, tmp_path / "out", plan=mini_plan)
    assert (
        json.loads((tmp_path / "out" / "evaluation.json").read_text())["facts"]["films_made"] == 0
    )
    assert again.criteria == found.criteria


def test_a_killed_run_continues_after_its_last_film(
    mini_model: Path, mini_plan: Plan, tmp_path: Path
) -> None:
    suite = Suite(Folders(ours=mini_model), plan=mini_plan, device="cpu")
    suite.jobs = suite.jobs[:20]
    told: list[str] = []

    def kill(done: int, total: int, what: str) -> None:
        if done == 12:
            raise KilledError

    first, second = Store(tmp_path), Store(tmp_path)
    with pytest.raises(KilledError):
        run(suite, first, kill)
    (tmp_path / ".half.npz.1.partial").write_bytes(b"half written")
    results = run(suite, second, lambda done, total, what: told.append(what))
    assert first.made == 12
    assert second.made == len(suite.jobs) - 12
    assert len(told) == len(suite.jobs) + 1
    whole = run(suite, Store(tmp_path / "whole"), lambda done, total, what: None)
    assert results.scores == whole.scores


def test_more_films_for_the_verdict_are_asked_of_the_final_model_and_its_controls(
    mini_model: Path, mini_plan: Plan
) -> None:
    usual, more = (
        Suite(Folders(ours=mini_model), plan=plan, device="cpu").jobs
        for plan in (mini_plan, replace(mini_plan, keyframed=5))
    )
    assert [job.task.key for job in more if job.task.index < 2] == [job.task.key for job in usual]
    beyond = [job for job in more if job.task.index >= 2 and job.task.kind is Kind.FOUR]
    assert len(more) == len(usual) + len(beyond)
    assert {job.task.index for job in beyond} == {2, 3, 4}
    assert {job.method.name for job in beyond} == {
        *(names.TRUTH, names.CODEC, names.OURS),
        *(names.FADE, names.SOFT_FADE, names.FLOW, names.FLOW_CODEC),
    }


def test_films_go_with_their_model_and_task(mini_plan: Plan, tmp_path: Path) -> None:
    store, task, other = Store(tmp_path), *mini_plan.first_last()
    for method in (Truth(), CrossFade()):
        for each in (task, other):
            assert np.array_equal(store.film(method, each), method.film(each))
    assert store.made == 4
    assert np.array_equal(store.film(CrossFade(), task), CrossFade().film(task))
    assert store.made == 4


@pytest.fixture(scope="module")
def ours(mini_model: Path) -> Model:
    return Model.load(names.OURS, mini_model, "cpu")


def test_a_model_films_as_a_user_would_call_it(ours: Model, mini_plan: Plan) -> None:
    task = mini_plan.four()[0]
    film = ours.film(task)
    frames = ours.pipe(
        task.prompt,
        conditions=task.conditions,
        height=32,
        width=48,
        num_frames=task.frames,
        seed=task.seed,
    ).frames[0]
    assert np.array_equal(film, np.rint(frames * 255).astype(np.uint8))
    other = Model(names.AGAIN, ours.pipe, take=1)
    assert other.revision != ours.revision
    assert not np.array_equal(other.film(task), film)


def test_the_untrained_model_has_the_config_and_answers_nothing(
    mini_model: Path, mini_plan: Plan, ours: Model
) -> None:
    blank = untrained(DreaMontagePipeline.from_pretrained(mini_model))
    assert dict(blank.pipe.transformer.config) == dict(ours.pipe.transformer.config)
    assert not blank.pipe.transformer.proj_out.weight.any()
    assert blank.revision != ours.revision
    asked, changed = mini_plan.prompts()
    assert np.array_equal(blank.film(asked[0]), blank.film(changed[0]))


def test_concatenation_films_each_pair_alone(ours: Model, mini_plan: Plan) -> None:
    even = mini_plan.four()[0]
    film = Concatenation(ours).film(even)
    assert film.shape == even.truth.frames_THWC.shape
    with_other_middle = replace_keyframe(even, 2)
    other = Concatenation(ours).film(with_other_middle)
    assert np.array_equal(film[:16], other[:16])  # knows nothing of a later pair
    assert not np.array_equal(film[17:32], other[17:32])
    assert not np.array_equal(ours.film(even)[:16], ours.film(with_other_middle)[:16])


def replace_keyframe(task: Task, number: int) -> Task:
    conditions = list(task.conditions)
    picture = 255 - np.asarray(task.pictures[conditions[number].frame])
    conditions[number] = type(conditions[number])(  # type: ignore[call-arg]
        image=picture, frame=conditions[number].frame
    )
    return replace(task, conditions=tuple(conditions))


def test_pixels_are_handed_over_frame_by_frame(ours: Model, mini_plan: Plan) -> None:
    (task,) = mini_plan.long_free()
    pixels = PixelHandover(ours)
    film = pixels.film(task)
    assert film.shape == task.truth.frames_THWC.shape
    assert pixels.joins(task) == (49,)


@pytest.mark.slow
def test_the_shipped_weights_beside_their_controls(mini_plan: Plan, tmp_path: Path) -> None:
    """The real thing, but for its length: the true film tops every table, controls that do not move
    are not said to, and the verdict is what its figures say."""
    root = Path(__file__).parents[1]
    folders = Folders(ours=root / "weights" / "nano")
    whole = plan_for(folders.ours, clips=2, photos=root / "examples" / "assets")
    plan = replace(whole, moves=("pan_left", "zoom_in"), segments=3)
    found = evaluate(folders, tmp_path, plan=plan)
    for kind in (Kind.FIRST_LAST, Kind.FOUR, Kind.CLIPS, Kind.EXTENSION):
        scores = found.scores[kind]
        for score in ("motion", "ssim", "camera"):
            best = max(scores, key=lambda name: scores[name][score].value)
            assert scores[names.TRUTH][score].value == scores[best][score].value
        assert scores[names.CODEC]["motion"].value > 0.8
        assert scores[names.FADE]["motion"].value < 0.6
    rows = {row.method: row for row in found.prompts}
    assert rows[names.TRUTH].accuracy.value == rows[names.TRUTH].turned.value == 1
    assert rows[names.FADE].accuracy.value == rows[names.FADE].turned.value == 0
    assert found.shippable == all(each.holds is Holds.YES for each in found.criteria)


def test_a_film_is_enlarged_as_its_model_would_for_anyone(
    mini_model: Path, mini_plan: Plan, ours: Model, tmp_path: Path
) -> None:
    sr = DreaMontagePipeline.from_pretrained(save_model(tmp_path / "a", channels=sr_channels(8)))
    settings = {"tile_latents": [4, 6], "overlap_latents": 2, "strength": 0.5}
    sr.register_to_config(superres=settings)
    refined = Refined(SmallFilms(ours), sr, shared_rope=False)
    assert refined.upscaler == Upscaler.of(settings | {"shared_rope": False}, scale=2.0)
    (task,) = mini_plan.large(frames=9)
    film = refined.film(task)
    assert film.shape == task.truth.frames_THWC.shape
    sr.register_to_config(superres=settings | {"strength": 0.9})
    other = Refined(refined.small, sr, shared_rope=False)
    assert other.revision != refined.revision
    assert not np.array_equal(other.film(task), film)


def test_what_cannot_enlarge_is_refused_before_any_film(
    mini_model: Path, mini_plan: Plan, tmp_path: Path
) -> None:
    no_sr = save_model(tmp_path / "no-sr")
    other = save_model(tmp_path / "other", channels=sr_channels(8))
    codec = LinearCodec.from_pretrained(other / "vae")
    codec.mean_P.add_(0.1)
    codec.save_pretrained(other / "vae")
    for sr, told in ((no_sr, "is no super-resolution model"), (other, "another autoencoder")):
        suite = Suite(Folders(ours=mini_model, sr=sr), plan=mini_plan, device="cpu")
        with pytest.raises(ValueError, match=told):
            run(suite, Store(tmp_path / "films"), lambda done, total, what: None)
    assert not list((tmp_path / "films").iterdir())


def test_too_few_clips_are_refused(mini_model: Path) -> None:
    with pytest.raises(ValueError, match="clips"):
        plan_for(mini_model, clips=1)


def test_no_draw_hangs_on_torchs_own_generator(ours: Model, mini_plan: Plan) -> None:
    task = mini_plan.four()[0]
    torch.manual_seed(3)
    film = ours.film(task)
    torch.manual_seed(4)
    assert np.array_equal(film, ours.film(task))
