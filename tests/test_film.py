"""A film's record says what determined the film, wherever the film was made."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import torch

from db.states import DeliverableKind
from dreamontage import DreaMontagePipeline
from dreamontage.pipeline.acceleration import SpeedOptions, fit
from dreamontage.rendering import local
from dreamontage.storyboard import load
from dreamontage.storyboard.seeds import take_seed
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm


def of_the_farm(farm: Farm, board: Path) -> dict[str, Any]:
    (submitted,) = submit(farm, board)
    (shot,) = farm.repository.shots(submitted.id)
    take = steps.begin_take(farm, shot.id, 0)
    for each in take.segments:
        steps.render_segment(farm, take, each)
    steps.decode_take(farm, take)
    steps.gate_take(farm, take, takes_left=0)
    steps.assemble(farm, submitted.id)
    found = {each.kind: each.address for each in farm.repository.deliverables(submitted.id)}
    record: dict[str, Any] = json.loads(farm.store.get(found[DeliverableKind.RECORD]))
    return record


def of_this_process(
    weights: Path,
    path: Path,
    folder: Path,
    options: SpeedOptions | None = None,
    sr: Path | None = None,
) -> dict[str, Any]:
    pipe = DreaMontagePipeline.from_pretrained(weights, dtype=torch.float32)
    if options is not None:
        fit(pipe, options, "cpu")
    refining = None if sr is None else DreaMontagePipeline.from_pretrained(sr, dtype=torch.float32)
    made, _ = local.render(
        load(path), path.parent, folder, pipe, sr=refining, name="film", max_takes=1
    )
    record: dict[str, Any] = json.loads(made.record.read_text())
    return record


def test_a_film_made_with_speed_options_says_so_and_is_no_others(
    write_board: Any, tiny_ours: Path, tmp_path: Path
) -> None:
    path = write_board()
    plain = of_this_process(tiny_ours, path, tmp_path)
    assert plain["model"]["speed"] == []
    exact = of_this_process(tiny_ours, path, tmp_path, SpeedOptions(attention="native"))
    assert exact["shots"] == plain["shots"]
    described = {"option": "attention", "setting": "native", "exactness": "exact"}
    assert exact["model"]["speed"] == [described]
    smaller = of_this_process(tiny_ours, path, tmp_path, SpeedOptions(fp8_storage=True))
    keys = [{each["key"] for each in record["shots"][0]["segments"]} for record in (plain, smaller)]
    assert not keys[0] & keys[1]
    assert smaller["model"]["speed"][0]["exactness"] == "approximate"


def test_an_upscaled_films_record_is_the_same_whoever_rendered(
    two_model_farm: Farm, write_board: Any, tiny_ours: Path, tiny_sr: Path, tmp_path: Path
) -> None:
    path = write_board(upscale=1.5)
    here = of_this_process(tiny_ours, path, tmp_path / "out", sr=tiny_sr)
    there = of_the_farm(two_model_farm, path)
    assert here["shots"] == there["shots"]
    assert here["upscale"] == there["upscale"]


def test_a_record_is_the_same_whoever_rendered(
    two_model_farm: Farm, write_board: Any, tiny_ours: Path, tmp_path: Path
) -> None:
    path = write_board(sampler={"image_guidance": 2.0})
    here, there = (
        of_this_process(tiny_ours, path, tmp_path / "out"),
        of_the_farm(two_model_farm, path),
    )
    assert here["sampler"] == {"steps": 6, "guidance": 1.0, "image_guidance": 2.0}
    for part in ("title", "frames", "fps", "storyboard", "sampler", "shots", "made_with"):
        assert here[part] == there[part], part
    assert here["model"].items() <= there["model"].items()

    (shot,) = here["shots"]
    assert (shot["take"], shot["frames"], shot["name"]) == (0, 33, "walk")
    assert shot["seed"] == take_seed(load(path).shot_seed(0), 0)
    windows = [(each["start"], each["stop"], each["tail"]) for each in shot["segments"]]
    assert windows[0][::2] == (0, 0)
    assert windows[-1][1] == 9, "33 frames are 9 latents"
    for before, after in itertools.pairwise(windows):
        assert after[0] == before[1] - after[2]
    assert [(each["kind"], each["frame"]) for each in shot["conditions"]] == [
        ("keyframe", 0),
        ("keyframe", 12),
        ("keyframe", 32),
    ]
    for index, each in enumerate(shot["conditions"]):
        asset = (path.parent / f"still{index}.png").read_bytes()
        assert each["asset"] == hashlib.sha256(asset).hexdigest()
        assert each["made_by"] == {"fit": "crop", "width": 80, "height": 64}
    assert {score["name"] for score in shot["scores"]} >= {"keyframe_fidelity", "cuts"}
