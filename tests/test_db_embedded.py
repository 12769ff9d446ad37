"""The embedded Postgres: starting, stopping, and surviving killed processes."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from db import cluster
from db.binaries import Origin, find_binaries
from db.cluster import place_cluster
from db.embedded import EmbeddedPostgres
from tests.support.postgres import enterable_folder

STARTER = """
import sys
from pathlib import Path
from db.embedded import EmbeddedPostgres
print(EmbeddedPostgres(Path(sys.argv[1]), fsync_off=True).start())
"""


@contextmanager
def embedded(cluster_folder: Path, origin: Origin | None = None) -> Iterator[EmbeddedPostgres]:
    """A cluster that is gone after the block, running or not."""
    server = EmbeddedPostgres(cluster_folder, origin=origin, fsync_off=True)
    try:
        yield server
    finally:
        server.delete()


@pytest.fixture
def cluster_folder() -> Iterator[Path]:
    with enterable_folder() as cluster_folder:
        yield cluster_folder / "postgres"


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""))


def write(url: str) -> None:
    with connect(url) as connection:
        connection.execute("CREATE TABLE stored (value integer)")
        connection.execute("INSERT INTO stored VALUES (42)")


def read(url: str) -> object:
    with connect(url) as connection:
        row = connection.execute("SELECT value FROM stored").fetchone()
    assert row is not None
    return row[0]


def postmaster(server: EmbeddedPostgres) -> int:
    home = json.loads((server.folder / "cluster.json").read_text())["home"]
    return int((Path(home) / "data" / "postmaster.pid").read_text().split()[0])


@pytest.mark.parametrize("origin", Origin)
def test_data_survive_a_second_start_a_stop_and_a_kill(
    cluster_folder: Path, origin: Origin
) -> None:
    """One life of a cluster, on the system's programs and on the wheel's."""
    try:
        find_binaries(origin=origin)
    except FileNotFoundError:
        if origin is Origin.WHEEL:
            raise  # it is one of our dependencies
        pytest.skip("this machine has no PostgreSQL of its own")
    with embedded(cluster_folder, origin) as server:
        url = server.start()
        write(url)

        first = postmaster(server)
        assert server.start() == url
        assert postmaster(server) == first

        server.stop()
        assert not server.running
        server.stop()
        assert (
            EmbeddedPostgres(cluster_folder, fsync_off=True).start() == url
        )  # keeps to its origin
        assert read(url) == 42

        with connect(url):  # a child that outlives its parent for a moment
            os.kill(postmaster(server), signal.SIGKILL)
            assert server.start() == url
        assert read(url) == 42


def test_only_the_socket_is_open_and_only_to_its_owner(postgres: EmbeddedPostgres) -> None:
    place = json.loads((postgres.folder / "cluster.json").read_text())
    assert Path(place["socket"]).stat().st_mode & 0o077 == 0
    assert Path(place["home"]).stat().st_mode & 0o077 == 0
    with connect(postgres.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)


def test_other_databases_live_beside_ours(postgres: EmbeddedPostgres) -> None:
    one = postgres.createdb("one")
    write(one)
    assert postgres.createdb("one") == one
    two = postgres.createdb("two")
    with connect(two) as connection:
        assert connection.execute("SELECT to_regclass('stored')").fetchone() == (None,)
    copy = postgres.createdb("copy", template="one")
    assert read(copy) == 42
    for name in ("one", "two", "copy"):
        postgres.dropdb(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        connect(copy)


def test_prefect_can_be_given_a_url_of_its_own_driver(postgres: EmbeddedPostgres) -> None:
    async def query() -> object:
        engine = create_async_engine(postgres.url(driver="asyncpg"))
        async with engine.connect() as connection:
            name = (await connection.execute(text("SELECT current_database()"))).scalar_one()
        await engine.dispose()
        return name

    assert asyncio.run(query()) == "dreamontage"


def test_has_trgm_is_true_where_the_extension_can_be_made(postgres: EmbeddedPostgres) -> None:
    with connect(postgres.url()) as connection:
        try:
            connection.execute("CREATE EXTENSION pg_trgm")
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile):
            assert not postgres.has_trgm
        else:
            assert postgres.has_trgm
        connection.rollback()


def test_a_long_path_gets_its_socket_elsewhere(cluster_folder: Path) -> None:
    with embedded(cluster_folder / ("long" * 30)) as server:
        url = server.start()
        socket = Path(json.loads((server.folder / "cluster.json").read_text())["socket"])
        assert server.folder not in socket.parents
        write(url)
        server.stop()
        shutil.rmtree(socket)  # as /tmp is emptied at boot
        assert read(server.start()) == 42
        socket = Path(json.loads((server.folder / "cluster.json").read_text())["socket"])
    assert not socket.exists()


def test_a_pid_that_now_belongs_to_another_program_does_not_stop_it(cluster_folder: Path) -> None:
    """After a power cut the number in the pid file may be anyone's, even one of the same user."""
    with embedded(cluster_folder) as server:
        url = server.start()
        write(url)
        server.stop()
        home = Path(json.loads((cluster_folder / "cluster.json").read_text())["home"])
        owner = home.stat()
        as_root = os.geteuid() == 0
        stranger = subprocess.Popen(
            ["sleep", "600"], cwd="/", user=owner.st_uid if as_root else None
        )
        try:
            pid_file = home / "data" / "postmaster.pid"
            pid_file.write_text(f"{stranger.pid}\n{home}/data\n")
            os.chown(pid_file, owner.st_uid, owner.st_gid)
            assert read(server.start()) == 42
        finally:
            stranger.kill()
            stranger.wait()


