"""All queries of the farm's database in one class: the only entry for code outside `db`.

The queries are defined in `db.storyboards`, `db.takes`, `db.leases` and `db.curated`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from db.curated import CuratedQueries
from db.engine import open_engine
from db.leases import SegmentLeases
from db.storyboards import StoryboardQueries
from db.takes import TakeQueries


class Repository(StoryboardQueries, TakeQueries, SegmentLeases, CuratedQueries):
    @classmethod
    def open(cls, url: str) -> Self:
        """On the Postgres at `url`; close it, or use it as a context manager."""
        return cls(open_engine(url))

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
