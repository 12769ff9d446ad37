"""The studio on one machine: `up` starts whatever does not run yet, `down` ends it all.

Both may be called at any time, twice, or after anything was killed: they look at what runs, not
at what should. From the inside out the stack is Postgres, Prefect's server, a worker for each
pool, and the supervisor that starts the latter two again when they die.
"""

import fcntl
import hashlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy.exc import OperationalError

from db import migrate
from db.repository import Repository
from dreamontage.scorer import DEFAULT_THRESHOLDS
from flows.studio.processes import Service, python, stop
from flows.studio.services import (
    POOL_TYPES,
    POOLS,
    client,
    healthy,
    postgres,
    read_stack_state,
    server,
    server_environment,
    supervisor,
    ui_address,
    worker_environment,
    workers,
    write_stack_state,
)
from flows.studio.settings import REPOSITORY, Settings

DEPLOYMENTS = (
    "render-storyboard",
    "render-shot",
    "nightly",
    "curate-folder",
    "measure-videos",
    "encode-videos",
)
# At the top of a clone; a wheel has it among the flows.
PREFECT_YAML = next(
    path
    for path in (REPOSITORY / "prefect.yaml", REPOSITORY / "flows" / "prefect.yaml")
    if path.is_file()
)

_START_SECONDS = 240.0  # for one step; on an idle machine each takes a twentieth of it

Report = Callable[[str], AbstractContextManager[Any]]


class StackError(RuntimeError):
    """A part of the stack does not come up; the message ends with that part's last words."""


def _silent(step: str) -> AbstractContextManager[Any]:
    return nullcontext()


def up(settings: Settings, report: Report = _silent) -> str:
    """Start all that does not run yet, and return the address of Prefect's UI.

    `report(step)` is entered for as long as each step takes. Raises StackError.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with _stack_lock(settings, report):
        with report("Store"):
            settings.store()
        with report("Postgres"):
            _start_database(settings)
        _end_workers_of_other_settings(settings)
        if settings.prefect_api_url is None:
            with report("Prefect server"):
                _start_server(settings)
        with client(settings) as api:
            if not healthy(api):
                raise StackError(f"no Prefect server answers at {settings.prefect()}")
            with report("Work pools"):
                for name in POOLS:
                    _make_pool(settings, api, name)
            # The workers take their seconds to start while the deployments are registered.
            watcher = supervisor(settings)
            if watcher.pid() is None:
                watcher.start(settings.environment())
            with report("Deployments"):
                _deploy(settings, api)
            with report("Workers"):
                _await_workers(settings, api)
    return ui_address(settings)


def down(settings: Settings, report: Report = _silent) -> None:
    """End all that `up` started: the workers first, so that they can report to the server."""
    if not settings.home.exists():
        return
    with _stack_lock(settings, report):
        with report("Workers"):
            _stop_workers(settings)
        with report("Prefect server"):
            stop(server(settings))
        if settings.database_url is None:
            with report("Postgres"):
                postgres(settings).stop()


def _stop_workers(settings: Settings) -> None:
    # What it watches over is ended after it, or it would start that again.
    stop(supervisor(settings), with_children=False)
    # A worker's record is found by its pool, whatever command it was started with.
    stop(*(Service(name=f"worker-{pool}", argv=(), home=settings.home) for pool in POOLS))


def _end_workers_of_other_settings(settings: Settings) -> None:
    """A worker keeps the settings that it was started with."""
    if read_stack_state(settings).get("settings_digest") != settings.digest:
        _stop_workers(settings)
        write_stack_state(settings, settings_digest=settings.digest, store=settings.store_place)


def _start_database(settings: Settings) -> None:
    """Have a Postgres with our tables, and in them what the gate starts out with."""
    try:
        database = settings.database_url or postgres(settings).start()
        migrate.upgrade(database)
    except (RuntimeError, OperationalError) as error:
        raise StackError(f"Postgres: {error}") from error
    with Repository.open(database) as repository:
        for threshold in DEFAULT_THRESHOLDS:
            repository.add_threshold(**asdict(threshold))
    write_stack_state(settings, database_url=database)


def _start_server(settings: Settings) -> None:
    """Start Prefect's server unless it runs, and wait until it answers."""
    if server(settings).pid() is None:
        # It might be about to start one too; it is back by the end of `up`.
        stop(supervisor(settings), with_children=False)
    if server(settings).pid() is None:
        write_stack_state(settings, prefect_database_url=_prefect_database(settings))
        for _ in range(3):
            port = urlsplit(read_stack_state(settings).get("prefect_api_url", "")).port
            if port is None or not _free(port):
                _stop_workers(settings)  # they know the old address
                write_stack_state(settings, prefect_api_url=f"http://127.0.0.1:{_free_port()}/api")
            server(settings).start(server_environment(settings))
            if _answers(settings):
                return
            if "address already in use" not in server(settings).last_log_lines():
                break  # else somebody took the port between our look and our start
    elif _answers(settings):
        return
    raise StackError(_start_error(server(settings)))


