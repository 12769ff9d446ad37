"""The farm's part of ``make.py``, with the code of commit dbc79fb: a database and a store in which
one storyboard is finished and two are stopped.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from db import migrate
from db.binaries import find_binaries
from db.embedded import EmbeddedPostgres
from db.states import DeliverableKind, SegmentState, ShotState, Stage, StoryboardState
from dreamontage.scorer import DEFAULT_THRESHOLDS, Threshold
from flows import steps
from flows.farm import Farm, open_farm
from flows.settings import Settings
from flows.steps import segments as segment_steps
from flows.submit import submit

BOARDS = ("walk", "large", "guided")


@contextmanager
def farm_of(out: Path, home: Path, url: str) -> Iterator[Farm]:
    settings = Settings(
        home=home,
        weights=out / "models" / "base",
        sr_weights=out / "models" / "sr",
        database_url=url,
        lease_seconds=1.5,
        heartbeat_seconds=0.3,
        checkpoint_every=2,
    )
    with open_farm(settings) as farm:
        yield farm


def finish(farm: Farm, storyboard_id: str) -> dict[str, list[int]]:
    """What the flows do for a storyboard, shot by shot; the steps that each segment ran here."""
    run = {}
    if farm.repository.storyboard(storyboard_id).state is StoryboardState.SUBMITTED:
        farm.repository.set_storyboard_state(storyboard_id, StoryboardState.RENDERING)
    for shot in farm.repository.shots(storyboard_id):
        planned = steps.plan_take(farm, shot.id, 0)
        steps.encode_prompts(farm, planned[0].take_id)
        run[shot.id] = [steps.render_segment(farm, each) for each in planned]
        steps.decode_take(farm, planned[0].take_id)
        steps.gate_take(farm, planned[0].take_id, takes_left=0)
        farm.repository.set_shot_state(shot.id, ShotState.DONE)
    steps.assemble(farm, storyboard_id)
    farm.repository.set_storyboard_state(storyboard_id, StoryboardState.DONE)
    return run


def render_until(farm: Farm, planned: steps.PlannedSegment, last: int) -> None:
    """Render a segment, and be interrupted after step number ``last``."""

    def stop(step: int, total: int) -> None:
        if step == last:
            raise KeyboardInterrupt

    try:
        steps.render_segment(farm, planned, progress=stop)
    except KeyboardInterrupt:
        return
    raise AssertionError("it was not interrupted")


def stop_guided(farm: Farm, storyboard_id: str) -> None:
    """As `dreamontage down` stops it: the lease is given back, with a checkpoint after step 4."""
    farm.repository.set_storyboard_state(storyboard_id, StoryboardState.RENDERING)
    (shot,) = farm.repository.shots(storyboard_id)
    planned = steps.plan_take(farm, shot.id, 0)
    steps.encode_prompts(farm, planned[0].take_id)
    steps.render_segment(farm, planned[0])
    render_until(farm, planned[1], 5)
    row = farm.repository.segment(planned[1].key)
    assert (row.state, row.checkpoint_step) == (SegmentState.WAITING, 4)


def kill_large(farm: Farm, storyboard_id: str) -> None:
    """As a power cut stops it, in the second window of the super-resolution stage: the lease is
    not given back, and has run out by the time that the database is read again."""
    farm.repository.set_storyboard_state(storyboard_id, StoryboardState.RENDERING)
    (shot,) = farm.repository.shots(storyboard_id)
    planned = steps.plan_take(farm, shot.id, 0)
    steps.encode_prompts(farm, planned[0].take_id)
    large = [each for each in planned if each.stage is Stage.UPSCALE]
    for each in planned:
        if each.stage is Stage.BASE:
            steps.render_segment(farm, each)
    steps.enlarge_take(farm, planned[0].take_id)
    steps.render_segment(farm, large[0])
    give_up = segment_steps._give_up
    segment_steps._give_up = lambda farm, lease, error: None
    try:
        render_until(farm, large[1], 7)
    finally:
        segment_steps._give_up = give_up
    row = farm.repository.segment(large[1].key)
    assert (row.state, row.checkpoint_step) == (SegmentState.RUNNING, 6)
    assert row.enlarged_address is not None


def limits_that_pass(threshold: Threshold) -> dict[str, float | None]:
    """Random weights pass no gate, and a film that passed is to be in here."""
    return {
        name: None if value is None else -1e6 if name.endswith("below") else 1e6
        for name, value in vars(threshold).items()
        if name != "name"
    }


def told(farm: Farm, storyboard_id: str, board: str, folder: Path) -> dict[str, Any]:
    """What a finished storyboard has come to; its film and its record go into ``folder``."""
    deliverables = {each.kind: each for each in farm.repository.deliverables(storyboard_id)}
    film = farm.store.fetch(deliverables[DeliverableKind.FILM].address, folder / f"{board}.mp4")
    farm.store.fetch(deliverables[DeliverableKind.RECORD].address, folder / f"{board}.json")
    takes = [
        take
        for shot in farm.repository.shots(storyboard_id)
        for take in farm.repository.takes(shot.id)
    ]
    slots = [slot for take in takes for slot in farm.repository.take_segments(take.id)]
    return {
        "id": storyboard_id,
        "board": f"{board}.yaml",
        "film": sha256(film),
        "film_name": deliverables[DeliverableKind.FILM].info["name"],
        "latents": {
            slot.key: latents_digest({"latents": steps.latents_of(farm, slot.key)})
            for slot in slots
        },
    }


def make_farm(out: Path) -> dict[str, Any]:
    # Rows name who holds a segment, by host and process: not those of the machine this ran on.
    Farm.holder = property(lambda self: "studio:4242")  # type: ignore[assignment, method-assign]
    work = Path(tempfile.mkdtemp(prefix="dm test "))
    work.chmod(0o755)
    server = EmbeddedPostgres(work / "postgres", fsync_off=True)
    try:
        server.start()
        url = server.createdb("old")
        migrate.upgrade(url)
        with farm_of(out, work / "home", url) as farm:
            for each in DEFAULT_THRESHOLDS:
                farm.repository.add_threshold(each.name, **limits_that_pass(each))
            ids = {name: submit(farm, out / "boards" / f"{name}.yaml")[0].id for name in BOARDS}
            farm.repository.set_flow_run(ids["walk"], "3f0f5c52-5a54-4f0e-9f6a-0d6f6f5c1b11")
            run = {"walk": finish(farm, ids["walk"])}
            stop_guided(farm, ids["guided"])
            kill_large(farm, ids["large"])
            unfinished = {
                name: [
                    slot.key
                    for shot in farm.repository.shots(ids[name])
                    for slot in farm.repository.take_segments(f"{shot.id}-t0")
                    if farm.repository.segment(slot.key).state is not SegmentState.DONE
                ]
                for name in ("guided", "large")
            }
        dump(server, "old", out / "database.sql")
        shutil.copytree(work / "home" / "store", out / "store")
        shutil.rmtree(out / "store" / ".incoming")
        for path in (out / "store").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)

        # The rest of the story, on a copy: what the same code makes of it when it goes on.
        (expected := out / "expected").mkdir()
        with farm_of(out, work / "home", server.createdb("later", template="old")) as farm:
            found = {}
            for name in ("walk", "guided", "large"):
                if name != "walk":
                    run[name] = finish(farm, ids[name])
                found[name] = told(farm, ids[name], name, expected)
                found[name]["steps_run"] = run[name]
                found[name]["steps_to_run"] = (
                    0 if name == "walk" else sum(sum(each) for each in run[name].values())
                )
                found[name]["unfinished"] = unfinished.get(name, [])
        # And never stopped at all, in a farm of its own: the same films.
        fresh = server.createdb("fresh")
        migrate.upgrade(fresh)
        with farm_of(out, work / "fresh", fresh) as farm:
            for name in ("guided", "large"):
                (again,) = submit(farm, out / "boards" / f"{name}.yaml")
                finish(farm, again.id)
                (folder := work / f"fresh {name}").mkdir()
                whole = told(farm, again.id, name, folder)
                assert whole["latents"] == found[name]["latents"], name
                assert whole["film"] == found[name]["film"], name
    finally:
        server.delete()
        shutil.rmtree(work)
    return found


def dump(server: EmbeddedPostgres, database: str, path: Path) -> None:
    """The tables and their rows, as statements that any Postgres takes over any driver."""
    url = server.url(database).replace("postgresql+psycopg", "postgresql")
    options = ("--column-inserts", "--no-owner", "--no-privileges", "--no-comments")
    text = subprocess.run(
        [find_binaries()[0].bin / "pg_dump", *options, url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # Settings of one version of Postgres, and commands of psql's own.
    dropped = ("--", "SET ", "SELECT pg_catalog.set_config", "\\")
    kept = [line for line in text.splitlines() if line and not line.startswith(dropped)]
    path.write_text("\n".join(kept) + "\n")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def latents_digest(tensors: dict[str, torch.Tensor]) -> str:
    """sha256 of the raw float32 values."""
    return hashlib.sha256(tensors["latents"].contiguous().numpy().tobytes()).hexdigest()
