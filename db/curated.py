"""What the curation of training videos has made."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from db.models import Curated
from db.queries import Queries

_AT_ONCE = 5000  # keys in one statement


class CuratedQueries(Queries):
    def curated(self, keys: Sequence[str]) -> dict[str, str]:
        """The address by key, for those of the keys that are stored."""
        found = {}
        for first in range(0, len(keys), _AT_ONCE):
            rows = self._all(select(Curated).where(Curated.key.in_(keys[first : first + _AT_ONCE])))
            found.update({row.key: row.address for row in rows})
        return found

    def add_curated(self, key: str, address: str) -> Curated:
        """Record where something is; a new address replaces the one before."""
        return self._upsert(Curated, key=key, address=address)
