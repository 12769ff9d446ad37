"""The line as plain functions: on a real Postgres, a real store and a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from db.leases import LostLease
from db.states import DeliverableKind, SegmentState, ShotState, Verdict
from dreamontage import DreaMontagePipeline, media
from dreamontage.rendering import engine
from dreamontage.rendering.ledger import LostLatents
from dreamontage.rendering.take_plan import StaleTake
from dreamontage.scorer import DEFAULT_THRESHOLDS
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.prompt_syntax import write
from flows import steps
from flows.actions.submit import submit
from flows.steps.postgres_ledger import PostgresLedger
from flows.studio import model
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from storage import Torn

STEPS = 6


@pytest.fixture
def settings(database_url: str, tmp_path: Path, tiny_ours: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        weights=tiny_ours,
        database_url=database_url,
        lease_seconds=1.5,
        heartbeat_seconds=0.3,
        checkpoint_every=2,
    )


@pytest.fixture
def farm(settings: Settings) -> Iterator[Farm]:
    with open_farm(settings) as farm:
        for each in DEFAULT_THRESHOLDS:
            farm.repository.add_threshold(**vars(each))
        yield farm


def shot_of(farm: Farm, storyboard_id: str) -> str:
    (shot,) = farm.repository.shots(storyboard_id)
    return shot.id


def render(farm: Farm, storyboard_id: str, attempt: int = 0) -> int:
    """All of a shot's segments; how many denoise steps that took."""
    take = take_of(farm, storyboard_id, attempt)
    return sum(steps.render_segment(farm, take, each) for each in take.segments)


def take_of(farm: Farm, storyboard_id: str, attempt: int = 0) -> steps.FarmTake:
    return steps.begin_take(farm, shot_of(farm, storyboard_id), attempt)


def latents_of(farm: Farm, key: str) -> torch.Tensor:
    return PostgresLedger(farm).latents(key)


def test_a_storyboard_becomes_a_film(farm, write_board, tmp_path):
    (submitted,) = submit(farm, write_board())
    shot_id = shot_of(farm, submitted.id)
    take = steps.begin_take(farm, shot_id, 0)
    planned = take.segments
    assert [each.index for each in planned] == [0, 1, 2]
    told = []
    for each in planned:
        steps.render_segment(farm, take, each, progress=lambda *step: told.append(step))
    assert told == [(step, STEPS) for step in range(1, STEPS + 1)] * 3

    address = steps.decode_take(farm, take)
    mezzanine = farm.store.fetch(address, tmp_path / "take.mkv")
    assert media.frame_count(mezzanine) == 33
    judged = steps.gate_take(farm, take, takes_left=1)
    assert judged.verdict is Verdict.RETAKE, "random weights pass no gate"
    assert {score.name for score in farm.repository.scores(take.id)} >= {"keyframe_fidelity"}

    assembled = steps.assemble(farm, submitted.id)
    assert assembled.for_review
    found = {each.kind: each for each in farm.repository.deliverables(submitted.id)}
    film = farm.store.fetch(found[DeliverableKind.FILM].address, tmp_path / "film.mp4")
    info = media.probe(film)
    assert (info.frames, info.fps, info.width, info.height) == (33, 16, 80, 64)
    record = json.loads(farm.store.get(found[DeliverableKind.RECORD].address))
    assert record["model"]["revision"] == farm.base.revision
    assert record["shots"][0]["segments"][0]["key"] == planned[0].key
    assert record["shots"][0]["verdict"] == "retake"


