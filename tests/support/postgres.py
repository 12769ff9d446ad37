"""A real Postgres for the whole test run, and a fresh migrated database for each test of it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from db import migrate
from db.embedded import EmbeddedPostgres
from db.repository import Repository

_numbers = count()


@contextmanager
def enterable_folder() -> Iterator[Path]:
    """A temporary folder. Unlike pytest's own, it can be entered by the user that Postgres runs as
    when we are root.
    """
    folder = Path(tempfile.mkdtemp(prefix="dm test "))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running cluster that holds a migrated database, `migrated`, to make others from.

    DREAMONTAGE_TEST_POSTGRES names the folder of one that runs already: `make mutants` starts the
    tests many times.
    """
    if running := os.environ.get("DREAMONTAGE_TEST_POSTGRES"):
        yield EmbeddedPostgres(Path(running), fsync_off=True)
        return
    with enterable_folder() as folder:
        server = EmbeddedPostgres(folder, fsync_off=True)
        server.start()
        try:
            migrate.upgrade(server.createdb("migrated"))
            yield server
        finally:
            server.delete()


@pytest.fixture
def empty_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield postgres.createdb(name)
    postgres.dropdb(name)


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a migrated database that only this test uses."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    yield postgres.createdb(name, template="migrated")
    postgres.dropdb(name)


@pytest.fixture
def repository(database_url: str) -> Iterator[Repository]:
    with Repository.open(database_url) as repository:
        yield repository
