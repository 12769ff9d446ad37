"""What the farm asks of its database: said twice it holds once, and reads back as it was said."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db import ids
from db.engine import open_engine
from db.leases import SegmentSlot
from db.models import Storyboard
from db.progress import SegmentProgress
from db.repository import Repository
from db.states import (
    AssetKind,
    ConditionKind,
    DeliverableKind,
    SegmentState,
    ShotState,
    StoryboardState,
    TakeState,
    Verdict,
)
from db.storyboards import NewAsset, NewCondition, NewShot, NewStoryboard
from db.takes import ScoreRow, StaleTake

BOARD = "sb-22222222"
SHOT = "sb-22222222-s0"
TAKE = "sb-22222222-s0-t0"
NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
DOCUMENT = {"title": "Ein Ausflug – 遠足", "shots": [{"duration": 2.5, "seed": 2**62}]}


HILL = NewShot(name="hill", frames=81, seed=2**62)


def new_board(board: str = BOARD, *shots: NewShot, **values: Any) -> NewStoryboard:
    return NewStoryboard(id=board, title="A walk", document=DOCUMENT, shots=shots, **values)


def add_board(
    repository: Repository, board: str = BOARD, *shots: NewShot, **values: Any
) -> Storyboard:
    repository.add_storyboards([new_board(board, *shots, **values)])
    return repository.storyboard(board)


def keyframe(index: int = 0, rendition: str = "renditions/aa/r.png") -> NewCondition:
    return NewCondition(
        index=index,
        kind=ConditionKind.KEYFRAME,
        frame=80,
        frames=1,
        asset=NewAsset(
            digest="d" * 64, kind=AssetKind.IMAGE, address="assets/dd/d.png", info={"width": 640}
        ),
        rendition_address=rendition,
        rendition_spec={"fit": "crop"},
    )


def add_take(repository: Repository) -> None:
    add_board(repository, BOARD, HILL)
    repository.start_take(SHOT, 0, 2**63 - 1)


def test_a_storyboard_reads_back_as_it_was_stored(repository: Repository) -> None:
    added = add_board(repository, due_at=NOW, variant="wide")
    assert added.state is StoryboardState.SUBMITTED
    read = repository.storyboard(BOARD)
    assert (read.title, read.document, read.variant) == ("A walk", DOCUMENT, "wide")
    assert read.due_at == NOW
    assert read.created_at.tzinfo is not None


def test_adding_a_storyboard_again_leaves_it_as_far_as_it_has_come(repository: Repository) -> None:
    add_board(repository)
    repository.set_storyboard_state(BOARD, StoryboardState.RENDERING)
    add_board(repository)
    assert repository.storyboard(BOARD).state is StoryboardState.RENDERING


def test_a_variant_knows_its_base_and_a_base_is_no_variant(repository: Repository) -> None:
    add_board(repository)
    variant = add_board(repository, "sb-33333333", variant="tall", parent_id=BOARD)
    assert (variant.parent_id, variant.variant) == (BOARD, "tall")


@pytest.mark.parametrize("prefix", ["sb-2222", "2222", "22222222", BOARD])
def test_a_storyboard_is_found_by_the_start_of_its_id(repository: Repository, prefix: str) -> None:
    add_board(repository)
    add_board(repository, "sb-33333333")
    assert repository.find_storyboard(prefix).id == BOARD


def test_no_storyboard_and_several_are_told_apart(repository: Repository) -> None:
    add_board(repository)
    add_board(repository, "sb-2222aaaa")
    with pytest.raises(LookupError, match=r"^no storyboard's id begins with 'sb-9'$"):
        repository.find_storyboard("sb-9")
    with pytest.raises(LookupError):
        repository.find_storyboard("%")
    with pytest.raises(ValueError, match=r"several storyboards: sb-22222222, sb-2222aaaa$"):
        repository.find_storyboard("2222")


def test_only_what_is_submitted_and_due_is_due(repository: Repository) -> None:
    hour = timedelta(hours=1)
    add_board(repository, "sb-later", due_at=NOW + hour)
    add_board(repository, "sb-now", due_at=NOW)
    add_board(repository, "sb-first", due_at=NOW - hour)
    add_board(repository, "sb-begun", due_at=NOW - hour)
    add_board(repository, "sb-whenever")
    repository.set_storyboard_state("sb-begun", StoryboardState.RENDERING)
    assert [board.id for board in repository.due_storyboards(NOW)] == ["sb-first", "sb-now"]


def test_recent_storyboards_come_newest_first(repository: Repository) -> None:
    for board in ("sb-one", "sb-two", "sb-three"):
        add_board(repository, board)
    assert [board.id for board in repository.recent_storyboards(2)] == ["sb-three", "sb-two"]


@pytest.mark.parametrize("before", StoryboardState)
def test_a_storyboard_moves_only_as_its_state_allows(
    repository: Repository, database_url: str, before: StoryboardState
) -> None:
    engine = open_engine(database_url)
    for after in StoryboardState:
        board = f"sb-to-{after}"
        add_board(repository, board)
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE storyboards SET state = :state WHERE id = :id"),
                {"state": before, "id": board},
            )
        if after in before.next:
            assert repository.set_storyboard_state(board, after).state is after
        else:
            with pytest.raises(ValueError, match=f"{board} is {before}: it cannot become {after}"):
                repository.set_storyboard_state(board, after)
            assert repository.storyboard(board).state is before
    engine.dispose()


def test_what_is_done_is_not_failed_afterwards() -> None:
    done = StoryboardState.DONE.next
    assert done == {StoryboardState.DONE, StoryboardState.RENDERING}


def test_a_failure_is_told_until_it_is_tried_again(repository: Repository) -> None:
    add_board(repository)
    repository.set_storyboard_state(BOARD, StoryboardState.FAILED, error="no such clip")
    assert repository.storyboard(BOARD).error == "no such clip"
    repository.set_storyboard_state(BOARD, StoryboardState.RENDERING)
    assert repository.storyboard(BOARD).error is None


def test_the_flow_run_is_remembered(repository: Repository) -> None:
    add_board(repository)
    repository.set_flow_run(BOARD, "6f1e")
    assert repository.storyboard(BOARD).flow_run_id == "6f1e"


def test_a_storyboard_is_added_with_its_shots_conditions_and_assets(
    repository: Repository, database_url: str
) -> None:
    shot = NewShot(name=None, frames=81, seed=7, conditions=[keyframe()])
    repository.add_storyboards([new_board(BOARD, shot, HILL), new_board("sb-33333333", shot)])
    assert [(shot.id, shot.index, shot.name) for shot in repository.shots(BOARD)] == [
        (SHOT, 0, None),
        ("sb-22222222-s1", 1, "hill"),
    ]
    for shot_id in (SHOT, "sb-33333333-s0"):
        (condition,) = repository.conditions(shot_id)
        assert (condition.kind, condition.frame) == (ConditionKind.KEYFRAME, 80)
        assert condition.rendition_address == "renditions/aa/r.png"
        assert condition.rendition_spec == {"fit": "crop"}
        assert condition.asset == "d" * 64
    engine = open_engine(database_url)
    with engine.connect() as connection:
        assets = connection.execute(text("SELECT kind, address, info FROM assets")).all()
    engine.dispose()
    assert [tuple(row) for row in assets] == [("image", "assets/dd/d.png", {"width": 640})]


def test_storyboards_are_added_together_or_not_at_all(repository: Repository) -> None:
    """Also what would not offend: no row is left that says there is something to render."""
    bad = NewShot(name=None, frames=81, seed=7, conditions=[keyframe(0), keyframe(0)])
    with pytest.raises(IntegrityError):
        repository.add_storyboards(
            [new_board("sb-33333333", HILL, due_at=NOW), new_board(BOARD, HILL, bad, due_at=NOW)]
        )
    assert repository.due_storyboards(NOW) == []
    assert repository.recent_storyboards(5) == []


def test_adding_a_storyboard_again_keeps_its_shots_states(repository: Repository) -> None:
    add_take(repository)
    repository.set_shot_state(SHOT, ShotState.RENDERING)
    add_board(repository, BOARD, HILL)
    assert repository.shot(SHOT).state is ShotState.RENDERING


def test_a_shot_moves_only_as_its_state_allows(repository: Repository) -> None:
    add_take(repository)
    with pytest.raises(ValueError, match=f"shot {SHOT} is planned: it cannot become done"):
        repository.set_shot_state(SHOT, ShotState.DONE)
    repository.set_shot_state(SHOT, ShotState.RENDERING)
    assert repository.set_shot_state(SHOT, ShotState.DONE).state is ShotState.DONE


def test_a_take_started_twice_is_one_take_wherever_it_is(repository: Repository) -> None:
    add_take(repository)
    repository.finish_take(TAKE, "mezzanines/aa/m.mkv", made_of=[])
    again = repository.start_take(SHOT, 0, 2**63 - 1)
    assert (again.id, again.state) == (TAKE, TakeState.RENDERED)
    assert [take.attempt for take in repository.takes(SHOT)] == [0]
    with pytest.raises(ValueError, match="cannot start with 5"):
        repository.start_take(SHOT, 0, 5)


def test_a_take_is_judged_and_judged_again(repository: Repository) -> None:
    add_take(repository)
    address = "mezzanines/aa/m.mkv"
    repository.finish_take(TAKE, address, made_of=[])
    for value, verdict in ((31.5, Verdict.RETAKE), (33.0, Verdict.PASS)):
        scores = [
            ScoreRow(name="keyframe_psnr", value=value, frame=80, detail="rgb"),
            ScoreRow(name="cuts", value=0),
        ]
        repository.judge_take(TAKE, verdict, [], scores, of=address)
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
        repository.judge_take(TAKE, Verdict.PASS, [], [], of="takes/aa/m.mkv")
    judged_take(repository)
    with pytest.raises(StaleTake):
        repository.judge_take(TAKE, Verdict.PASS, [], [], of="takes/aa/older.mkv")
    assert_judged(repository)


@pytest.mark.parametrize("keys", [("a", "c"), ("a",), ("b", "a"), ()])
def test_a_straggler_cannot_put_an_old_plans_frames_back(
    repository: Repository, keys: tuple[str, ...]
) -> None:
    """It began to decode before the take was planned anew, with another model."""
    add_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b"))
    with pytest.raises(StaleTake, match=f"{TAKE} is made of other segments"):
        repository.finish_take(TAKE, "takes/aa/old.mkv", made_of=[key * 64 for key in keys])
    assert_open(repository)


def test_finishing_a_take_waits_for_a_plan_that_is_being_said(repository: Repository) -> None:
    """Between the straggler's look at the plan and its write no other plan can come."""
    add_take(repository)
    repository.set_take_segments(TAKE, slots("a", "b"))
    with repository._sessions() as session:  # a plan, half said
        session.execute(text("UPDATE takes SET state = 'rendering' WHERE id = :id"), {"id": TAKE})
        with ThreadPoolExecutor(1) as pool:
            finishing = pool.submit(
                repository.finish_take, TAKE, "takes/aa/old.mkv", made_of=["a" * 64, "b" * 64]
            )
            with pytest.raises(TimeoutError):
                finishing.result(0.3)
            session.execute(
                text("DELETE FROM take_segments WHERE take_id = :id AND index = 1"), {"id": TAKE}
            )
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


