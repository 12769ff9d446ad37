"""A folder of videos through real flows, with a worker that is killed on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from dreamontage.training.datasets.shards import Dataset
from tests.support import wild
from tests.support.farm import Farm, await_that
from tests.support.wild import h264, pan, shot

pytestmark = pytest.mark.xdist_group("farm")


def test_a_folder_through_the_farm(farm: Farm, tmp_path: Path) -> None:
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    h264(shot(0), films / "a.mp4")
    h264(pan(1), films / "b.mp4")
    h264(wild.cut(shot(0), shot(1), 20), films / "cut.mp4")
    (films / "text.mp4").write_text("not a video")
    for number in range(8):
        shutil.copy(films / "b.mp4", films / f"more-{number}.mp4")
    deployment = farm.get("/deployments/name/curate-folder/curate-folder")["id"]
    options = {"size": "128x80"}
    run = farm.start(deployment, folder=str(films), options=options, out=str(out))

    def measuring() -> Any:
        question = {"flows": {"name": {"any_": ["measure-videos"]}}}
        runs = farm.post("/flow_runs/filter", question)
        return next((each for each in runs if each["infrastructure_pid"]), None)

    killed = await_that(measuring, "a run that measures")
    os.kill(int(killed["infrastructure_pid"]), signal.SIGKILL)
    assert farm.wait(killed["id"])["state"]["type"] == "CRASHED"
    ended = farm.wait(run)
    assert ended["state"]["type"] == "COMPLETED", ended["state"]

    assert [facts.source for facts in Dataset(out).clips] == ["a.mp4", "b.mp4"]
    report = json.loads((out / "report.json").read_text())
    assert report["counts"] == {
        "videos": 12,
        "kept": 2,
        "cannot be used": 1,
        "seen before": 8,
        "more than one shot": 1,
    }
    question = {"artifacts": {"key": {"like_": "curated-"}}}
    shown = {each["key"]: each for each in farm.post("/artifacts/filter", question)}
    assert {"table", "markdown"} == {each["type"] for each in shown.values()}
