"""Alembic's entry point: runs on the connection passed by db.migrate, or on `-x url=…`."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from db.engine import open_engine
from db.models import Base

# An arbitrary number that no other advisory lock in the database uses.
_LOCK = 0x64726D  # "drm"


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        # Two `up`s at once: the second waits here, then finds nothing left to do.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("url")
    if not isinstance(url, str):
        raise ValueError("alembic needs the database's address: -x url=postgresql://…")
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            _migrate(connection)
    finally:
        engine.dispose()
