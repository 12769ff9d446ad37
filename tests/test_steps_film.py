"""The farm's steps make a film of a storyboard, on a folder and on S3, each time the same."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

from db.embedded import EmbeddedPostgres
from db.states import DeliverableKind, ShotState, Verdict
from dreamontage import media
from dreamontage.storyboard.errors import StoryboardError
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    render_shot,
    shot_of,
    take_of,
)
from tests.support.s3 import S3Server


def test_a_storyboard_becomes_a_film(
    steps_farm: Farm, write_board: WriteBoard, tmp_path: Path
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    shot_id = shot_of(steps_farm, submitted.id)
    take = steps.begin_take(steps_farm, shot_id, 0)
    planned = take.segments
    assert [each.index for each in planned] == [0, 1, 2]
    calls: list[tuple[int, int]] = []
    for each in planned:
        steps.render_segment(steps_farm, take, each, progress=lambda *step: calls.append(step))
    assert calls == [(step, STEPS) for step in range(1, STEPS + 1)] * 3

    address = steps.decode_take(steps_farm, take)
    mezzanine = steps_farm.store.fetch(address, tmp_path / "take.mkv")
    assert media.frame_count(mezzanine) == 33
    judged = steps.gate_take(steps_farm, take, takes_left=1)
    assert judged.verdict is Verdict.RETAKE, "random weights pass no gate"
    assert {score.name for score in steps_farm.repository.scores(take.id)} >= {"keyframe_fidelity"}

    assembled = steps.assemble(steps_farm, submitted.id)
    assert assembled.for_review
    found = {each.kind: each for each in steps_farm.repository.deliverables(submitted.id)}
    film = steps_farm.store.fetch(found[DeliverableKind.FILM].address, tmp_path / "film.mp4")
    info = media.probe(film)
    assert (info.frames, info.fps, info.width, info.height) == (33, Fraction(16), 80, 64)
    record = json.loads(steps_farm.store.get(found[DeliverableKind.RECORD].address))
    assert record["model"]["revision"] == steps_farm.base.revision
    assert record["shots"][0]["segments"][0]["key"] == planned[0].key
    assert record["shots"][0]["verdict"] == "retake"


def test_the_same_on_s3(
    steps_settings: Settings, ministack_server: S3Server, write_board: WriteBoard, tmp_path: Path
) -> None:
    """Assets, latents, takes and deliverables in a bucket instead of a folder."""
    on_s3 = steps_settings.model_copy(
        update={
            "s3_endpoint": ministack_server.endpoint,
            "s3_access_key": ministack_server.access_key,
            "s3_secret_key": ministack_server.secret_key,
            "s3_secure": False,
            "s3_bucket": "films",
        }
    )
    with open_farm(on_s3) as farm:
        (submitted,) = submit(farm, write_board())
        assert render_shot(farm, submitted.id) == 3 * STEPS
        steps.decode_take(farm, take_of(farm, submitted.id))
        steps.assemble(farm, submitted.id)
        kinds = {stat.address.split("/")[0] for stat in farm.store.list()}
        # No checkpoints: each goes when the next one, or the finished latents, are in the rows.
        assert kinds == {"assets", "embeddings", "renditions", "latents", "takes", "deliverables"}
    assert not (on_s3.home / "store").exists()


def test_the_same_storyboard_gives_the_same_film(
    steps_settings: Settings, write_board: WriteBoard, tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    """Determinism, to the byte, through two farms that share nothing."""
    films = []
    for name in ("one", "two"):
        url = postgres.createdb(name, template="migrated")
        own = steps_settings.model_copy(update={"home": tmp_path / name, "database_url": url})
        with open_farm(own) as farm:
            (submitted,) = submit(farm, write_board())
            assert render_shot(farm, submitted.id) == 3 * STEPS
            take = steps.decode_take(farm, take_of(farm, submitted.id))
            steps.assemble(farm, submitted.id)
            deliverables = farm.repository.deliverables(submitted.id)
            (film,) = (each for each in deliverables if each.kind is DeliverableKind.FILM)
            # An address is the digest of the bytes.
            films.append((take, film.address))
        postgres.dropdb(name)
    assert films[0] == films[1]


def test_takes_follow_each_other(steps_farm: Farm, write_board: WriteBoard) -> None:
    (submitted,) = submit(steps_farm, write_board())
    shot_id = shot_of(steps_farm, submitted.id)
    assert steps.next_attempt(steps_farm, shot_id) == 0
    render_shot(steps_farm, submitted.id)
    assert steps.next_attempt(steps_farm, shot_id) == 0, "a take that has begun continues"
    take = take_of(steps_farm, submitted.id)
    steps.decode_take(steps_farm, take)
    assert steps.gate_take(steps_farm, take, takes_left=1).verdict is Verdict.RETAKE
    assert steps.next_attempt(steps_farm, shot_id) == 1
    seeds = {take_of(steps_farm, submitted.id, attempt).segments[0].key for attempt in (0, 1)}
    assert len(seeds) == 2, "a retake has another seed, so other segments"
    assert steps_farm.repository.shot(shot_id).state is ShotState.RENDERING


def test_errors_in_assets_are_reported_together_and_nothing_is_stored(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    path = write_board()
    (path.parent / "still1.png").write_bytes(b"rubbish")
    board = yaml.safe_load(path.read_text())
    board["shots"][0]["clips"] = [{"video": "still0.png", "frame": 20}]
    path.write_text(yaml.safe_dump(board))
    with pytest.raises(StoryboardError) as error:
        submit(steps_farm, path)
    fields = [field_error.field for field_error in error.value.errors]
    assert fields == ["shots[0].clips[0].video", "shots[0].keyframes[1].image"]
    assert steps_farm.repository.recent_storyboards(5) == []
