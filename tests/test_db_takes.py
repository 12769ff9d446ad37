"""Takes in the database: plans, frames, scores, verdicts, and refused late writes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest

from db.leases import SegmentSlot
from db.repository import Repository
from db.states import (
    TakeState,
    Verdict,
)
from db.takes import ScoreRow, StaleTake
from tests.support.rows import HILL, SHOT, TAKE, add_board, add_take, slots


def test_a_take_started_twice_is_one_take_wherever_it_is(repository: Repository) -> None:
    add_take(repository)
    repository.finish_take(TAKE, "mezzanines/aa/m.mkv", segment_keys=[])
    again = repository.start_take(SHOT, 0, 2**63 - 1)
    assert (again.id, again.state) == (TAKE, TakeState.RENDERED)
    assert [take.attempt for take in repository.takes(SHOT)] == [0]
    with pytest.raises(ValueError, match="cannot start with 5"):
        repository.start_take(SHOT, 0, 5)


def test_a_take_is_judged_and_judged_again(repository: Repository) -> None:
    add_take(repository)
    address = "mezzanines/aa/m.mkv"
    repository.finish_take(TAKE, address, segment_keys=[])
    for value, verdict in ((31.5, Verdict.RETAKE), (33.0, Verdict.PASS)):
        scores = [
            ScoreRow(name="keyframe_psnr", value=value, frame=80, detail="rgb"),
            ScoreRow(name="cuts", value=0),
        ]
        repository.judge_take(TAKE, verdict, [], scores, mezzanine_address=address)
    first, second = repository.scores(TAKE)
    assert (first.name, first.value, first.frame, first.detail) == (
        "keyframe_psnr",
        33.0,
        80,
        "rgb",
    )
    assert (second.name, second.frame) == ("cuts", None)
    take = repository.take(TAKE)
    assert (take.verdict, take.reasons) == (Verdict.PASS, [])


def test_frames_that_a_take_has_not_any_more_are_not_judged(repository: Repository) -> None:
    add_take(repository)
    with pytest.raises(StaleTake, match=f"{TAKE} has not the frames"):
        repository.judge_take(TAKE, Verdict.PASS, [], [], mezzanine_address="takes/aa/m.mkv")
    judged_take(repository)
    with pytest.raises(StaleTake):
        repository.judge_take(TAKE, Verdict.PASS, [], [], mezzanine_address="takes/aa/older.mkv")
    assert_judged(repository)


@pytest.mark.parametrize("keys", [("a", "c"), ("a",), ("b", "a"), ()])
def test_a_late_worker_cannot_store_an_old_plans_frames(
    repository: Repository, keys: tuple[str, ...]
) -> None:
    """It began to decode before the take was planned anew, with another model."""
    add_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b"))
    with pytest.raises(StaleTake, match=f"{TAKE} is made of other segments"):
        repository.finish_take(TAKE, "takes/aa/old.mkv", segment_keys=[key * 64 for key in keys])
    assert_open(repository)


def test_finishing_a_take_waits_for_a_plan_that_is_being_written(
    repository: Repository, database_url: str
) -> None:
    """No other plan can be stored between the slow worker's read of the plan and its write."""
    add_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b"))
    plain = database_url.replace("+psycopg", "")
    with psycopg.connect(plain) as session:  # a plan, half written
        session.execute("UPDATE takes SET state = 'rendering' WHERE id = %s", [TAKE])
        with ThreadPoolExecutor(1) as pool:
            finishing = pool.submit(
                repository.finish_take, TAKE, "takes/aa/old.mkv", segment_keys=["a" * 64, "b" * 64]
            )
            with pytest.raises(TimeoutError):
                finishing.result(0.3)
            session.execute("DELETE FROM take_segments WHERE take_id = %s AND index = 1", [TAKE])
            session.commit()
            with pytest.raises(StaleTake):
                finishing.result(10)


