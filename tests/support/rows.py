"""Rows for database tests: a storyboard with one shot, its take, and the take's segments."""

from datetime import UTC, datetime
from typing import Any

from db.leases import SegmentSlot
from db.models import Storyboard
from db.repository import Repository
from db.states import (
    AssetKind,
    ConditionKind,
)
from db.storyboards import NewAsset, NewCondition, NewShot, NewStoryboard

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
