"""The studio on one machine: `up` starts whatever does not run yet, `down` ends it all.

Both may be called at any time, twice, or after anything was killed: they look at what runs, not
at what should. From the inside out the stack is Postgres, Prefect's server, a worker for each
pool, and the supervisor that starts the latter two again when they die.
"""

import fcntl
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

import httpx

from db import migrate
from db.embedded import EmbeddedPostgres
from db.repository import Repository
from dreamontage.scorer import DEFAULT_THRESHOLDS
from flows.processes import Service, python, stop
from flows.settings import REPOSITORY, Settings

POOLS: Mapping[str, int] = {"cpu": 2, "gpu": 1}  # how many runs each takes at once
DEPLOYMENTS = ("render-storyboard", "render-shot", "nightly")
PREFECT_YAML = REPOSITORY / "prefect.yaml"

_TYPE_OF_WORKER = {"warm": "dreamontage-warm", "process": "process"}
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
    with _alone(settings, report):
        with report("Postgres"):
            database = settings.database_url or _postgres(settings).start()
            migrate.upgrade(database)
            with Repository.open(database) as repository:
                for threshold in DEFAULT_THRESHOLDS:
                    repository.add_threshold(**asdict(threshold))
            _remember(settings, database_url=database)
        if settings.prefect_api_url is None:
            with report("Prefect server"):
                _start_server(settings)
        with client(settings) as api:
            with report("Work pools"):
                for name in POOLS:
                    _make_pool(settings, api, name)
            # The workers take their seconds to start while the deployments are registered.
            supervisor = _supervisor(settings)
            if supervisor.pid() is None:
                supervisor.start(settings.environment())
            with report("Deployments"):
                _deploy(settings, api)
            with report("Workers"):
                _await_workers(settings, api)
    return ui_address(settings)


def down(settings: Settings, report: Report = _silent) -> None:
    """End all that `up` started: the workers first, so that they can report to the server."""
    if not settings.home.exists():
        return
    with _alone(settings, report):
        with report("Workers"):
            _stop_workers(settings)
        with report("Prefect server"):
            stop(server(settings))
        if settings.database_url is None:
            with report("Postgres"):
                _postgres(settings).stop()


def ui_address(settings: Settings) -> str:
    return settings.prefect().removesuffix("/api")


def client(settings: Settings) -> httpx.Client:
    """Prefect's API, for questions too small to be worth importing Prefect for."""
    headers = {}
    if settings.prefect_api_key:
        headers["Authorization"] = f"Bearer {settings.prefect_api_key}"
    auth = tuple((settings.prefect_api_auth_string or "").split(":", 1))
    return httpx.Client(
        base_url=settings.prefect(),
        headers=headers,
        auth=(auth[0], auth[1]) if len(auth) == 2 else None,
        timeout=30.0,
        trust_env=settings.prefect_api_url is not None,  # no proxy between us and ourselves
    )


def healthy(api: httpx.Client) -> bool:
    """Whether the server answers."""
    try:
        return api.get("/health", timeout=5.0).is_success
    except httpx.TransportError:
        return False


# The services.


