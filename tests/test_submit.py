"""A submit is one act: what it stores is whole, and what stops midway has stored no storyboard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, event

from db.repository import Repository
from flows.farm import Farm, open_farm
from flows.settings import Settings
from flows.submit import submit

DUE = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def farm(database_url: str, tmp_path: Path, tiny_ours: Path) -> Iterator[Farm]:
    settings = Settings(home=tmp_path / "home", weights=tiny_ours, database_url=database_url)
    with open_farm(settings) as farm:
        yield farm


@pytest.fixture
def two_shots(write_board: Any) -> Path:
    shots = [
        {"duration": {"frames": frames}, "keyframes": [{"image": "still0.png", "frame": 0}]}
        for frames in (17, 33)
    ]
    path: Path = write_board(shots=shots)
    return path


def rows(repository: Repository) -> dict[str, list[str]]:
    """Every storyboard that the night would find, and its shots."""
    return {
        board.id: [shot.id for shot in repository.shots(board.id)]
        for board in repository.due_storyboards(DUE)
    }


def test_a_storyboard_is_stored_with_all_its_shots(farm: Farm, two_shots: Path) -> None:
    (submitted,) = submit(farm, two_shots, due_at=DUE)
    assert submitted.shots == 2
    shots = farm.repository.shots(submitted.id)
    assert [shot.frames for shot in shots] == [17, 33]
    assert rows(farm.repository) == {submitted.id: [shot.id for shot in shots]}
    (first,), (second,) = (farm.repository.conditions(shot.id) for shot in shots)
    assert first.asset == second.asset
    for address in (first.rendition_address, second.rendition_address):
        assert farm.store.get(address).startswith(b"\x89PNG")


@pytest.mark.parametrize("statement", [2, 3, 4, 7, 11])
def test_a_submit_that_is_stopped_at_any_statement_leaves_no_storyboard(
    farm: Farm, two_shots: Path, tmp_path: Path, statement: int
) -> None:
    """Two variants of two shots each: 1 asset and 2 x (1 + 2 + 2) other rows to insert."""
    matrix = tmp_path / "matrix.yaml"
    variants = [{"name": name, "set": {"seed": seed}} for seed, name in enumerate(("one", "two"))]
    matrix.write_text(yaml.safe_dump({"variants": variants}))
    seen = 0

    def stop(*told: Any) -> None:
        nonlocal seen
        if told[2].startswith("INSERT"):
            seen += 1
            if seen == statement:
                raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            submit(farm, two_shots, matrix=matrix, due_at=DUE)
    finally:
        event.remove(Engine, "before_cursor_execute", stop)
    assert rows(farm.repository) == {}
    assert farm.repository.recent_storyboards(9) == []

    submitted = submit(farm, two_shots, matrix=matrix, due_at=DUE)
    assert [each.variant for each in submitted] == ["one", "two"]
    assert {board: len(shots) for board, shots in rows(farm.repository).items()} == {
        each.id: 2 for each in submitted
    }
