"""Opening the database by URL."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine, make_url


def open_engine(url: str) -> Engine:
    """An engine on the Postgres at `url`.

    Takes `postgresql://`, `postgres://` (as hosts hand it out) or `postgresql+psycopg://`, and
    always drives it with psycopg. Raises ValueError for any other database: leases need
    Postgres's row locks, which SQLAlchemy silently leaves out elsewhere.
    """
    parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    if parsed.get_backend_name() != "postgresql":
        raise ValueError(f"database url = {parsed!r} must name a Postgres: postgresql://…")
    # A pooled connection may be older than the server: workers outlive its restarts.
    return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