def server(settings: Settings) -> Service:
    """Prefect's server, on the port that `up` chose for it."""
    port = urlsplit(_memory(settings).get("prefect_api_url", "")).port or 0
    argv = python("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    return Service(name="server", argv=argv, home=settings.home)


def server_environment(settings: Settings) -> dict[str, str]:
    """Prefect's server of ours: private, silent towards the internet, its leases kept on disk."""
    return settings.environment(
        PREFECT_HOME=str(settings.home / "prefect"),
        PREFECT_API_URL=settings.prefect(),
        PREFECT_API_DATABASE_CONNECTION_URL=_memory(settings)["prefect_database_url"],
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT="false",
        PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=(
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        DO_NOT_TRACK="1",
    )


def worker(settings: Settings, pool: str, kind: str) -> Service | None:
    """The worker that serves a pool of this type from here; None if that is done elsewhere."""
    if kind == _TYPE_OF_WORKER["warm"]:
        argv = python("-m", "flows.worker", pool)
    elif kind == _TYPE_OF_WORKER["process"]:
        name = f"{pool}-{socket.gethostname()}"
        start = ("worker", "start", "--pool", pool, "--type", kind, "--name", name)
        argv = python("-m", "prefect", *start)
    else:
        return None
    return Service(name=f"worker-{pool}", argv=argv, home=settings.home)


def worker_environment(settings: Settings) -> dict[str, str]:
    return settings.environment(
        PREFECT_HOME=str(settings.home / "prefect"),
        PREFECT_API_URL=settings.prefect(),
        PREFECT_WORKER_QUERY_SECONDS="1",
        PREFECT_WORKER_HEARTBEAT_SECONDS="10",
        DO_NOT_TRACK="1",
    )


def workers(settings: Settings, api: httpx.Client) -> dict[str, Service]:
    """The workers that run here, by pool: one for each of a type that this machine can serve."""
    found = {}
    for pool in POOLS:
        kind = api.get(f"/work_pools/{pool}").raise_for_status().json()["type"]
        service = worker(settings, pool, kind)
        if service:
            found[pool] = service
    return found


def _postgres(settings: Settings) -> EmbeddedPostgres:
    return EmbeddedPostgres(settings.home / "postgres")


def _supervisor(settings: Settings) -> Service:
    return Service(name="supervisor", argv=python("-m", "flows.supervisor"), home=settings.home)


def _stop_workers(settings: Settings) -> None:
    # What it watches over is ended after it, or it would start that again.
    stop(_supervisor(settings), with_children=False)
    # A worker's record is found by its pool, whatever command it was started with.
    stop(*(Service(name=f"worker-{pool}", argv=(), home=settings.home) for pool in POOLS))


# The steps of `up`.


def _start_server(settings: Settings) -> None:
    """Start Prefect's server unless it runs, and wait until it answers."""
    if server(settings).pid() is None:
        _remember(settings, prefect_database_url=_prefect_database(settings))
        for _ in range(3):
            port = urlsplit(_memory(settings).get("prefect_api_url", "")).port
            if port is None or not _free(port):
                _stop_workers(settings)  # they know the old address
                _remember(settings, prefect_api_url=f"http://127.0.0.1:{_free_port()}/api")
            server(settings).start(server_environment(settings))
            if _answers(settings):
                return
            if "address already in use" not in server(settings).last_words():
                break  # else somebody took the port between our look and our start
    elif _answers(settings):
        return
    raise StackError(_silence(server(settings)))


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
        postgres = _postgres(settings)
        if postgres.has_trgm:
            postgres.createdb("prefect")
            return postgres.url("prefect", driver="asyncpg")
    return f"sqlite+aiosqlite:///{settings.home / 'prefect' / 'prefect.db'}"


def _make_pool(settings: Settings, api: httpx.Client, name: str) -> None:
    """Make the pool, or on our own server turn it into the type that the settings ask for."""
    kind = _TYPE_OF_WORKER[settings.worker]
    found = api.get(f"/work_pools/{name}")
    if found.is_success:
        if settings.prefect_api_url is not None or found.json()["type"] == kind:
            return
        _stop_workers(settings)
        api.delete(f"/work_pools/{name}").raise_for_status()
        _remember(settings, deployed="")  # the deployments have lost their pool
    pool = {"name": name, "type": kind, "concurrency_limit": POOLS[name]}
    made = api.post("/work_pools/", json=pool)
    if made.status_code != httpx.codes.CONFLICT:
        made.raise_for_status()


def _deploy(settings: Settings, api: httpx.Client) -> None:
    """Register prefect.yaml, if it or a flow of it is not what the server has."""
    sources = [PREFECT_YAML, *sorted((REPOSITORY / "flows").glob("*.py"))]
    content = b"\0".join(source.read_bytes() for source in sources)
    digest = hashlib.sha256(content + settings.prefect().encode()).hexdigest()
    question = {"deployments": {"name": {"any_": DEPLOYMENTS}}}
    known = api.post("/deployments/filter", json=question).raise_for_status().json()
    if len(known) == len(DEPLOYMENTS) and _memory(settings).get("deployed") == digest:
        return
    result = subprocess.run(
        python("-m", "prefect", "--no-prompt", "deploy", "--all"),
        env=worker_environment(settings),
        cwd=PREFECT_YAML.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode:
        raise StackError(f"prefect deploy --all failed:\n{result.stdout}{result.stderr}")
    _remember(settings, deployed=digest)


def _await_workers(settings: Settings, api: httpx.Client) -> None:
    supervisor = _supervisor(settings)
    deadline = time.monotonic() + _START_SECONDS
    for pool, service in workers(settings, api).items():
        while not (service.pid() and _online(api, pool)):
            if supervisor.pid() is None or time.monotonic() > deadline:
                culprit = service if supervisor.pid() else supervisor
                raise StackError(_silence(culprit))
            time.sleep(0.2)


def _online(api: httpx.Client, pool: str) -> bool:
    answer = api.post(f"/work_pools/{pool}/workers/filter", json={}).raise_for_status()
    return any(worker["status"] == "ONLINE" for worker in answer.json())


def _silence(service: Service) -> str:
    return (
        f"the {service.name} does not come up; its log, {service.log}, ends with:\n"
        f"{service.last_words()}"
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


# What `up` leaves for the commands and processes that come after it.


def _memory(settings: Settings) -> dict[str, str]:
    try:
        return dict(json.loads(settings.stack_file.read_text()))
    except FileNotFoundError:
        return {}


def _remember(settings: Settings, **facts: str) -> None:
    fresh = settings.stack_file.with_suffix(".new")
    # Addresses may hold secrets.
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(_memory(settings) | facts, file, indent=2)
    fresh.replace(settings.stack_file)


@contextmanager
def _alone(settings: Settings, report: Report) -> Iterator[None]:
    """One `up` or `down` at a time; the lock goes with its process, however that ends."""
    with (settings.home / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with report("Waiting for another up or down"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield
