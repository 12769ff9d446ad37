"""Migrating a database to the tables of `db.models`, and checking that it matches them.

From a shell: `alembic -c db/alembic.ini -x url=postgresql://… upgrade head`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Column, Connection, Constraint, Dialect, Index, inspect
from sqlalchemy.schema import SchemaItem

from db.engine import open_engine
from db.models import Base

# Alembic keeps the connection of a migration in a global; env.py holds the lock between processes.
_ALEMBIC = Lock()


class DriftError(RuntimeError):
    """The database differs from the models; the message names every difference."""


def upgrade(url: str, revision: str = "head") -> None:
    """Upgrade the database at `url` to `revision`.

    Several processes or threads may do so at once: they wait for each other, and the later ones
    have nothing left to do.
    """
    _run(url, lambda config: command.upgrade(config, revision))


def downgrade(url: str, revision: str = "base") -> None:
    """Downgrade the database at `url` to `revision`; `base` removes all our tables."""
    _run(url, lambda config: command.downgrade(config, revision))


def check(url: str) -> None:
    """Raise DriftError if the database at `url` differs from the models or from the head."""
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            differences = [*_revision_differences(connection), *_table_differences(connection)]
    finally:
        engine.dispose()
    if differences:
        raise DriftError("the database differs from the models:\n  " + "\n  ".join(differences))


def _run(url: str, act: Callable[[Config], None]) -> None:
    engine = open_engine(url)
    try:
        with _ALEMBIC, engine.connect() as connection:
            config = _config()
            config.attributes["connection"] = connection
            act(config)
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _revision_differences(connection: Connection) -> list[str]:
    current = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(_config()).get_current_head()
    return [] if current == head else [f"it is at revision {current}, the head is {head}"]


def _table_differences(connection: Connection) -> list[str]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    differences = [
        _operation_text(difference) for difference in compare_metadata(context, Base.metadata)
    ]
    # Alembic leaves CHECK constraints out of its comparison.
    inspector = inspect(connection)
    present = set(inspector.get_table_names())
    for table in Base.metadata.sorted_tables:
        if table.name not in present:
            continue
        wanted = {
            str(each.name): _literals(_sql(each, connection.dialect))
            for each in table.constraints
            if isinstance(each, CheckConstraint)
        }
        found = {
            str(each["name"]): _literals(each["sqltext"])
            for each in inspector.get_check_constraints(table.name)
        }
        differences += [
            f"missing constraint {table.name}.{name}" for name in sorted({*wanted} - {*found})
        ]
        differences += [
            f"unknown constraint {table.name}.{name}" for name in sorted({*found} - {*wanted})
        ]
        differences += [
            f"constraint {table.name}.{name} has the values {sorted(found[name])},"
            f" not {sorted(wanted[name])}"
            for name in sorted({*wanted} & {*found})
            if wanted[name] != found[name]
        ]
    return differences


def _sql(constraint: CheckConstraint, dialect: Dialect) -> str:
    options = {"literal_binds": True}
    return str(constraint.sqltext.compile(dialect=dialect, compile_kwargs=options))


def _literals(sql: str) -> set[str]:
    """The quoted values in a condition; Postgres rewrites the rest of its text."""
    return set(re.findall(r"'((?:[^']|'')*)'", sql))


def _operation_text(difference: Any) -> str:
    """One of Alembic's differences, as the operation that would remove it: `add column …`."""
    if isinstance(difference, list):
        return "; ".join(_operation_text(part) for part in difference)
    operation, *subjects = difference
    words = [_named(subject) for subject in subjects if isinstance(subject, str | SchemaItem)]
    return " ".join([operation.replace("_", " "), *words])


def _named(subject: str | SchemaItem) -> str:
    if isinstance(subject, Column | Constraint | Index) and subject.table is not None:
        return f"{subject.table.name}.{subject.name}"
    return str(subject)
