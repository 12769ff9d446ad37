"""A submit is one act: what it stores is whole, and what stops midway has stored no storyboard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from sqlalchemy import Engine, event

from db.repository import Repository
from dreamontage.rendering import ingest
from dreamontage.rendering.assets import Known
from dreamontage.rendering.ingest import Rendition
from dreamontage.storyboard import Storyboard
from dreamontage.storyboard.errors import FieldError, StoryboardError
from flows.actions.submit import submit
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings

DUE = datetime(2026, 3, 4, tzinfo=UTC)


@pytest.fixture
def submit_farm(database_url: str, tmp_path: Path, tiny_ours: Path) -> Iterator[Farm]:
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


def test_a_storyboard_is_stored_with_all_its_shots(submit_farm: Farm, two_shots: Path) -> None:
    (submitted,) = submit(submit_farm, two_shots, due_at=DUE)
    assert submitted.shots == 2
    shots = submit_farm.repository.shots(submitted.id)
    assert [shot.frames for shot in shots] == [17, 33]
    assert rows(submit_farm.repository) == {submitted.id: [shot.id for shot in shots]}
    (first,), (second,) = (submit_farm.repository.conditions(shot.id) for shot in shots)
    assert first.asset == second.asset
    for address in (first.rendition_address, second.rendition_address):
        assert submit_farm.store.get(address).startswith(b"\x89PNG")


@pytest.mark.parametrize("statement", [2, 3, 4, 7, 11])
def test_a_submit_that_is_stopped_at_any_statement_leaves_no_storyboard(
    submit_farm: Farm, two_shots: Path, tmp_path: Path, statement: int
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
            submit(submit_farm, two_shots, matrix=matrix, due_at=DUE)
    finally:
        event.remove(Engine, "before_cursor_execute", stop)
    assert rows(submit_farm.repository) == {}
    assert submit_farm.repository.recent_storyboards(9) == []

    submitted = submit(submit_farm, two_shots, matrix=matrix, due_at=DUE)
    assert [each.variant for each in submitted] == ["one", "two"]
    assert {board: len(shots) for board, shots in rows(submit_farm.repository).items()} == {
        each.id: 2 for each in submitted
    }


def test_all_errors_of_all_files_are_reported_and_none_is_stored(
    submit_farm: Farm, write_board: Any
) -> None:
    """One off the model's grid beside one that is wrong in type and file, and one in its file."""
    paths = [
        write_board("good"),
        write_board(
            "unreadable", fps=0, shots=[{"duration": 1, "keyframes": [{"image": "b.png", "at": 0}]}]
        ),
        write_board("loop", shots=[{"duration": "8f", "loop": True}]),
        write_board("broken", shots=[{"duration": 1, "keyframes": [{"image": "b.png", "at": 0}]}]),
    ]
    (paths[0].parent / "b.png").write_bytes(b"rubbish")
    with pytest.raises(StoryboardError) as told:
        submit(submit_farm, *paths, due_at=DUE)
    fields = [
        str(field_error).removeprefix(str(paths[0].parent)) for field_error in told.value.errors
    ]
    assert [field.split(" ")[:2] for field in fields] == [
        ["/unreadable.yaml:", "fps"],
        ["/unreadable.yaml:", "shots[0].keyframes[0].image"],
        # What a model cannot render is found in the same round.
        ["/loop.yaml:", "shots[0].duration"],
        ["/broken.yaml:", "shots[0].keyframes[0].image"],
    ]
    assert rows(submit_farm.repository) == {}
    assert list(submit_farm.store.list()) == []


def test_a_strength_without_a_noise_level_is_not_submitted(
    submit_farm: Farm, write_board: Any
) -> None:
    """A run would find out at the shot's turn, when those before it have been rendered."""
    drafted = {"duration": 1, "draft": "auto", "keyframes": [{"image": "a.png", "at": 0}]}
    path = write_board("drafted", shots=[{"duration": 1}, {**drafted, "strength": 0.01}])
    Image.new("RGB", (64, 32), "red").save(path.parent / "a.png")
    with pytest.raises(StoryboardError, match=r"^shots\[1\].strength = 0.01 is below the last"):
        submit(submit_farm, path, due_at=DUE)
    assert rows(submit_farm.repository) == {}


def test_what_only_decoding_finds_keeps_all_out_too(
    submit_farm: Farm, write_board: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = write_board("good"), write_board("bad")
    ingest_conditions = ingest.ingest_conditions

    def cut_short(board: Storyboard, base: Path, folder: Path, *, known: Known) -> list[Rendition]:
        if folder.name == "1":
            raise StoryboardError([FieldError(field="shots[0].keyframes[0].image", message="ends")])
        return ingest_conditions(board, base, folder, known=known)

    monkeypatch.setattr("flows.actions.submit.ingest_conditions", cut_short)
    with pytest.raises(StoryboardError, match=rf"^{bad}: shots\[0\].keyframes\[0\].image ends$"):
        submit(submit_farm, good, bad, due_at=DUE)
    assert rows(submit_farm.repository) == {}
    assert list(submit_farm.store.list()) == []


def test_several_files_are_stored_at_once(submit_farm: Farm, write_board: Any) -> None:
    titles = ["One", "Two", "Three"]
    paths = [write_board(title.lower(), title=title) for title in titles]
    submitted = submit(submit_farm, *paths, due_at=DUE)
    assert [each.title for each in submitted] == titles
    assert rows(submit_farm.repository).keys() == {each.id for each in submitted}
