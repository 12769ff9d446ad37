"""One Postgres cluster on disk: its place on disk, the user it runs as, starting and stopping it.

Its home holds `data/`, `socket/`, `server.log` and, where the programs had to be copied to be
within reach, `postgres/`. All of it belongs to the user who runs the server.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from db.binaries import Binaries, Origin, find_binaries

SUPERUSER = "dreamontage"
PORT = 5432  # only part of the socket's name; given always, so that PGPORT cannot change it

_SOCKET_BYTES = 103  # the limit for the whole path on macOS, the lowest we know; Linux allows 107
_UNPRIVILEGED_USERS = (
    "postgres",
    "nobody",
)  # users to run as instead of root, in order of preference
_UNPRIVILEGED_PLACES = (Path("/var/lib"), Path("/var/tmp"))
START_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where a cluster is, and whose programs made it."""

    home: Path
    socket: Path
    origin: Origin

    @property
    def data(self) -> Path:
        return self.home / "data"

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """A connection to the server's maintenance database; each statement commits itself."""
        return psycopg.connect(
            host=str(self.socket),
            port=PORT,
            user=SUPERUSER,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def with_socket_folder(self) -> Cluster:
        """This cluster with a folder for its socket that exists and is short enough."""
        if self.socket.exists():
            return self
        socket = self.home / "socket"
        if len(os.fsencode(socket / f".s.PGSQL.{PORT}")) > _SOCKET_BYTES:
            socket = Path(tempfile.mkdtemp(prefix="dm-pg-"))
        socket.mkdir(mode=0o700, exist_ok=True)
        owner = self.home.stat()
        os.chown(socket, owner.st_uid, owner.st_gid)
        return replace(self, socket=socket)

    def start(self, *, fsync_off: bool) -> None:
        """Start the server, after making its data if there is none; raises RuntimeError."""
        binaries = self._binaries()
        self._ensure_data(binaries, fsync_off=fsync_off)
        log = self.home / "server.log"
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket),
            "port": str(PORT),
            "max_connections": "200",
            "log_checkpoints": "off",
        }
        if fsync_off:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = shlex.join(f"--{name}={value}" for name, value in settings.items())
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if time.monotonic() > deadline:
                raise RuntimeError(f"Postgres in {self.home} does not start:\n{_end_of(log)}")
            _remove_stale_pid_file(self.data / "postmaster.pid")
            # After a killed postmaster this fails until its last child is gone, some 2 s.
            done = self._run(
                binaries.bin / "pg_ctl",
                *("start", "-D", str(self.data), "-l", str(log), "-o", options, "-w", "-t", "30"),
            )
            if done.returncode != 0:
                time.sleep(0.3)

    def stop(self) -> None:
        """Stop the server, ending its connections; raises RuntimeError if it does not stop."""
        done = self._run(
            self._binaries().bin / "pg_ctl",
            *("stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "60"),
        )
        if done.returncode != 0 and self.answers():
            raise RuntimeError(f"Postgres in {self.home} does not stop: {done.stderr}")

    def _binaries(self) -> Binaries:
        """Programs of the data's version which the user that the server runs as can execute."""
        version_file = self.data / "PG_VERSION"
        version = int(version_file.read_text()) if version_file.exists() else None
        found = find_binaries(origin=self.origin, version=version)
        for binaries in found:
            try:
                self._run(binaries.bin / "postgres", "--version")
            except PermissionError:
                if binaries.origin is Origin.WHEEL:
                    return binaries.copy_to(self.home / "postgres")
            else:
                return binaries
        user = pwd.getpwuid(self.home.stat().st_uid).pw_name
        raise PermissionError(f"user {user} cannot run {found[0].bin}/postgres")

    def _ensure_data(self, binaries: Binaries, *, fsync_off: bool) -> None:
        if self.data.exists():
            return
        # Renamed when whole: an initdb that was killed leaves what looks like a cluster.
        partial = self.home / "data.new"
        shutil.rmtree(partial, ignore_errors=True)
        done = self._run(
            binaries.bin / "initdb",
            *("-D", str(partial), "-U", SUPERUSER, "--auth=trust"),
            *("--encoding=UTF8", "--no-locale", *(["--no-sync"] if fsync_off else [])),
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb in {self.home} failed: {done.stdout}{done.stderr}")
        partial.rename(self.data)

    def _run(self, program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of Postgres's programs as the owner of the cluster's home."""
        owner = self.home.stat()
        as_root = os.geteuid() == 0
        return subprocess.run(
            [str(program), *arguments],
            cwd=self.home,
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=owner.st_uid if as_root else None,
            group=owner.st_gid if as_root else None,
            extra_groups=[] if as_root else None,
        )


def place_cluster(folder: Path, *, origin: Origin | None) -> Cluster:
    """Make the home of a new cluster: in `folder`, or, for root, in a place that the user that
    Postgres runs as can enter.

    Raises FileNotFoundError if the machine has no Postgres (of that origin).
    """
    home = folder / "cluster"
    origin = find_binaries(origin=origin)[0].origin
    unprivileged = _unprivileged_user() if os.geteuid() == 0 else None
    if unprivileged and not all(path.stat().st_mode & 0o001 for path in home.parents):
        place = next(place for place in _UNPRIVILEGED_PLACES if os.access(place, os.W_OK))
        home = Path(tempfile.mkdtemp(prefix="dreamontage-", dir=place))
    home.mkdir(mode=0o700, exist_ok=True)
    if unprivileged:
        os.chown(home, unprivileged.pw_uid, unprivileged.pw_gid)
    return Cluster(home=home, socket=home / "socket", origin=origin)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in _UNPRIVILEGED_USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError(
        f"Postgres does not run as root, and there is no user {' or '.join(_UNPRIVILEGED_USERS)}"
    )


def _remove_stale_pid_file(pid_file: Path) -> None:
    """Remove a pid file whose process is not a running Postgres.

    Postgres takes any process of its own user with that pid for the one that wrote the file: a
    different program that got the pid after the machine went down, or a killed postmaster that
    nothing reaps in a container. Postgres would never start. Children of a killed postmaster
    still block a start without the file, because the key of their shared memory comes from the
    data folder itself. Without /proc, Postgres's own check is the only one.
    """
    with suppress(FileNotFoundError, ProcessLookupError):
        pid = pid_file.read_text().split()[0]
        # "pid (name) state …"
        stat = Path(f"/proc/{pid}/stat").read_text()
        name, state = (
            stat[stat.index("(") + 1 : stat.rindex(")")],
            stat.rpartition(")")[2].split()[0],
        )
        if name != "postgres" or state == "Z":
            pid_file.unlink()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:]) if log.exists() else ""
