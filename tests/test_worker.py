"""Workers: a warm process runs one flow after another, and what dies takes nothing with it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.child_pool import Child, ChildPool
from flows.studio.processes import Service, process_start_time, stop
from flows.studio.services import worker, worker_environment
from tests.support.farm import Farm, await_that

pytestmark = pytest.mark.xdist_group("farm")

NAPS = "tests/support/naps.py"
POOL, WARM = "naps", "dreamontage-warm"


@pytest.fixture(scope="module")
def warm(farm: Farm) -> Iterator[Service]:
    """A warm worker for a pool of its own, which takes one run at a time as `gpu` does.

    The stack's supervisor does not look after it.
    """
    farm.post("/work_pools/", {"name": POOL, "type": WARM, "concurrency_limit": 1})
    service = worker(farm.settings, POOL, WARM)
    assert service
    yield service
    stop(service)


@pytest.fixture
def nap(farm: Farm, warm: Service) -> str:
    if warm.pid() is None:
        warm.start(worker_environment(farm.settings))
    return farm.deploy(f"{NAPS}:nap", pool=POOL)


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "pids"


def pids(note: Path) -> list[int]:
    return [int(line) for line in note.read_text().split()] if note.exists() else []


def begin_long_nap(farm: Farm, nap: str, note: Path) -> tuple[str, int]:
    """A run in the middle of its flow, and the process it is in."""
    run = farm.start(nap, path=str(note), seconds=60)
    await_that(lambda: pids(note), "the run to begin")
    # The worker tells the server the process's id at about the same time.
    await_that(lambda: farm.run(run)["infrastructure_pid"], "the run to have a process")
    return run, pids(note)[-1]


def retry(farm: Farm, run: str) -> None:
    """What the UI's Retry button asks for."""
    farm.set_state(run, type="SCHEDULED", name="AwaitingRetry")


def test_runs_share_a_process(farm: Farm, nap: str, note: Path) -> None:
    for _ in range(3):
        run = farm.wait(farm.start(nap, path=str(note)))
        assert run["state"]["type"] == "COMPLETED", run["state"]
        assert run["infrastructure_pid"] == str(pids(note)[-1])
    assert len(pids(note)) == 3
    assert len(set(pids(note))) == 1


@pytest.mark.usefixtures("nap")
def test_async_flow(farm: Farm, note: Path) -> None:
    run = farm.wait(farm.start(farm.deploy(f"{NAPS}:drowse", pool=POOL), path=str(note)))
    assert run["state"]["type"] == "COMPLETED", run["state"]
    assert pids(note)


def test_flow_cannot_reach_the_pipes(farm: Farm, nap: str, note: Path) -> None:
    chatter = farm.deploy(f"{NAPS}:chatter", pool=POOL)
    for deployment in (chatter, nap):
        run = farm.wait(farm.start(deployment, path=str(note)))
        assert run["state"]["type"] == "COMPLETED", run["state"]


def test_failed_run_leaves_its_process_to_no_other(farm: Farm, nap: str, note: Path) -> None:
    failed = farm.wait(farm.start(farm.deploy(f"{NAPS}:stumble", pool=POOL), path=str(note)))
    assert failed["state"]["type"] == "FAILED"
    assert "stumbled" in failed["state"]["message"]
    assert farm.wait(farm.start(nap, path=str(note)))["state"]["type"] == "COMPLETED"
    first, second = pids(note)
    assert first != second
    assert process_start_time(first) is None


def test_killed_process_crashes_its_run_which_can_be_retried(
    farm: Farm, nap: str, note: Path
) -> None:
    run, pid = begin_long_nap(farm, nap, note)
    os.kill(pid, signal.SIGKILL)
    assert farm.wait(run)["state"]["type"] == "CRASHED"

    retry(farm, run)
    await_that(lambda: len(pids(note)) == 2, "the retry to begin")
    assert pids(note)[1] != pid
    assert farm.run(run)["run_count"] == 2
    farm.set_state(run, type="CANCELLING", name="Cancelling")
    farm.wait(run)