def test_an_interrupted_initdb_is_restarted(cluster_folder: Path) -> None:
    with embedded(cluster_folder) as server:
        cluster_folder.mkdir()
        half = place_cluster(cluster_folder.absolute(), origin=None).home / "data.new"
        half.mkdir()
        (half / "PG_VERSION").write_text("15\n")
        server.start()
        assert server.running


def test_lost_data_are_an_error_and_no_empty_cluster_replaces_them(cluster_folder: Path) -> None:
    cluster_folder.mkdir()
    gone = cluster_folder / "gone"
    place = {"home": str(gone), "socket": str(gone / "socket"), "origin": "wheel"}
    (cluster_folder / "cluster.json").write_text(json.dumps(place))
    with pytest.raises(FileNotFoundError, match="which is gone"):
        EmbeddedPostgres(cluster_folder).start()


def test_a_server_that_cannot_start_says_why(
    cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "START_SECONDS", 0.1)
    with embedded(cluster_folder) as server:
        server.start()
        server.stop()
        home = Path(json.loads((cluster_folder / "cluster.json").read_text())["home"])
        conf = home / "data" / "postgresql.conf"
        conf.write_text(conf.read_text() + "\nno_such_setting = 1\n")
        with pytest.raises(RuntimeError, match="no_such_setting"):
            server.start()


def test_starts_at_the_same_time_make_one_server_that_outlives_them(cluster_folder: Path) -> None:
    with embedded(cluster_folder) as server:
        starters = [
            subprocess.Popen(
                [sys.executable, "-c", STARTER, cluster_folder],
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for _ in range(2)
        ]
        urls = {starter.communicate()[0].strip() for starter in starters}
        assert [starter.returncode for starter in starters] == [0, 0]
        for starter in starters:
            with suppress(ProcessLookupError):  # as when a terminal closes
                os.killpg(starter.pid, signal.SIGTERM)
        assert urls == {server.url()}
        assert server.running


@pytest.mark.skipif(os.geteuid() != 0, reason="anyone but root can enter the own home")
def test_root_s_home_is_not_entered(tmp_path: Path) -> None:
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    with embedded(private / "postgres") as server:
        url = server.start()
        home = Path(json.loads((server.folder / "cluster.json").read_text())["home"])
        assert private not in home.parents
        assert home.stat().st_uid != 0
        write(url)
        server.stop()
        assert read(server.start()) == 42
    assert not home.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="anyone but root runs the programs themselves")
def test_programs_out_of_reach_are_copied_into_reach(
    cluster_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment in root's home: whom we run Postgres as cannot enter it."""
    (wheel,) = find_binaries(origin=Origin.WHEEL, version=18)
    private = tmp_path / "home"
    private.mkdir(mode=0o700)
    hidden = wheel.copy_to(private)
    monkeypatch.setattr(cluster, "find_binaries", lambda **wanted: [hidden])
    with embedded(cluster_folder) as server:
        write(server.start())
        server.stop()
        assert read(server.start()) == 42


def test_what_is_missing_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no Postgres 7 \(wheel\).*DATABASE_URL"):
        find_binaries(origin=Origin.WHEEL, version=7)


def test_no_cluster_is_no_server_and_no_url(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    assert not server.running
    server.stop()
    server.delete()
    with pytest.raises(FileNotFoundError, match="start it first"):
        server.url()
