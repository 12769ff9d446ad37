"""The whole farm: a storyboard through real flows, workers that die, and the nightly batch."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from db.states import SegmentState, ShotState, StoryboardState, Verdict
from dreamontage import media
from flows.actions.start import start_storyboard
from flows.actions.submit import submit
from flows.studio import farm as farm_module
from flows.studio.processes import python
from tests.support.boards import WriteBoard, picture
from tests.support.farm import Farm, await_that

pytestmark = pytest.mark.xdist_group("farm")


def short_board(write_board: WriteBoard, **overrides: Any) -> Path:
    """Two shots of the shipped model, a second together."""
    shots = [
        {
            "name": name,
            "duration": {"frames": 9},
            "prompts": "pan left",
            "keyframes": [{"image": f"still{seed}.png", "frame": 0}],
        }
        for seed, name in enumerate(("first", "second"))
    ]
    return write_board(**{"shots": shots, "sampler": {"steps": 3}} | overrides)


def task_runs(farm: Farm, flow_run: str) -> dict[str, dict[str, Any]]:
    question = {"flow_runs": {"id": {"any_": [flow_run]}}, "sort": "EXPECTED_START_TIME_ASC"}
    return {run["name"]: run for run in farm.post("/task_runs/filter", question)}


def artifacts(farm: Farm, key: str) -> list[dict[str, Any]]:
    return list(farm.post("/artifacts/filter", {"artifacts": {"key": {"like_": key}}}))


def test_a_storyboard_through_the_farm(
    farm: Farm, opened_farm: Any, write_board: WriteBoard, tmp_path: Path
) -> None:
    (submitted,) = submit(opened_farm, short_board(write_board))
    run = start_storyboard(farm.settings, submitted.id)
    ended = farm.wait(run)
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    assert ended["name"] == submitted.id

    storyboard = opened_farm.repository.storyboard(submitted.id)
    assert storyboard.flow_run_id == run
    assert storyboard.state in (StoryboardState.DONE, StoryboardState.REVIEW)
    # What operators see: a run a shot, a task a segment, progress, scores and the sheet.
    question = {"flow_runs": {"name": {"like_": f"{submitted.id}-s"}}}
    shots = {each["name"]: each for each in farm.post("/flow_runs/filter", question)}
    assert set(shots) == {f"{submitted.id}-s0", f"{submitted.id}-s1"}
    for shot in shots.values():
        assert "segment-1-of-1" in task_runs(farm, shot["id"])
    assert artifacts(farm, f"sheet-{submitted.id}")[0]["data"].startswith(
        "![A walk](data:image/jpeg;base64,"
    )
    assert [each["data"] for each in artifacts(farm, f"{submitted.id}-s0-t0-0")] == [100.0]
    assert artifacts(farm, f"gate-{submitted.id}-s0-t0")[0]["type"] == "table"

    output = dreamontage(farm, "status", submitted.id)
    assert f"{submitted.id} A walk: {storyboard.state}" in output
    assert "segment 1 done 3/3" in output
    out = tmp_path / "out"
    names = [
        Path(line) for line in dreamontage(farm, "fetch", submitted.id, "-o", str(out)).split()
    ]
    assert sorted(name.suffix for name in names) == [".json", ".mp4", ".png"]
    film = next(name for name in names if name.suffix == ".mp4")
    assert media.probe(film).frames == 18


def dreamontage(farm: Farm, *arguments: str) -> str:
    """The command line, in an environment that knows only where the farm is."""
    done = subprocess.run(
        python("-m", "flows.cli", *arguments),
        env=farm.settings.environment(COLUMNS="200"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_killed_shot_is_retried_from_the_ui_and_continues(
    farm: Farm, opened_farm: Any, write_board: WriteBoard
) -> None:
    steps = 40
    shot = {"name": "long", "duration": {"frames": 33}, "prompts": "zoom in"}
    (submitted,) = submit(
        opened_farm,
        write_board(shots=[shot], sampler={"steps": steps}, seed=int.from_bytes(os.urandom(4))),
    )
    deployment = farm.get("/deployments/name/render-shot/render-shot")["id"]
    run = farm.start(deployment, shot_id=f"{submitted.id}-s0")

    def begun() -> Any:
        take = opened_farm.repository.progress(submitted.id).shots[0].take
        row = take.segments[0].segment if take and take.segments else None
        return row if row is not None and row.checkpoint_step >= 8 else None

    row = await_that(begun, "two checkpoints")
    process = int(farm.run(run)["infrastructure_pid"])
    assert process in farm.pids_of_runs("gpu")
    os.kill(process, signal.SIGKILL)
    assert farm.wait(run)["state"]["type"] == "CRASHED"
    stored = opened_farm.repository.segment(row.key)
    assert stored.state is SegmentState.RUNNING, "the dead holder's lease runs on for a while"

    farm.set_state(run, type="SCHEDULED", name="AwaitingRetry")  # the UI's Retry
    ended = farm.wait(run, frozenset({"COMPLETED", "FAILED"}))
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    finished = opened_farm.repository.segment(row.key)
    assert finished.state is SegmentState.DONE
    assert finished.denoise_steps_run == steps
    message = f"{steps - stored.checkpoint_step} of {steps} denoise steps run"
    output = [each["state"]["message"] for each in task_runs(farm, run).values()]
    assert message in output, output


def test_a_shot_without_its_model_fails_and_says_so(
    farm: Farm, opened_farm: Any, write_board: WriteBoard
) -> None:
    """A fault in flight reaches the storyboard's row, by name, and finished work stays."""
    (submitted,) = submit(opened_farm, short_board(write_board, title="Faulty"))
    condition = opened_farm.repository.conditions(f"{submitted.id}-s1")[0]
    other = picture(Path(write_board()).parent / "other.png", 77)
    address = opened_farm.store.put("renditions", other, ".png")
    opened_farm.repository.add_condition(
        f"{submitted.id}-s1",
        0,
        kind=condition.kind,
        frame=0,
        frames=1,
        asset=condition.asset,
        rendition_address=address.replace("renditions/", "nowhere/"),
        rendition_spec=condition.rendition_spec,
    )
    run = start_storyboard(farm.settings, submitted.id)
    assert farm.wait(run)["state"]["type"] == "FAILED"
    storyboard = opened_farm.repository.storyboard(submitted.id)
    assert storyboard.state is StoryboardState.FAILED
    assert storyboard.error is not None
    assert "second" in storyboard.error
    assert "nowhere/" in storyboard.error
    # Mended, and retried in the UI: only the second shot is rendered.
    opened_farm.repository.add_condition(
        f"{submitted.id}-s1",
        0,
        kind=condition.kind,
        frame=0,
        frames=1,
        asset=condition.asset,
        rendition_address=condition.rendition_address,
        rendition_spec=condition.rendition_spec,
    )
    farm.set_state(run, type="SCHEDULED", name="AwaitingRetry")
    ended = farm.wait(run, frozenset({"COMPLETED"}))
    assert ended["run_count"] == 2