def test_defaults_do_not_undo_what_an_operator_set(repository: Repository) -> None:
    repository.add_threshold("keyframe_psnr", retake_below=24.0, review_below=28.0)
    repository.set_threshold("keyframe_psnr", retake_below=20.0)
    repository.add_threshold("keyframe_psnr", retake_below=24.0, review_below=28.0)
    (threshold,) = repository.thresholds()
    assert (threshold.retake_below, threshold.review_below) == (20.0, None)
    assert (threshold.retake_above, threshold.review_above) == (None, None)


def test_a_new_plan_replaces_the_one_before(repository: Repository) -> None:
    add_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b", "c"))
    repository.set_take_segments(TAKE, slots("a", "b", "c"))
    repository.set_take_segments(TAKE, slots("a", "d"))
    planned = repository.take_segments(TAKE)
    assert [(row.index, row.key[0], row.start, row.stop, row.tail) for row in planned] == [
        (0, "a", 0, 9, 0),
        (1, "d", 8, 17, 1),
    ]


def judged_take(repository: Repository) -> None:
    add_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b"))
    repository.finish_take(TAKE, "takes/aa/m.mkv", segment_keys=["a" * 64, "b" * 64])
    repository.judge_take(
        TAKE,
        Verdict.REVIEW,
        ["cuts"],
        [ScoreRow(name="cuts", value=1)],
        mezzanine_address="takes/aa/m.mkv",
    )


def assert_judged(repository: Repository) -> None:
    take = repository.take(TAKE)
    assert (take.state, take.mezzanine_address) == (TakeState.RENDERED, "takes/aa/m.mkv")
    assert (take.verdict, take.reasons) == (Verdict.REVIEW, ["cuts"])
    assert [score.name for score in repository.scores(TAKE)] == ["cuts"]


def assert_open(repository: Repository) -> None:
    take = repository.take(TAKE)
    assert (take.state, take.mezzanine_address) == (TakeState.RENDERING, None)
    assert (take.verdict, take.reasons) == (None, [])
    assert repository.scores(TAKE) == []


@pytest.mark.parametrize("keys", [("a", "c"), ("a",), ("a", "b", "c")])
def test_a_take_of_other_segments_is_to_be_made_again(
    repository: Repository, keys: tuple[str, ...]
) -> None:
    """Its frames are another model's: they must not be delivered as what the new plan gives."""
    judged_take(repository)
    repository.set_take_segments(TAKE, slots(*keys))
    assert_open(repository)
    assert [row.key[0] for row in repository.take_segments(TAKE)] == list(keys)


def test_a_take_of_the_same_segments_stays_made(repository: Repository) -> None:
    judged_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b"))
    assert_judged(repository)


def test_a_take_whose_frames_are_lost_is_to_be_made_again(repository: Repository) -> None:
    judged_take(repository)
    repository.clear_mezzanine(TAKE, "takes/aa/older.mkv")
    assert_judged(repository)
    repository.clear_mezzanine(TAKE, "takes/aa/m.mkv")
    assert_open(repository)
    assert [row.key[0] for row in repository.take_segments(TAKE)] == ["a", "b"]


def test_takes_share_the_segments_whose_keys_are_equal(repository: Repository) -> None:
    add_take(repository)
    add_board(repository, "sb-33333333", HILL)
    shared = [SegmentSlot(index=0, key="a" * 64, steps=12, start=0, stop=9, tail=0)]
    repository.set_take_segments(TAKE, shared)
    lease = repository.claim_segment("a" * 64, "one", timedelta(minutes=1))
    assert lease is not None
    repository.finish_segment(lease, "latents/aa/x", steps_run=12)
    take = repository.start_take("sb-33333333-s0", 0, 1)
    repository.set_take_segments(take.id, shared)
    (row,) = repository.take_segments(take.id)
    assert repository.segment(row.key).latents_address == "latents/aa/x"
    assert repository.claim_segment(row.key, "two", timedelta(minutes=1)) is None
