"""A whole studio on this machine, up once for all tests that need one."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from db.embedded import EmbeddedPostgres
from flows.studio import farm as farm_module
from flows.studio import services, stack
from flows.studio.processes import Service
from flows.studio.settings import REPOSITORY, Settings

FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_PATIENCE = 120.0  # how long something may take before a test gives up on it


def await_that(condition: Callable[[], Any], what: str) -> Any:
    """Wait until `condition()` is true of something, and return that."""
    deadline = time.monotonic() + _PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)
    return value


@dataclass(frozen=True, kw_only=True)
class Farm:
    """The stack's handles: its settings, its server's API, its processes."""

    settings: Settings
    api: httpx.Client

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def api_url(self) -> str:
        return self.settings.prefect()

    def pid(self, name: str) -> int | None:
        """Process of `server`, `supervisor`, `worker-cpu` or `worker-gpu`, if it runs."""
        path = self.home / "run" / f"{name}.json"
        return Service(name=name, argv=(), home=self.home).pid() if path.exists() else None

    def pids_of_runs(self, pool: str) -> list[int]:
        """The processes in which the pool's worker executes runs."""
        worker = self.pid(f"worker-{pool}")
        return [child.pid for child in psutil.Process(worker).children()] if worker else []

    def get(self, path: str) -> Any:
        return self.api.get(path).raise_for_status().json()

    def post(self, path: str, body: Any) -> Any:
        return self.api.post(path, json=body).raise_for_status().json()

    def deploy(self, entrypoint: str, *, pool: str) -> str:
        """Make a deployment of a flow in this checkout (`path:function`); return its id."""
        name = entrypoint.rpartition(":")[2]
        flow = self.post("/flows/", {"name": name})
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(REPOSITORY)}}
        deployment = {
            "name": f"{name}-{pool}",
            "flow_id": flow["id"],
            "entrypoint": entrypoint,
            "work_pool_name": pool,
            "pull_steps": [step],
        }
        return str(self.post("/deployments/", deployment)["id"])

    def start(self, deployment: str, state: str = "SCHEDULED", **parameters: Any) -> str:
        """Start a run of the deployment with this id; return the run's id."""
        body = {"parameters": parameters, "state": {"type": state}}
        return str(self.post(f"/deployments/{deployment}/create_flow_run", body)["id"])

    def run(self, run: str) -> dict[str, Any]:
        return dict(self.get(f"/flow_runs/{run}"))

    def wait(self, run: str, states: frozenset[str] = FINAL) -> dict[str, Any]:
        """Wait until the run's state is one of these types; return the run."""
        return dict(
            await_that(
                lambda: found if (found := self.run(run))["state"]["type"] in states else None,
                f"run {run} to be {' or '.join(sorted(states))}, not {self.run(run)['state']}",
            )
        )

    def set_state(self, run: str, **state: Any) -> None:
        """Set a run's state as the UI does: its Retry is SCHEDULED with name AwaitingRetry."""
        self.post(f"/flow_runs/{run}/set_state", {"state": state, "force": True})


def end(settings: Settings) -> None:
    """Take a stack down and everything of it off the disk."""
    stack.down(settings)
    EmbeddedPostgres(settings.home / "postgres").delete()
    shutil.rmtree(settings.home)


@pytest.fixture(scope="session")
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Farm]:
    """The studio, as `dreamontage up` leaves it when nothing is set, but that a shot gets one take:
    what the gate says of films of three steps is not what these tests are about."""
    settings = Settings(home=tmp_path_factory.mktemp("farm"), max_takes=1)
    try:
        stack.up(settings)
        with services.client(settings) as api:
            yield Farm(settings=settings, api=api)
    finally:
        end(settings)


@pytest.fixture
def opened_farm(farm: Farm) -> Iterator[farm_module.Farm]:
    """The studio's database and store."""
    with farm_module.open_farm(farm.settings) as opened:
        yield opened