def test_the_same_on_s3(settings, ministack_server, write_board, tmp_path):
    """Assets, latents, takes and deliverables in a bucket instead of a folder."""
    on_s3 = settings.model_copy(
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
        assert render(farm, submitted.id) == 3 * STEPS
        steps.decode_take(farm, take_of(farm, submitted.id))
        steps.assemble(farm, submitted.id)
        kinds = {stat.address.split("/")[0] for stat in farm.store.list()}
        # No checkpoints: each goes when the next one, or the finished latents, are in the rows.
        assert kinds == {"assets", "embeddings", "renditions", "latents", "takes", "deliverables"}
    assert not (on_s3.home / "store").exists()


def test_finished_segments_are_never_rendered_again(farm, write_board):
    """Neither on a retry, nor for a storyboard submitted twice, nor for a variant that shares
    its beginning: denoise steps are counted."""
    (first,) = submit(farm, write_board())
    assert render(farm, first.id) == 3 * STEPS
    assert render(farm, first.id) == 0
    (again,) = submit(farm, write_board("same", title="Another title"))
    assert render(farm, again.id) == 0

    board = yaml.safe_load(write_board().read_text())
    keyframes = board["shots"][0]["keyframes"]
    keyframes[2]["image"] = "still3.png"
    (other_end,) = submit(farm, write_board("end", shots=board["shots"]))
    assert render(farm, other_end.id) == STEPS, "only the window that sees the new still"
    (other_seed,) = submit(farm, write_board("seed", seed=6))
    assert render(farm, other_seed.id) == 3 * STEPS
    counted = {
        slot.key: farm.repository.segment(slot.key).denoise_steps_run
        for one in (first, again, other_end, other_seed)
        for slot in farm.repository.take_segments(f"{shot_of(farm, one.id)}-t0")
    }
    assert list(counted.values()) == [STEPS] * 7


def test_a_prompt_is_encoded_once_for_the_whole_farm(farm, write_board, monkeypatch):
    (first,) = submit(farm, write_board())
    take = steps.begin_take(farm, shot_of(farm, first.id), 0)
    assert steps.encode_prompts(farm, take) == 3, "a prompt a window"
    assert steps.encode_prompts(farm, take) == 0

    def refuse(weights: Path, device: str) -> None:
        raise AssertionError("the text encoder was loaded")

    monkeypatch.setattr(model, "load_text", refuse)
    assert render(farm, first.id) == 3 * STEPS
    (other,) = submit(farm, write_board("seed", seed=9))
    assert render(farm, other.id) == 3 * STEPS
    guided = {"sampler": {"guidance": 3.0}, "negative_prompt": "blur"}
    (new,) = submit(farm, write_board("guided", **guided))
    with pytest.raises(AssertionError, match="was loaded"):
        render(farm, new.id)


def test_a_storyboard_says_how_far_its_stills_lead(farm, write_board):
    latents = []
    for name, sampler in (("usual", {}), ("led", {"image_guidance": 2.0})):
        (new,) = submit(farm, write_board(name, sampler=sampler))
        assert render(farm, new.id) == 3 * STEPS
        first, *_ = farm.repository.take_segments(f"{shot_of(farm, new.id)}-t0")
        latents.append(latents_of(farm, first.key))
    assert not torch.allclose(*latents, atol=1e-2)


def test_variants_share_what_they_have_in_common(farm, write_board, tmp_path):
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(
        yaml.safe_dump(
            {
                "axes": {
                    "market": {
                        "uk": {"shots[0].keyframes[2].image": "still2.png"},
                        "de": {"shots[0].keyframes[2].image": "still3.png"},
                    }
                }
            },
            sort_keys=False,
        )
    )
    uk, de = submit(farm, write_board(), matrix=matrix)
    assert (uk.variant, de.variant) == ("uk", "de")
    assert render(farm, uk.id) == 3 * STEPS
    assert render(farm, de.id) == STEPS


_HOLD = """
import sys
from pathlib import Path
from flows import steps
from flows.studio.farm import open_farm
from flows.studio.settings import Settings
from tests.support.alignment import aligned_loads

settings = Settings.model_validate_json(sys.argv[1])
def stop_at(step, total):
    if step == 5:
        print("holding", flush=True)
        sys.stdin.read()
with open_farm(settings) as farm, aligned_loads():
    take = steps.begin_take(farm, sys.argv[2], 0)
    planned = take.segments[0]
    steps.render_segment(farm, take, planned, progress=stop_at)
"""


def test_a_killed_holders_segment_is_taken_over_from_its_checkpoint(farm, settings, write_board):
    (submitted,) = submit(farm, write_board())
    shot_id = shot_of(farm, submitted.id)
    take = steps.begin_take(farm, shot_id, 0)
    planned = take.segments[0]
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, settings.model_dump_json(), shot_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        row = farm.repository.segment(planned.key)
        assert row.state is SegmentState.RUNNING
        assert row.lease_holder != farm.holder
        assert row.checkpoint_step == 4
        os.kill(holder.pid, signal.SIGKILL)
        waited_for: list[str] = []
        run = steps.render_segment(farm, take, planned, waiting=waited_for.append)
        assert holder.stdin is not None
    assert waited_for == [row.lease_holder], "the lease of the dead is waited out, not stolen"
    assert run == 2, "step 5 is lost with its process, steps 1 to 4 are not"
    taken_over = latents_of(farm, planned.key)

    (fresh,) = submit(farm, write_board())
    row = farm.repository.segment(planned.key)
    assert row.denoise_steps_run == 6
    assert torch.equal(taken_over, uninterrupted(farm, fresh.id))


def straight_through(farm: Farm, storyboard_id: str, **options) -> torch.Tensor:
    """A shot's fused latents from one call of the pipeline, nothing stored between."""
    from dreamontage.rendering.take import load_condition
    from dreamontage.storyboard.placement import Placed

    board = steps.board_of(farm, storyboard_id)
    shot = farm.repository.shot(shot_of(farm, storyboard_id))
    conditions = []
    with farm.scratch() as folder:
        for row in farm.repository.conditions(shot.id):
            each = Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=row.frames)
            path = farm.store.fetch(row.rendition_address, folder / str(row.index))
            conditions.append(load_condition(each, path))
    pipe = DreaMontagePipeline.from_pretrained(farm.settings.weights)
    return pipe(
        prompt=write([(s.start, s.end, s.text) for s in board.shots[0].prompts]),
        conditions=conditions,
        height=64,
        width=80,
        num_frames=shot.frames,
        loop=board.shots[0].loop,
        seed=shot.seed,
        output_type="latent",
        **options,
    ).frames


