"""Each kind of ledger, with what tests have to do to it: lose an object, tear one, open it anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dreamontage.rendering.folder_ledger import FolderLedger
from dreamontage.rendering.ledger import Ledger, MemoryLedger

if TYPE_CHECKING:
    from flows.studio.farm import Farm

KINDS = ("memory", "folder", pytest.param("postgres", marks=pytest.mark.server))


@dataclass
class OpenLedger:
    """A ledger of one kind.

    ``another``: the same ledger, as another process opens it. ``lose`` removes the latents of a
    key behind the ledger's back, ``tear`` changes a bit of them; a memory has no bits to tear.
    ``prepare`` makes the rows that segments need.
    """

    kind: str
    ledger: Ledger
    another: Callable[[], Ledger]
    lose: Callable[[str], None]
    tear: Callable[[str], None] | None
    prepare: Callable[[Sequence[str]], None] = field(default=lambda keys: None)


def _memory() -> OpenLedger:
    ledger = MemoryLedger()
    return OpenLedger(
        kind="memory",
        ledger=ledger,
        another=lambda: ledger,
        lose=ledger.finished.__delitem__,
        tear=None,
    )


def _flip(path: Path) -> None:
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def _folder(folder: Path) -> OpenLedger:
    return OpenLedger(
        kind="folder",
        ledger=FolderLedger(folder),
        another=lambda: FolderLedger(folder),
        lose=lambda key: (folder / f"{key}.safetensors").unlink(),
        tear=lambda key: _flip(folder / f"{key}.safetensors"),
    )


def _postgres(farm: Farm) -> OpenLedger:
    from db.leases import SegmentSlot
    from db.storyboards import NewShot, NewStoryboard
    from flows.steps.postgres_ledger import PostgresLedger

    def address(key: str) -> str:
        found = farm.repository.segment(key).latents_address
        assert found is not None
        return found

    def prepare(keys: Sequence[str]) -> None:
        board = NewStoryboard(
            id="ledger", title="Ledger", document={}, shots=[NewShot(name="a", frames=9, seed=1)]
        )
        farm.repository.add_storyboards([board])
        (shot,) = farm.repository.shots("ledger")
        take = farm.repository.start_take(shot.id, 0, 1)
        farm.repository.set_take_segments(
            take.id,
            [
                SegmentSlot(index=index, key=key, steps=6, start=index, stop=index + 2, tail=0)
                for index, key in enumerate(keys)
            ],
        )

    return OpenLedger(
        kind="postgres",
        ledger=PostgresLedger(farm),
        another=lambda: PostgresLedger(farm),
        lose=lambda key: farm.store.delete(address(key)),
        tear=lambda key: _flip(farm.settings.home / "store" / address(key)),
        prepare=prepare,
    )


@pytest.fixture(params=KINDS)
def opened_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLedger]:
    """A ledger of each kind in turn. Only the farm's asks for a database."""
    if request.param == "memory":
        yield _memory()
    elif request.param == "folder":
        yield _folder(tmp_path / "segments")
    else:
        from flows.studio.farm import open_farm
        from flows.studio.settings import Settings

        settings = Settings(
            home=tmp_path / "home",
            database_url=request.getfixturevalue("database_url"),
            lease_seconds=1.5,
            heartbeat_seconds=0.3,
        )
        with open_farm(settings) as farm:
            yield _postgres(farm)
