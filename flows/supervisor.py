"""Keeps the stack's server and workers running, and frees the runs of processes that died.

`up` leaves one of these behind. It holds nothing in memory that matters: killed and started again,
it finds what still runs by its records and goes on. It ends alone; what it watches over runs on
until `down` ends it.
"""

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
from sqlalchemy.exc import OperationalError

from db.repository import Repository
from db.states import StoryboardState
from flows.studio import services
from flows.studio.processes import Service, process_start_time
from flows.studio.settings import Settings, read_settings

_TICK = 0.5  # seconds between two looks
_RUNS_EVERY = 4  # looks between two questions to the server about its runs
_SETTLING = timedelta(seconds=5)  # a state younger than this may still be getting its process
_MOST_RUNS = 3  # of a storyboard whose run's process dies
_LONGEST_PAUSE = 30.0  # seconds between two starts of a service that does not stay up

log = logging.getLogger("supervisor")


class Watch:
    """Restarts one service whenever it has ended, more slowly the more often it does."""

    def __init__(self, service: Service, environment: dict[str, str]) -> None:
        self.service = service
        self._environment = environment
        self._pause = _TICK
        self._started = time.monotonic()

    def look(self, before_start: Callable[[], None] = lambda: None) -> None:
        since = time.monotonic() - self._started
        if self.service.pid() is not None:
            if since > _LONGEST_PAUSE:
                self._pause = _TICK
        elif since > self._pause:
            before_start()
            pid = self.service.start(self._environment)
            log.info("%s started, process %d", self.service.name, pid)
            self._started = time.monotonic()
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def supervise(settings: Settings, stopping: threading.Event) -> None:
    """Look after the services until `stopping` is set."""
    ours = settings.prefect_api_url is None
    server = (
        Watch(services.server(settings), services.server_environment(settings)) if ours else None
    )
    workers: dict[str, Watch] = {}
    with services.client(settings) as api, Repository.open(settings.database()) as repository:
        for look in itertools.count():
            if stopping.wait(_TICK):
                return
            if server:
                server.look()
            # A worker that finds no server ends; without one there is also nothing to free.
            if not services.healthy(api):
                continue
            workers = workers or {
                pool: Watch(service, services.worker_environment(settings))
                for pool, service in services.workers(settings, api).items()
            }
            if ours and look % _RUNS_EVERY == 0:
                free_dead_runs(api)
                settle_storyboards(api, repository)
            for pool, worker in workers.items():
                worker.look(partial(requeue_unstarted, api, pool) if ours else lambda: None)


def free_dead_runs(api: httpx.Client) -> None:
    """Report as crashed each run whose process on this machine has ended.

    Prefect would leave a run as Running for ever, with its pool's slot, when a worker is killed
    together with the run's process. Only for the stack's own server, whose workers are all here.
    """
    for run in _unfinished(api, services.POOLS):
        kind = run["state"]["type"]
        since = datetime.fromisoformat(run["state"]["timestamp"])
        identifier = run["infrastructure_pid"]
        if not identifier or datetime.now(UTC) - since < _SETTLING:
            continue
        born = process_start_time(int(identifier))
        # What began after the run did has only got the number of the run's process.
        if born and (kind == "PENDING" or datetime.fromtimestamp(born, UTC) < since):
            continue
        end = "CANCELLED" if kind == "CANCELLING" else "CRASHED"
        _set_state(api, run, end, f"The run's process, {identifier}, has ended without a word.")


def settle_storyboards(api: httpx.Client, repository: Repository) -> None:
    """Go on with storyboards whose own run died; those whose run is over for good are failed.

    A run that dies, with its process or with the whole machine, cannot say so in the database.
    """
    for storyboard in repository.rendering_storyboards():
        if storyboard.flow_run_id is None:
            continue
        answer = api.get(f"/flow_runs/{storyboard.flow_run_id}")
        run = answer.json() if answer.is_success else None
        kind = run["state"]["type"] if run else "CRASHED"
        if run and kind == "CRASHED" and run["run_count"] < _MOST_RUNS:
            _set_state(api, run, "SCHEDULED", "Its process died: it is run again.", "AwaitingRetry")
        elif kind in ("CRASHED", "FAILED", "CANCELLED"):
            error = f"its run ended as {kind.lower()}: retry it in the Prefect UI"
            repository.set_storyboard_state(storyboard.id, StoryboardState.FAILED, error=error)


def requeue_unstarted(api: httpx.Client, pool: str) -> None:
    """Give back to the pool the runs that its worker had taken and not begun when it ended."""
    for run in _unfinished(api, [pool]):
        if run["state"]["type"] == "PENDING" and not run["infrastructure_pid"]:
            _set_state(api, run, "SCHEDULED", "The worker that had taken it has ended.")


def _set_state(
    api: httpx.Client, run: dict[str, Any], kind: str, message: str, name: str | None = None
) -> None:
    state = {"type": kind, "name": name or kind.title(), "message": message}
    body = {"state": state, "force": True}
    api.post(f"/flow_runs/{run['id']}/set_state", json=body).raise_for_status()
    log.warning("run %s is %s: %s", run["id"], kind, message)


def _unfinished(api: httpx.Client, pools: Iterable[str]) -> list[dict[str, Any]]:
    filter_body = {
        "flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}},
        "work_pools": {"name": {"any_": list(pools)}},
    }
    return list(api.post("/flow_runs/filter", json=filter_body).raise_for_status().json())


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    settings = read_settings()
    log.info("watching over %s, process %d", settings.home, os.getpid())
    while not stopping.is_set():
        try:
            supervise(settings, stopping)
        # The server, or the database, went away between two questions.
        except (httpx.HTTPError, OperationalError) as error:
            log.warning("%s", error)


if __name__ == "__main__":
    main()