def uninterrupted(farm: Farm, storyboard_id: str) -> torch.Tensor:
    """The first segment's latents, straight through the pipeline, nothing stored between."""
    from dreamontage.planning.segments import plan_shot
    from dreamontage.rendering.take import load_condition
    from dreamontage.storyboard.placement import Placed

    board = steps.board_of(farm, storyboard_id)
    shot = farm.repository.shot(shot_of(farm, storyboard_id))
    pipe = DreaMontagePipeline.from_pretrained(farm.settings.weights)
    conditions, placed = [], []
    with farm.scratch() as folder:
        for row in farm.repository.conditions(shot.id):
            each = Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=row.frames)
            path = farm.store.fetch(row.rendition_address, folder / str(row.index))
            placed.append(each)
            conditions.append(load_condition(each, path))
    plan = plan_shot(
        frames=shot.frames,
        fps=board.fps,
        prompts=board.shots[0].prompts,
        conditions=placed,
        seed=shot.seed,
        geometry=pipe.geometry,
    )
    states = pipe.denoise_segment(
        plan.segments[0],
        track=pipe.track(conditions, 64, 80),
        previous_BCLHW=None,
        height=64,
        width=80,
        sampler=pipe.sampler(),
    )
    return list(states)[-1].latents_BCLHW


def loop_board(write_board, name="loop", **shot):
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"name": "walk", "duration": {"frames": 32}, "keyframes": stills} | shot
    return write_board(name, shots=[shot])