def test_cancelled_run_ends_its_process(farm: Farm, nap: str, note: Path) -> None:
    run, pid = begin_long_nap(farm, nap, note)
    farm.set_state(run, type="CANCELLING", name="Cancelling")
    assert farm.wait(run)["state"]["type"] == "CANCELLED"
    await_that(lambda: process_start_time(pid) is None, "the process to end")
    # Nor does the end of its process make it a crashed one.
    assert farm.run(run)["state"]["type"] == "CANCELLED"
    assert farm.wait(farm.start(nap, path=str(note)))["state"]["type"] == "COMPLETED"


def test_killed_worker_and_process_free_the_pool(farm: Farm, note: Path) -> None:
    nap = farm.deploy(f"{NAPS}:nap", pool="gpu")
    run, pid = begin_long_nap(farm, nap, note)
    # One more that the worker has taken from the pool, but has not come to start.
    taken = farm.start(nap, "PENDING", path=str(note))
    dead = farm.pid("worker-gpu")
    assert dead
    os.kill(dead, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    state = farm.wait(run)["state"]
    assert state["type"] == "CRASHED"
    assert str(pid) in state["message"]
    # The pool takes one run at a time, so these show that the slot is free again.
    assert farm.wait(taken)["state"]["type"] == "COMPLETED"
    assert farm.wait(farm.start(nap, path=str(note)))["state"]["type"] == "COMPLETED"
    assert farm.pid("worker-gpu") not in (None, dead)


def test_run_outlives_its_killed_worker(farm: Farm, warm: Service, nap: str, note: Path) -> None:
    run = farm.start(nap, path=str(note), seconds=4)
    await_that(lambda: farm.run(run)["infrastructure_pid"] and pids(note), "the run to begin")
    pid = warm.pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert farm.wait(run)["state"]["type"] == "COMPLETED"
    # With no worker to give it another order, the process ends too.
    await_that(lambda: process_start_time(pids(note)[0]) is None, "the orphan to end")


def test_stock_process_worker_serves_a_pool(farm: Farm, note: Path) -> None:
    farm.post("/work_pools/", {"name": "stock", "type": "process"})
    stock = worker(farm.settings, "stock", "process")
    assert stock
    run = farm.start(farm.deploy(f"{NAPS}:nap", pool="stock"), path=str(note))
    stock.start(worker_environment(farm.settings))
    try:
        assert farm.wait(run)["state"]["type"] == "COMPLETED"
    finally:
        stop(stock)


class _Idler(Child):
    """A child whose process only sleeps: these tests are about how many there are."""

    broken = False

    @classmethod
    async def start(cls, *modules: str) -> Child:
        if cls.broken:
            raise OSError("no process to be had")
        return cls(await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True))


@pytest.fixture
def idlers(monkeypatch: pytest.MonkeyPatch) -> type[_Idler]:
    """Makes every pool's children `_Idler`."""
    monkeypatch.setattr("flows.child_pool.Child", _Idler)
    monkeypatch.setattr(_Idler, "broken", False)
    return _Idler


def test_children_come_on_demand_and_the_surplus_goes(idlers: type[_Idler]) -> None:
    async def scene() -> None:
        pool = ChildPool([], limit=lambda: 4)
        taken = [await pool.take() for _ in range(4)]
        assert len({child.pid for child in taken}) == pool.size == 4
        for child in taken:
            await pool.give_back(child)
        assert len(pool.idle) == pool.size == 2
        assert [process_start_time(child.pid) is None for child in taken] == [
            False,
            False,
            True,
            True,
        ]
        for child in pool.idle:
            await child.stop()

    asyncio.run(scene())


def test_a_child_that_does_not_start_takes_no_place(
    idlers: type[_Idler], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        pool = ChildPool([], limit=lambda: 1)
        monkeypatch.setattr(idlers, "broken", True)
        with pytest.raises(OSError, match="no process"):
            await pool.take()
        monkeypatch.setattr(idlers, "broken", False)
        child = await asyncio.wait_for(pool.take(), 20)
        # Nor does one whose successor does not start.
        child.spoiled = True
        await pool.give_back(child, renew=False)
        monkeypatch.setattr(idlers, "broken", True)
        with pytest.raises(OSError, match="no process"):
            await pool.take()
        monkeypatch.setattr(idlers, "broken", False)
        child = await asyncio.wait_for(pool.take(), 20)
        assert pool.size == 1
        await child.stop()

    asyncio.run(scene())