def _answers(settings: Settings) -> bool:
    """Wait for the server's first answer; False if it ends, or takes too long over it."""
    service = server(settings)
    with client(settings) as api:
        deadline = time.monotonic() + _START_SECONDS
        while service.pid() is not None and time.monotonic() < deadline:
            if healthy(api):
                return True
            time.sleep(0.1)
    return False


def _prefect_database(settings: Settings) -> str:
    """Our private Postgres if it has what Prefect's tables need, else a file.

    Postgres is the better one under many small writes, and its first start is faster; but the
    Postgres that comes as a Python wheel lacks pg_trgm, and a user's server is not ours to make
    databases on.
    """
    if settings.database_url is None:
        cluster = postgres(settings)
        if cluster.has_trgm:
            cluster.createdb("prefect")
            return cluster.url("prefect", driver="asyncpg")
    return f"sqlite+aiosqlite:///{settings.home / 'prefect' / 'prefect.db'}"


def _make_pool(settings: Settings, api: httpx.Client, name: str) -> None:
    """Make the pool, or on our own server turn it into the type that the settings ask for."""
    kind = POOL_TYPES[settings.worker]
    found = api.get(f"/work_pools/{name}")
    if found.is_success:
        if settings.prefect_api_url is not None or found.json()["type"] == kind:
            return
        _stop_workers(settings)
        api.delete(f"/work_pools/{name}").raise_for_status()
        write_stack_state(settings, deployed="")  # the deployments have lost their pool
    pool = {"name": name, "type": kind, "concurrency_limit": POOLS[name]}
    made = api.post("/work_pools/", json=pool)
    if made.status_code != httpx.codes.CONFLICT:
        made.raise_for_status()


def _deploy(settings: Settings, api: httpx.Client) -> None:
    """Register prefect.yaml, if it or a flow of it is not what the server has."""
    sources = [PREFECT_YAML, *sorted((REPOSITORY / "flows").glob("*.py"))]
    content = b"\0".join(source.read_bytes() for source in sources)
    digest = hashlib.sha256(content + settings.prefect().encode()).hexdigest()
    filter_body = {"deployments": {"name": {"any_": DEPLOYMENTS}}}
    known = api.post("/deployments/filter", json=filter_body).raise_for_status().json()
    if len(known) == len(DEPLOYMENTS) and read_stack_state(settings).get("deployed") == digest:
        return
    result = subprocess.run(
        python(
            *("-m", "prefect", "--no-prompt", "deploy", "--all"),
            *("--prefect-file", str(PREFECT_YAML)),
        ),
        env=worker_environment(settings),
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise StackError(f"prefect deploy --all failed:\n{result.stdout}{result.stderr}")
    write_stack_state(settings, deployed=digest)


def _await_workers(settings: Settings, api: httpx.Client) -> None:
    watcher = supervisor(settings)
    deadline = time.monotonic() + _START_SECONDS
    for pool, service in workers(settings, api).items():
        while not (service.pid() and _online(api, pool)):
            if watcher.pid() is None or time.monotonic() > deadline:
                raise StackError(_start_error(service if watcher.pid() else watcher))
            time.sleep(0.2)


def _online(api: httpx.Client, pool: str) -> bool:
    answer = api.post(f"/work_pools/{pool}/workers/filter", json={}).raise_for_status()
    return any(worker["status"] == "ONLINE" for worker in answer.json())


def _start_error(service: Service) -> str:
    return (
        f"the {service.name} does not come up; its log, {service.log}, ends with:\n"
        f"{service.last_log_lines()}"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server itself does: what a connection that just ended left does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextmanager
def _stack_lock(settings: Settings, report: Report) -> Iterator[None]:
    """One `up` or `down` at a time; the lock goes with its process, however that ends."""
    with (settings.home / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with report("Waiting for another up or down"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