def test_a_loop_is_closed_on_the_farm(farm, settings, write_board, tmp_path):
    """Its closing segment is given the first one's latents, from the store, whoever made them."""
    (straight,) = submit(farm, loop_board(write_board, "straight"))
    assert render(farm, straight.id) == 3 * STEPS
    (looping,) = submit(farm, loop_board(write_board, loop=True))
    take = steps.begin_take(farm, shot_of(farm, looping.id), 0)
    planned = take.segments
    assert [steps.render_segment(farm, take, each) for each in planned] == [0, 0, STEPS], (
        "all but the closing segment are those of the shot that does not loop"
    )
    whole = latents_of(farm, planned[-1].key)
    film = straight_through(farm, looping.id)
    # The closing window: latents 6, 7 and 8, and one that is latent 1 again.
    assert torch.equal(whole[:, :, 1:3], film[:, :, 7:])

    mezzanine = farm.store.fetch(steps.decode_take(farm, take), tmp_path / "take.mkv")
    assert media.frame_count(mezzanine) == 32
    steps.gate_take(farm, take, takes_left=0)
    (seam,) = (score for score in farm.repository.scores(take.id) if score.name == "seam")
    assert "the loop's end" in seam.detail
    steps.assemble(farm, looping.id)
    record = next(
        json.loads(farm.store.get(each.address))
        for each in farm.repository.deliverables(looping.id)
        if each.kind is DeliverableKind.RECORD
    )
    assert record["shots"][0]["loop"] is True

    # Resumed in the middle, after its head was lost and made again: the same bits.
    row = farm.repository.segment(planned[-1].key)
    farm.store.delete(row.latents_address)
    with pytest.raises(LostLatents):
        latents_of(farm, planned[-1].key)

    def stop(step: int, total: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.render_segment(farm, take, planned[-1], progress=stop)
    head = farm.repository.segment(planned[0].key)
    farm.store.delete(head.latents_address)
    assert steps.render_segment(farm, take, planned[-1]) == 2, "the closing one from step 4 on"
    assert farm.repository.segment(planned[0].key).denoise_steps_run == 2 * STEPS, "and the head"
    assert torch.equal(latents_of(farm, planned[-1].key), whole)


def test_a_drafted_shot_is_rendered_resumed_and_recorded(farm, write_board, tmp_path):
    (plain,) = submit(farm, write_board())
    assert render(farm, plain.id) == 3 * STEPS
    board = yaml.safe_load(write_board().read_text())
    (shot,) = board["shots"]
    for name, draft in (("auto", {"draft": "auto"}), ("video", {"draft": "animatic.mkv"})):
        path = write_board(name, shots=[shot | draft | {"strength": 0.8}])
        if name == "video":
            pictures = [media.read_image(path.parent / f"still{n % 3}.png") for n in range(33)]
            film = path.parent / "animatic.mkv"
            with media.Encoder(film, width=80, height=64, fps=16, profile="mezzanine") as encoder:
                for picture in pictures:
                    encoder.write(picture)
        (submitted,) = submit(farm, path)
        take = steps.begin_take(farm, shot_of(farm, submitted.id), 0)
        planned = take.segments
        assert not {each.key for each in planned} & {
            slot.key for slot in farm.repository.take_segments(f"{shot_of(farm, plain.id)}-t0")
        }

        def stop(step: int, total: int) -> None:
            if step == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            steps.render_segment(farm, take, planned[0], progress=stop)
        assert farm.repository.segment(planned[0].key).checkpoint_step == 4
        assert steps.render_segment(farm, take, planned[0]) == 2
        whole = straight_through(
            farm,
            submitted.id,
            draft="auto" if name == "auto" else pictures,
            strength=0.8,
        )
        made = latents_of(farm, planned[0].key)
        assert torch.equal(made[:, :, :3], whole[:, :, :3])
        assert 0 < render(farm, submitted.id) < 2 * STEPS, "from the strength's step on"
        steps.decode_take(farm, take)
        steps.assemble(farm, submitted.id)
        found = {each.kind: each for each in farm.repository.deliverables(submitted.id)}
        record = json.loads(farm.store.get(found[DeliverableKind.RECORD].address))
        told = record["shots"][0]["draft"]
        assert (told["kind"], told["strength"]) == (name, 0.8)
        assert (told["asset"] is not None) == (name == "video")


def test_a_loop_too_short_for_the_model_is_refused_at_the_door(farm, write_board):
    path = loop_board(write_board, loop=True, duration={"frames": 8}, keyframes=[])
    with pytest.raises(StoryboardError, match=r"duration = 8 frames: too short for a loop"):
        submit(farm, path)
    assert farm.repository.recent_storyboards(5) == []


def test_a_failed_segment_says_why_and_is_free_at_once(farm, write_board):
    (submitted,) = submit(farm, write_board())
    take = steps.begin_take(farm, shot_of(farm, submitted.id), 0)
    planned = take.segments[0]
    (rendition,) = farm.repository.conditions(shot_of(farm, submitted.id))[:1]
    path = farm.settings.home / "store" / rendition.rendition_address
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1])
    with pytest.raises(Torn):
        steps.render_segment(farm, take, planned)
    row = farm.repository.segment(planned.key)
    assert row.state is SegmentState.FAILED
    assert "Torn" in row.error
    path.write_bytes(whole)
    assert steps.render_segment(farm, take, planned) == STEPS