def test_the_night_renders_what_is_due(
    farm: Farm, opened_farm: Any, write_board: WriteBoard
) -> None:
    (due,) = submit(
        opened_farm, short_board(write_board, title="Due"), due_at=datetime(2020, 1, 1, tzinfo=UTC)
    )
    (later,) = submit(
        opened_farm,
        short_board(write_board, title="Later"),
        due_at=datetime(2100, 1, 1, tzinfo=UTC),
    )
    deployment = farm.get("/deployments/name/nightly/nightly")["id"]
    ended = farm.wait(farm.start(deployment))
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    assert opened_farm.repository.deliverables(due.id)
    assert opened_farm.repository.storyboard(later.id).state is StoryboardState.SUBMITTED
    assert due.id in artifacts(farm, "nightly")[0]["data"]


def test_a_storyboards_own_run_that_dies_is_run_again(
    farm: Farm, opened_farm: Any, write_board: WriteBoard
) -> None:
    """As after a reboot in the middle of a film: nobody has to ask for it."""
    shot = {"name": "long", "duration": {"frames": 33}, "prompts": "zoom in"}
    seed = int.from_bytes(os.urandom(4))
    (submitted,) = submit(opened_farm, write_board(shots=[shot], sampler={"steps": 20}, seed=seed))
    run = start_storyboard(farm.settings, submitted.id)
    await_that(lambda: opened_farm.repository.takes(f"{submitted.id}-s0"), "the shot to begin")
    process = int(farm.run(run)["infrastructure_pid"])
    assert process in farm.pids_of_runs("cpu")
    os.kill(process, signal.SIGKILL)
    farm.wait(run, frozenset({"CRASHED", "SCHEDULED"}))
    ended = farm.wait(run, frozenset({"COMPLETED", "FAILED"}))
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    assert ended["run_count"] == 2
    assert opened_farm.repository.deliverables(submitted.id)


