"""Storyboards, shots, conditions and deliverables in the database; writing them twice is safe."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from db.engine import open_engine
from db.repository import Repository
from db.states import (
    ConditionKind,
    DeliverableKind,
    ShotState,
    StoryboardState,
)
from db.storyboards import NewShot
from tests.support.rows import (
    BOARD,
    DOCUMENT,
    HILL,
    NOW,
    SHOT,
    add_board,
    add_take,
    keyframe,
    new_board,
)


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


def test_no_match_and_several_matches_are_different_errors(repository: Repository) -> None:
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


def test_a_failures_reason_stays_until_it_is_rendered_again(repository: Repository) -> None:
    add_board(repository)
    repository.set_storyboard_state(BOARD, StoryboardState.FAILED, error="no such clip")
    assert repository.storyboard(BOARD).error == "no such clip"
    repository.set_storyboard_state(BOARD, StoryboardState.RENDERING)
    assert repository.storyboard(BOARD).error is None


def test_the_flow_run_is_stored(repository: Repository) -> None:
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
    """One bad storyboard leaves no row of the others that would look as if due."""
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


def test_a_newer_deliverable_replaces_the_older(repository: Repository) -> None:
    add_board(repository)
    for address in ("films/aa/old.mp4", "films/bb/new.mp4"):
        repository.add_deliverable(
            BOARD, DeliverableKind.FILM, address=address, size=2**40, info={"frames": 81}
        )
    (film,) = repository.deliverables(BOARD)
    assert (film.address, film.bytes, film.info) == ("films/bb/new.mp4", 2**40, {"frames": 81})