def tear(farm: Farm, address: str) -> None:
    path = farm.settings.home / "store" / address
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 0xFF]))


def test_what_is_lost_from_the_store_is_made_again(farm, write_board):
    """Latents and mezzanines: what is lost costs itself, whatever it is, and needs nobody."""
    (submitted,) = submit(farm, write_board())
    render(farm, submitted.id)
    take = take_of(farm, submitted.id)
    whole = [latents_of(farm, key) for key in take.plan.keys]
    for key in take.plan.keys[1:]:
        farm.store.delete(farm.repository.segment(key).latents_address)
    tear(farm, farm.repository.segment(take.plan.keys[0]).latents_address)
    address = steps.decode_take(farm, take)
    assert all(
        torch.equal(latents_of(farm, key), before)
        for key, before in zip(take.plan.keys, whole, strict=True)
    )
    run = [farm.repository.segment(key).denoise_steps_run for key in take.plan.keys]
    assert run == [2 * STEPS] * 3, "each once more, in one call"

    tear(farm, address)
    with pytest.raises(steps.LostFrames):
        steps.gate_take(farm, take, takes_left=0)
    assert steps.decode_take(farm, take) == address
    steps.gate_take(farm, take, takes_left=0)


def test_a_segment_renders_what_is_lost_before_it(farm, write_board):
    """A worker that needs a tail that is gone makes it, and what that one needs, itself."""
    (submitted,) = submit(farm, write_board())
    take = take_of(farm, submitted.id)
    for each in take.segments[:2]:
        steps.render_segment(farm, take, each)
    for each in take.segments[:2]:
        farm.store.delete(farm.repository.segment(each.key).latents_address)
    assert steps.render_segment(farm, take, take.segments[2]) == STEPS
    counted = [farm.repository.segment(key).denoise_steps_run for key in take.plan.keys]
    assert counted == [2 * STEPS, 2 * STEPS, STEPS]


