"""What the stack is made of: its services, how to talk to them, and what is remembered of them.

`stack` starts and ends them, `supervisor` keeps them alive.
"""

import json
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx

from db.embedded import EmbeddedPostgres
from dreamontage.files import write_text
from flows.studio.processes import Service, python
from flows.studio.settings import Settings

POOLS: Mapping[str, int] = {"cpu": 16, "gpu": 1}
"""How many runs each takes at once.

A run in cpu renders nothing: it holds its slot while it waits for runs in gpu, and the nightly one
for others in cpu. With few slots those that wait would keep out those that are waited for, or
leave the GPUs of other machines idle.
"""
POOL_TYPES: Mapping[str, str] = {"warm": "dreamontage-warm", "process": "process"}
"""The type of pool that each kind of worker in the settings serves."""


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


def server(settings: Settings) -> Service:
    """Prefect's server, on the port that `up` chose for it."""
    port = urlsplit(read_stack_state(settings).get("prefect_api_url", "")).port or 0
    argv = python("-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    return Service(name="server", argv=argv, home=settings.home)


def server_environment(settings: Settings) -> dict[str, str]:
    """Our own Prefect server: private, with no calls to the internet, its leases on disk."""
    return settings.environment(
        PREFECT_HOME=str(settings.home / "prefect"),
        PREFECT_API_URL=settings.prefect(),
        PREFECT_API_DATABASE_CONNECTION_URL=read_stack_state(settings)["prefect_database_url"],
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT="false",
        PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE=(
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        DO_NOT_TRACK="1",
    )


def worker(settings: Settings, pool: str, kind: str) -> Service | None:
    """The worker that serves a pool of this type from here; None if that is done elsewhere."""
    if kind == POOL_TYPES["warm"]:
        argv = python("-m", "flows.worker", pool)
    elif kind == POOL_TYPES["process"]:
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


def postgres(settings: Settings) -> EmbeddedPostgres:
    """Our private database, for when DATABASE_URL names no other."""
    return EmbeddedPostgres(settings.home / "postgres")


def supervisor(settings: Settings) -> Service:
    """What starts the other services again when they die."""
    return Service(name="supervisor", argv=python("-m", "flows.supervisor"), home=settings.home)


def read_stack_state(settings: Settings) -> dict[str, str]:
    """What `up` has left for the commands and processes that come after it."""
    try:
        return dict(json.loads(settings.stack_file.read_text()))
    except FileNotFoundError:
        return {}


def write_stack_state(settings: Settings, **facts: str) -> None:
    # Addresses may hold secrets.
    write_text(
        settings.stack_file, json.dumps(read_stack_state(settings) | facts, indent=2), mode=0o600
    )
