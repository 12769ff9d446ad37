"""A private Postgres for a farm on one machine: no account, no port, nothing to install.

It listens on a unix socket that only its owner can reach, and lives on when the process that
started it ends: `up` starts it, `down` stops it, and any process of the same user may ask for
both.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from db.binaries import Origin
from db.cluster import PORT, SUPERUSER, Cluster, place_cluster

DATABASE = "dreamontage"


class EmbeddedPostgres:
    """The cluster that belongs to `folder`, running or not.

    `cluster.json` in there says where it is: in a subfolder, but not always for root. Postgres
    refuses to run as root, and the user it then runs as cannot enter root's home, so the cluster
    goes to /var/lib.

    `origin` says where a new cluster's programs come from (where nothing is said: the system's,
    else the wheel's); an existing one keeps to its own. `fsync_off` is for tests: quick, and
    unsafe when the machine itself goes down.
    """

    def __init__(
        self, folder: Path, *, origin: Origin | None = None, fsync_off: bool = False
    ) -> None:
        self.folder = folder.absolute()
        self._origin = origin
        self._fsync_off = fsync_off

    def start(self) -> str:
        """Make the cluster if there is none, start it if it does not run, and give its URL.

        Raises FileNotFoundError if the machine has no Postgres or the cluster's data is gone,
        and RuntimeError with the end of the server's log if it does not come up.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            cluster = self._saved_cluster()
            if cluster is None:
                cluster = place_cluster(self.folder, origin=self._origin)
            if not cluster.home.exists():
                raise FileNotFoundError(
                    f"{self._cluster_file} says that the cluster is in {cluster.home}, which is "
                    f"gone; restore it, or remove {self._cluster_file} to begin with an empty one"
                )
            cluster = cluster.with_socket_folder()
            self._save_cluster(cluster)
            if not cluster.answers():
                cluster.start(fsync_off=self._fsync_off)
        return self.createdb(DATABASE)

    def stop(self) -> None:
        """Stop the server, ending its connections. Does nothing if it is not running."""
        if self._saved_cluster() is None:
            return
        with self._locked():
            if self._cluster.answers():
                self._cluster.stop()

    def delete(self) -> None:
        """Stop the server and remove the cluster with everything in it."""
        self.stop()
        if cluster := self._saved_cluster():
            shutil.rmtree(cluster.home)
            shutil.rmtree(cluster.socket, ignore_errors=True)
            self._cluster_file.unlink()

    @property
    def running(self) -> bool:
        cluster = self._saved_cluster()
        return cluster is not None and cluster.answers()

    def url(self, database: str = DATABASE, *, driver: str = "psycopg") -> str:
        """SQLAlchemy's URL of one of its databases; `driver` may be `asyncpg`, as Prefect wants."""
        # Not by SQLAlchemy's URL: that writes a blank as `+`, which libpq's own tools do not read.
        host = quote(str(self._cluster.socket))
        return f"postgresql+{driver}://{SUPERUSER}@/{quote(database)}?host={host}&port={PORT}"

    def createdb(self, name: str, *, template: str | None = None) -> str:
        """Make database `name`, unless it is there already, and give its URL."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with (
            self._cluster.connect() as connection,
            # The second where another process makes the same one at this moment.
            suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation),
        ):
            connection.execute(statement)
        return self.url(name)

    def dropdb(self, name: str) -> None:
        """Remove database `name` if it is there, ending its connections."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with self._cluster.connect() as connection:
            connection.execute(statement)

    @property
    def has_trgm(self) -> bool:
        """Whether the running server offers pg_trgm, without which Prefect cannot live here."""
        with self._cluster.connect() as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm'"
            ).fetchone()
        return found is not None

    @property
    def _cluster_file(self) -> Path:
        return self.folder / "cluster.json"

    @property
    def _cluster(self) -> Cluster:
        cluster = self._saved_cluster()
        if cluster is None:
            raise FileNotFoundError(f"{self.folder} holds no Postgres cluster: start it first")
        return cluster

    def _saved_cluster(self) -> Cluster | None:
        if not self._cluster_file.exists():
            return None
        saved = json.loads(self._cluster_file.read_text())
        return Cluster(
            home=Path(saved["home"]), socket=Path(saved["socket"]), origin=Origin(saved["origin"])
        )

    def _save_cluster(self, cluster: Cluster) -> None:
        saved = {
            "home": str(cluster.home),
            "socket": str(cluster.socket),
            "origin": cluster.origin.value,
        }
        partial = self._cluster_file.with_suffix(".new")
        partial.write_text(json.dumps(saved, indent=2) + "\n")
        partial.replace(self._cluster_file)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time starts or stops the server. The lock ends with its process."""
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