def test_a_lost_checkpoint_costs_its_steps_and_no_more(farm, settings, write_board):
    (submitted,) = submit(farm, write_board())
    take = steps.begin_take(farm, shot_of(farm, submitted.id), 0)
    planned = take.segments[0]

    def stop(step: int, total: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.render_segment(farm, take, planned, progress=stop)
    row = farm.repository.segment(planned.key)
    assert row.checkpoint_step == 4
    farm.store.delete(row.checkpoint_address)
    assert steps.render_segment(farm, take, planned) == STEPS


def test_new_weights_are_never_mixed_with_old_ones(farm, settings, write_board, tmp_path):
    """A model folder that changes under a running farm: other keys, and another film."""
    weights = tmp_path / "weights"
    shutil.copytree(settings.weights, weights)
    (submitted,) = submit(farm, write_board())
    films = []
    for edit in (1.0, 1.5):
        index = json.loads((weights / "scheduler" / "scheduler_config.json").read_text())
        index["flow_shift"] = edit * 3
        (weights / "scheduler" / "scheduler_config.json").write_text(json.dumps(index))
        with open_farm(settings.model_copy(update={"weights": weights})) as changed:
            assert render(changed, submitted.id) == 3 * STEPS
            films.append(steps.decode_take(changed, take_of(changed, submitted.id)))
    assert films[0] != films[1]


def with_speed(settings: Settings, speed: str) -> Settings:
    return settings.model_copy(update={"speed": speed})


def test_exact_speed_options_find_finished_work_and_others_make_their_own(
    farm, settings, write_board
):
    (submitted,) = submit(farm, write_board())
    assert render(farm, submitted.id) == 3 * STEPS
    plain = [
        slot.key for slot in farm.repository.take_segments(f"{shot_of(farm, submitted.id)}-t0")
    ]
    with open_farm(with_speed(settings, "{attention: native, group_offload: leaf}")) as exact:
        assert render(exact, submitted.id) == 0
    rounded = with_speed(settings, "attention: _native_math")
    with open_farm(rounded) as other:
        assert render(other, submitted.id) == 3 * STEPS, "another kernel rounds otherwise"
        others = [
            slot.key for slot in farm.repository.take_segments(f"{shot_of(farm, submitted.id)}-t0")
        ]
        assert not set(plain) & set(others)
        one, two = (latents_of(farm, keys[0]) for keys in (plain, others))
        assert not torch.equal(one, two), "it was really set up"
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
        steps.decode_take(other, take_of(other, submitted.id))
        steps.assemble(other, submitted.id)
    record = next(
        json.loads(farm.store.get(each.address))
        for each in farm.repository.deliverables(submitted.id)
        if each.kind is DeliverableKind.RECORD
    )
    assert record["model"]["speed"] == [
        {"option": "attention", "setting": "_native_math", "exactness": "exact to rounding"}
    ]
    assert render(farm, submitted.id) == 0, "and without it the first ones are found again"


def test_a_segment_with_a_step_cache_restarts_from_its_first_step(farm, settings, write_board):
    """What the cache held is not in a stored state: none is stored, none is gone on from."""
    (submitted,) = submit(farm, write_board())
    with open_farm(with_speed(settings, "step_cache: {first_block: {threshold: 0.2}}")) as cached:
        take = steps.begin_take(cached, shot_of(farm, submitted.id), 0)
        planned = take.segments[0]

        def stop(step: int, total: int) -> None:
            if step == 5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            steps.render_segment(cached, take, planned, progress=stop)
        row = farm.repository.segment(planned.key)
        assert (row.checkpoint_step, row.checkpoint_address) == (0, None)
        assert steps.render_segment(cached, take, planned) == STEPS
        broken_off = latents_of(farm, planned.key)
        farm.store.delete(farm.repository.segment(planned.key).latents_address)
        with pytest.raises(LostLatents):
            latents_of(farm, planned.key)
        assert steps.render_segment(cached, take, planned) == STEPS
        assert torch.equal(latents_of(farm, planned.key), broken_off)


def test_what_this_machine_cannot_do_fails_the_segment_and_says_so(farm, settings, write_board):
    (submitted,) = submit(farm, write_board())
    with open_farm(with_speed(settings, "attention: flash")) as wrong:
        take = steps.begin_take(wrong, shot_of(farm, submitted.id), 0)
        planned = take.segments[0]
        with pytest.raises(ValueError, match="attention = 'flash' needs CUDA"):
            steps.render_segment(wrong, take, planned)
    assert "needs CUDA" in farm.repository.segment(planned.key).error


def test_a_late_worker_cannot_store_an_old_models_frames(
    farm, settings, write_board, tmp_path, monkeypatch
):
    """While it decodes, the model folder changes and the take is planned anew."""
    weights = tmp_path / "weights"
    shutil.copytree(settings.weights, weights)
    scheduler = weights / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"flow_shift": 4.0}))
    (submitted,) = submit(farm, write_board())
    shot_id = shot_of(farm, submitted.id)
    render(farm, submitted.id)
    take = take_of(farm, submitted.id)
    with open_farm(settings.model_copy(update={"weights": weights})) as changed:
        write_take = engine.write_take

        def slowly(*args: Any, **kwargs: Any) -> Path:
            written = write_take(*args, **kwargs)
            steps.begin_take(changed, shot_id, 0)
            return written

        with monkeypatch.context() as patched:
            patched.setattr(engine, "write_take", slowly)
            with pytest.raises(StaleTake, match="made of other segments by now"):
                steps.decode_take(farm, take)
        assert farm.repository.take(take.id).mezzanine_address is None
        with pytest.raises(steps.LostFrames, match="has no frames"):
            steps.gate_take(farm, take, takes_left=0)
        assert render(changed, submitted.id) == 3 * STEPS
        steps.decode_take(changed, take_of(changed, submitted.id))


