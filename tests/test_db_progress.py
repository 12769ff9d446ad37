"""The progress tree of a storyboard, ids, and errors for rows that do not exist."""

from dataclasses import FrozenInstanceError
from datetime import timedelta

import pytest

from db import ids
from db.leases import SegmentSlot
from db.progress import SegmentProgress
from db.repository import Repository
from db.states import (
    DeliverableKind,
    SegmentState,
    StoryboardState,
)
from tests.support.rows import BOARD, HILL, SHOT, TAKE, add_board


def test_what_is_not_there_is_a_lookup_error(repository: Repository) -> None:
    for query in (
        repository.storyboard,
        repository.shot,
        repository.take,
        repository.segment,
        repository.progress,
        lambda key: repository.set_flow_run(key, "x"),
        lambda key: repository.set_storyboard_state(key, StoryboardState.RENDERING),
        lambda key: repository.finish_take(key, "x", segment_keys=[]),
    ):
        with pytest.raises(LookupError, match="no-such-thing"):
            query("no-such-thing")


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
