"""The base of all query classes."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import sessionmaker

from db.models import Base, Shot, Storyboard

Row = TypeVar("Row", bound=Base)
Staged = TypeVar("Staged", Storyboard, Shot)


class Queries:
    """Queries to the database behind `engine`; safe to ask from many threads.

    Each call is one transaction. Returned rows of `db.models` are detached: they hold the values
    that were read, belong to no session, and changing them changes nothing in the database. Every
    `add_*` may be run twice. A query by id raises LookupError if there is no such row.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions = sessionmaker(engine, expire_on_commit=False)

    def _get(self, model: type[Row], key: str) -> Row:
        with self._sessions() as session:
            row = session.get(model, key)
        if row is None:
            raise _missing(model, key)
        return row

    def _all(self, statement: Select[tuple[Row]]) -> list[Row]:
        with self._sessions() as session:
            return list(session.scalars(statement))

    def _upsert(self, model: type[Row], **values: Any) -> Row:
        """Insert a row; where its primary key is taken, set the other values."""
        statement = insert(model).values(**values)
        keys = {column.name for column in model.__table__.primary_key}
        with self._sessions.begin() as session:
            return session.scalars(
                statement.on_conflict_do_update(
                    index_elements=sorted(keys),
                    set_={name: statement.excluded[name] for name in values if name not in keys},
                ).returning(model)
            ).one()

    def _update(self, model: type[Row], key: str, **values: Any) -> Row:
        (column,) = model.__table__.primary_key
        with self._sessions.begin() as session:
            row = session.scalar(
                update(model).where(column == key).values(**values).returning(model)
            )
        if row is None:
            raise _missing(model, key)
        return row

    def _move(
        self,
        model: type[Staged],
        key: str,
        state: StrEnum,
        allowed: Iterable[StrEnum],
        error: str | None,
    ) -> Staged:
        """Set a row's state if it is in one of the `allowed` ones; raises ValueError if not."""
        with self._sessions.begin() as session:
            row = session.scalar(
                update(model)
                .where(model.id == key, model.state.in_(allowed))
                .values(state=state, error=error)
                .returning(model)
            )
        if row is None:
            present = self._get(model, key).state
            raise ValueError(f"{_name(model)} {key} is {present}: it cannot become {state}")
        return row


def _missing(model: type[Base], key: str) -> LookupError:
    return LookupError(f"no {_name(model)} {key}")


def _name(model: type[Base]) -> str:
    return model.__name__.lower()