def test_a_take_is_not_rendered_by_another_model_than_it_was_planned_for(
    farm, settings, write_board, tmp_path
):
    """Planned with one model folder, rendered with another: no latents under a wrong key."""
    weights = tmp_path / "weights"
    shutil.copytree(settings.weights, weights)
    scheduler = weights / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"flow_shift": 4.0}))
    (submitted,) = submit(farm, write_board())
    take = take_of(farm, submitted.id)
    with open_farm(settings.model_copy(update={"weights": weights})) as changed:
        with pytest.raises(StaleTake, match="was planned for another model"):
            steps.render_segment(changed, take, take.segments[0])
        row = farm.repository.segment(take.segments[0].key)
        assert (row.state, row.error, row.latents_address) == (SegmentState.WAITING, None, None)
        again = take_of(changed, submitted.id)
        assert not set(again.plan.keys) & set(take.plan.keys)
        assert render(changed, submitted.id) == 3 * STEPS
    render(farm, submitted.id)
    with (
        open_farm(settings.model_copy(update={"weights": weights})) as changed,
        pytest.raises(StaleTake, match="was planned for another model"),
    ):
        steps.decode_take(changed, take_of(farm, submitted.id))


def test_a_worker_that_lost_its_lease_writes_nothing(farm, write_board):
    (submitted,) = submit(farm, write_board())
    take = steps.begin_take(farm, shot_of(farm, submitted.id), 0)
    planned = take.segments[0]

    def robbed(step: int, total: int) -> None:
        # As a worker that was stopped for longer than its lease finds things.
        if step == 1:
            with farm.repository._engine.begin() as connection:
                connection.exec_driver_sql("UPDATE segments SET lease_token = lease_token + 1")

    with pytest.raises(LostLease):
        steps.render_segment(farm, take, planned, progress=robbed)
    assert farm.repository.segment(planned.key).checkpoint_address is None


def test_takes_follow_each_other(farm, write_board):
    (submitted,) = submit(farm, write_board())
    shot_id = shot_of(farm, submitted.id)
    assert steps.next_attempt(farm, shot_id) == 0
    render(farm, submitted.id)
    assert steps.next_attempt(farm, shot_id) == 0, "a take that was begun is gone on with"
    take = take_of(farm, submitted.id)
    steps.decode_take(farm, take)
    assert steps.gate_take(farm, take, takes_left=1).verdict is Verdict.RETAKE
    assert steps.next_attempt(farm, shot_id) == 1
    seeds = {take_of(farm, submitted.id, attempt).segments[0].key for attempt in (0, 1)}
    assert len(seeds) == 2, "a retake has another seed, so other segments"
    assert farm.repository.shot(shot_id).state is ShotState.RENDERING


def test_errors_in_assets_are_reported_together_and_nothing_is_stored(farm, write_board):
    path = write_board()
    (path.parent / "still1.png").write_bytes(b"rubbish")
    board = yaml.safe_load(path.read_text())
    board["shots"][0]["clips"] = [{"video": "still0.png", "frame": 20}]
    path.write_text(yaml.safe_dump(board))
    with pytest.raises(StoryboardError) as error:
        submit(farm, path)
    fields = [field_error.field for field_error in error.value.errors]
    assert fields == ["shots[0].clips[0].video", "shots[0].keyframes[1].image"]
    assert farm.repository.recent_storyboards(5) == []


def test_the_same_storyboard_gives_the_same_film(settings, write_board, tmp_path, postgres):
    """Determinism, to the byte, through two farms that share nothing."""
    films = []
    for name in ("one", "two"):
        url = postgres.createdb(name, template="migrated")
        own = settings.model_copy(update={"home": tmp_path / name, "database_url": url})
        with open_farm(own) as farm:
            (submitted,) = submit(farm, write_board())
            assert render(farm, submitted.id) == 3 * STEPS
            take = steps.decode_take(farm, take_of(farm, submitted.id))
            steps.assemble(farm, submitted.id)
            deliverables = farm.repository.deliverables(submitted.id)
            (film,) = (each for each in deliverables if each.kind is DeliverableKind.FILM)
            # An address is the digest of the bytes.
            films.append((take, film.address))
        postgres.dropdb(name)
    assert films[0] == films[1]
