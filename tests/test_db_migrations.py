"""The migrations make the tables of the models, no more and no less, and take them away again."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, text

import db
from db import migrate
from db.engine import open_engine
from db.models import Base

# All that the catalogue holds about tables: columns, constraints, and indexes.
_CATALOGUE = """
    SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
           coalesce(pg_get_expr(d.adbin, d.adrelid), '')
      FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
      LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
    UNION ALL
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
"""


def _execute(url: str, *statements: str) -> None:
    engine = open_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def _catalogue(url: str) -> set[tuple[str, ...]]:
    engine = open_engine(url)
    with engine.connect() as connection:
        rows = {tuple(row) for row in connection.execute(text(_CATALOGUE))}
    engine.dispose()
    return {row for row in rows if row[0] != "alembic_version"}


def test_upgrade_from_empty_leaves_no_drift(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.check(empty_url)


def test_upgrade_makes_exactly_what_the_models_say(empty_url: str, database_url: str) -> None:
    engine = open_engine(empty_url)
    Base.metadata.create_all(engine)
    engine.dispose()
    assert _catalogue(database_url) == _catalogue(empty_url)


def test_a_second_upgrade_changes_nothing(database_url: str) -> None:
    before = _catalogue(database_url)
    migrate.upgrade(database_url)
    assert _catalogue(database_url) == before


def test_upgrades_at_the_same_time_take_turns(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate.upgrade, [empty_url] * 4))
    migrate.check(empty_url)


def test_downgrade_leaves_nothing_of_ours(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.downgrade(empty_url)
    engine = open_engine(empty_url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    migrate.upgrade(empty_url)
    migrate.check(empty_url)


def test_a_database_that_was_never_upgraded_differs(empty_url: str) -> None:
    with pytest.raises(migrate.DriftError, match="at revision None, the head is 0005"):
        migrate.check(empty_url)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER TABLE takes DROP COLUMN verdict", "verdict"),
        ("ALTER TABLE takes ADD COLUMN mood text", "mood"),
        ("ALTER TABLE shots ALTER COLUMN seed TYPE integer", "seed"),
        ("ALTER TABLE segments ALTER COLUMN lease_token DROP DEFAULT", "lease_token"),
        ("ALTER TABLE shots ALTER COLUMN frames DROP NOT NULL", "frames"),
        ("DROP INDEX ix_storyboards_due_at", "ix_storyboards_due_at"),
        ("ALTER TABLE shots DROP CONSTRAINT uq_shots_storyboard_id_index", "uq_shots"),
        ("ALTER TABLE segments DROP CONSTRAINT ck_segments_done_has_latents", "done_has_latents"),
        (
            "ALTER TABLE takes DROP CONSTRAINT ck_takes_verdict, ADD CONSTRAINT ck_takes_verdict"
            " CHECK (verdict IN ('pass', 'retake'))",
            r"ck_takes_verdict has the values \['pass', 'retake'\], not .*'review'",
        ),
        (
            "ALTER TABLE segments DROP CONSTRAINT ck_segments_failed_has_error, ADD CONSTRAINT"
            " ck_segments_failed_has_error CHECK ((state = 'broken') = (error IS NOT NULL))",
            r"failed_has_error has the values \['broken'\], not \['failed'\]",
        ),
        ("ALTER TABLE shots ADD CONSTRAINT ck_shots_odd CHECK (frames % 2 = 1)", "ck_shots_odd"),
    ],
)
def test_drift_is_reported_by_name(database_url: str, change: str, named: str) -> None:
    _execute(database_url, change)
    with pytest.raises(migrate.DriftError, match=named):
        migrate.check(database_url)


def test_the_alembic_command_works_as_its_ini_says(empty_url: str) -> None:
    ini = Path(db.__file__).with_name("alembic.ini")
    subprocess.run(
        [sys.executable, "-m", "alembic", "-c", ini, "-x", f"url={empty_url}", "upgrade", "head"],
        capture_output=True,
        check=True,
    )
    migrate.check(empty_url)


def test_only_postgres_will_do() -> None:
    with pytest.raises(ValueError, match="must name a Postgres"):
        open_engine("sqlite:///farm.db")


def test_the_url_that_hosts_hand_out_is_understood() -> None:
    engine = open_engine("postgres://user:secret@example.org:6432/farm")
    assert engine.url.render_as_string(hide_password=False) == (
        "postgresql+psycopg://user:secret@example.org:6432/farm"
    )