def test_a_take_that_fails_the_gate_is_retaken(
    farm: Farm, opened_farm: Any, write_board: WriteBoard, tiny_ours: Path
) -> None:
    """With weights that are not marked as smoke, up to the limit; then a person is asked."""
    (submitted,) = submit(opened_farm, write_board())
    shot_id = f"{submitted.id}-s0"
    done = subprocess.run(
        python("-c", f"from flows.render import render_shot; print(render_shot({shot_id!r}))"),
        env=farm.settings.environment(
            DREAMONTAGE_WEIGHTS=str(tiny_ours),
            DREAMONTAGE_MAX_TAKES="2",
            PREFECT_API_URL=farm.api_url,
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "review"
    first, second = opened_farm.repository.takes(shot_id)
    assert (first.verdict, second.verdict) == (Verdict.RETAKE, Verdict.REVIEW)
    assert first.seed != second.seed
    assert opened_farm.repository.shot(shot_id).state is ShotState.REVIEW


def test_an_upscaled_shot_shows_its_stages(
    farm: Farm, opened_farm: Any, write_board: WriteBoard, tiny_ours: Path, tiny_sr: Path
) -> None:
    """Rendered by the flow itself, twice: the second time, all that there is to see is cached."""
    models = {"DREAMONTAGE_WEIGHTS": str(tiny_ours), "DREAMONTAGE_SR_WEIGHTS": str(tiny_sr)}
    settings = farm.settings.model_copy(update={"weights": tiny_ours, "sr_weights": tiny_sr})
    with farm_module.open_farm(settings) as tiny:
        (submitted,) = submit(tiny, write_board(upscale=1.5, seed=1215))
    code = (
        "from flows.render import render_shot\n"
        "for name in 'first', 'again':\n"
        f"    render_shot.with_options(flow_run_name=name)('{submitted.id}-s0')"
    )
    done = subprocess.run(
        python("-c", code),
        env=farm.settings.environment(
            **models, DREAMONTAGE_MAX_TAKES="1", PREFECT_API_URL=farm.api_url
        ),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    segments = {f"{name}-{n}-of-3" for name in ("segment", "upscale") for n in (1, 2, 3)}
    for name, state in (("first", "Completed"), ("again", "Cached")):
        (run,) = farm.post("/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}})
        tasks = task_runs(farm, run["id"])
        assert {tasks[each]["state"]["name"] for each in segments} == {state}
        (enlarged,) = (each for each in tasks.values() if each["name"] == "enlarge")
        assert enlarged["state"]["name"] == state
    output = dreamontage(farm, "status", submitted.id)
    assert "segment 3 done 6/6" in output
    assert "upscale 3 done 8/8" in output