def test_a_newer_deliverable_replaces_the_older(repository: Repository) -> None:
    add_board(repository)
    for address in ("films/aa/old.mp4", "films/bb/new.mp4"):
        repository.add_deliverable(
            BOARD, DeliverableKind.FILM, address=address, size=2**40, info={"frames": 81}
        )
    (film,) = repository.deliverables(BOARD)
    assert (film.address, film.bytes, film.info) == ("films/bb/new.mp4", 2**40, {"frames": 81})


def slots(*keys: str) -> list[SegmentSlot]:
    return [
        SegmentSlot(
            index=index,
            key=key * 64,
            steps=12,
            start=8 * index,
            stop=8 * index + 9,
            tail=min(index, 1),
        )
        for index, key in enumerate(keys)
    ]


def test_a_plan_said_again_replaces_the_one_before(repository: Repository) -> None:
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
    repository.finish_take(TAKE, "takes/aa/m.mkv", made_of=["a" * 64, "b" * 64])
    repository.judge_take(
        TAKE, Verdict.REVIEW, ["cuts"], [ScoreRow(name="cuts", value=1)], of="takes/aa/m.mkv"
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
    repository.forget_mezzanine(TAKE, "takes/aa/older.mkv")
    assert_judged(repository)
    repository.forget_mezzanine(TAKE, "takes/aa/m.mkv")
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


def test_what_is_not_there_is_a_lookup_error(repository: Repository) -> None:
    for question in (
        repository.storyboard,
        repository.shot,
        repository.take,
        repository.segment,
        repository.progress,
        lambda key: repository.set_flow_run(key, "x"),
        lambda key: repository.set_storyboard_state(key, StoryboardState.RENDERING),
        lambda key: repository.finish_take(key, "x", made_of=[]),
    ):
        with pytest.raises(LookupError, match="no-such-thing"):
            question("no-such-thing")


def test_progress_shows_the_whole_tree(repository: Repository) -> None:
    add_board(repository, BOARD, HILL, HILL, HILL)
    repository.start_take(SHOT, 0, 1)
    current = repository.start_take(SHOT, 1, 2)
    keys = ["a" * 64, "b" * 64, "c" * 64, "d" * 64]
    repository.set_take_segments(
        current.id,
        [
            SegmentSlot(index=index, key=key, steps=10, start=0, stop=9, tail=0)
            for index, key in enumerate(keys)
        ],
    )
    leases = [repository.claim_segment(key, "worker 1", timedelta(0)) for key in keys[:3]]
    assert leases[0] is not None
    assert leases[1] is not None
    repository.finish_segment(leases[0], "latents/aa/x", steps_run=10)
    repository.save_checkpoint(leases[1], "checkpoints/aa/4", 4, steps_run=4)
    repository.heartbeat(leases[1], timedelta(minutes=1))
    repository.add_deliverable(BOARD, DeliverableKind.SHEET, address="a", size=1, info={})

    seen = repository.progress(BOARD)
    assert seen.storyboard.title == "A walk"
    assert [shot.shot.index for shot in seen.shots] == [0, 1, 2]
    assert [shot.take is None for shot in seen.shots] == [False, True, True]
    assert seen.shots[0].take is not None
    assert seen.shots[0].take.take.attempt == 1
    done, held, stuck, waiting = seen.shots[0].take.segments

    def summary(segment: SegmentProgress) -> tuple[SegmentState, int, str | None, bool, bool]:
        return (
            segment.segment.state,
            segment.step,
            segment.segment.lease_holder,
            segment.lease_age is not None,
            segment.lease_expired,
        )

    assert summary(done) == (SegmentState.DONE, 10, None, False, False)
    assert summary(held) == (SegmentState.RUNNING, 4, "worker 1", True, False)
    assert summary(stuck) == (SegmentState.RUNNING, 0, "worker 1", True, True)
    assert summary(waiting) == (SegmentState.WAITING, 0, None, False, False)
    assert held.lease_age is not None
    assert held.lease_age >= timedelta(0)
    assert (seen.step, seen.steps) == (14, 40)
    assert [deliverable.kind for deliverable in seen.deliverables] == [DeliverableKind.SHEET]
    with pytest.raises(FrozenInstanceError):
        seen.shots[0].take = None  # type: ignore[misc]


def test_progress_of_a_storyboard_with_nothing_yet(repository: Repository) -> None:
    add_board(repository)
    seen = repository.progress(BOARD)
    assert (seen.shots, seen.deliverables, seen.step, seen.steps) == ((), (), 0, 0)


def test_ids_are_read_off_each_other_and_never_alike() -> None:
    boards = {ids.new_storyboard_id() for _ in range(1000)}
    assert len(boards) == 1000
    assert all(len(board) == 11 and board.startswith("sb-") for board in boards)
    assert ids.take_id(ids.shot_id(BOARD, 0), 0) == TAKE
