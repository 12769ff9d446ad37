"""A Prefect worker that keeps its processes: the model is loaded once, not once a run.

A run is handed to an idle child process, which executes it as Prefect's own engine would and then
waits for the next. A child is used for one run at a time and dropped when its run failed, was
cancelled or killed it, when it has done enough of them, and when our code has changed: the next
run gets a fresh one. Prefect's stock `process` and `kubernetes` workers do the same work, only
slower. On a server of your own: `PREFECT_API_URL=… python -m flows.worker gpu`.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx
from prefect.client.schemas.objects import State
from prefect.states import Cancelled
from prefect.workers.base import (
    BaseJobConfiguration,
    BaseVariables,
    BaseWorker,
    BaseWorkerResult,
)

from flows.studio.processes import python

_CHANGES_IN = tuple(
    Path(__file__).resolve().parent.parent / part
    for part in ("flows", "dreamontage", "db", "storage")
)
_IDLE_CHILDREN = 2  # stay warm; children beyond that number end when they are idle
_RUNS_PER_CHILD = 50  # a bound on what memory a leak can take
_GRACE_SECONDS = 5.0  # between asking a child to end and making it
_CANCELLED_EVERY_SECONDS = 2.0  # between two looks whether a run is cancelled


class Child:
    """One long-lived process that executes flow runs, one after another."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._code = _code_stamp()
        self._runs = 0
        self.spoiled = False

    @classmethod
    async def start(cls, *modules: str) -> "Child":
        """A child that imports `modules` ahead of its first run."""
        process = await asyncio.create_subprocess_exec(
            *python("-m", "flows.worker_child", *modules),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # so that it can be ended with all that it started
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def fit(self) -> bool:
        """Whether the next run may have it."""
        return (
            not self.spoiled
            and self._process.returncode is None
            and self._runs < _RUNS_PER_CHILD
            and self._code == _code_stamp()
        )

    async def execute(self, flow_run: UUID, environment: dict[str, str | None]) -> int:
        """Run it to its end; return the exit code that a process of its own would have had."""
        orders, answers = self._process.stdin, self._process.stdout
        assert orders is not None
        assert answers is not None
        self._runs += 1
        order = json.dumps({"flow_run": str(flow_run), "environment": environment})
        with suppress(ConnectionError):  # an ended child also closes the other pipe
            orders.write(order.encode() + b"\n")
            await orders.drain()
        answer = await answers.readline()
        if not answer:
            return await self._process.wait()
        end = json.loads(answer)
        # What a failed run has left behind in its process, no later one should find.
        self.spoiled = end["failed"]
        return int(end["status"])

    async def stop(self) -> None:
        """End it. A run in it gets the time to report itself as crashed."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE_SECONDS)
        self.kill()  # also what it may have left behind
        await self._process.wait()

    def kill(self) -> None:
        """End it at once, with all that it started."""
        self.spoiled = True
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def _code_stamp() -> float:
    """When our code last changed: a child has to be younger."""
    return max(source.stat().st_mtime for part in _CHANGES_IN for source in part.rglob("*.py"))


class WarmWorker(BaseWorker[BaseJobConfiguration, BaseVariables, BaseWorkerResult]):
    """Serves a pool from warm children: up to as many as the pool runs at once, on demand."""

    type = "dreamontage-warm"
    job_configuration = BaseJobConfiguration
    job_configuration_variables = BaseVariables
    _display_name = "DreaMontage warm"
    _description = "Runs flows in long-lived local processes that keep the model loaded."

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Torch takes its seconds to import, and memory that only the pool with the model needs.
        self._modules = [
            "flows.render",
            *(["flows.studio.model"] if self._work_pool_name == "gpu" else []),
        ]
        self._idle: list[Child] = []
        self._children = 0
        self._returned = asyncio.Condition()

    async def run(
        self,
        flow_run: Any,
        configuration: BaseJobConfiguration,
        task_status: Any = None,
    ) -> BaseWorkerResult:
        child = await self._take()
        watch = asyncio.ensure_future(self._stop_if_cancelled(flow_run.id, child))
        try:
            if task_status is not None:
                task_status.started(child.pid)
            status = await child.execute(flow_run.id, dict(configuration.env))
        except asyncio.CancelledError:  # the worker is ending
            with anyio.CancelScope(shield=True):
                await child.stop()
            raise
        finally:
            watch.cancel()
            with anyio.CancelScope(shield=True):
                await self._give_back(child)
        return BaseWorkerResult(identifier=str(child.pid), status_code=status)

    async def _take(self) -> Child:
        """An idle child, or a new one while there are fewer than the pool runs at once.

        The server counts a run as over a little before its child is free, so the next run may
        have to wait for that rather than load a second model.
        """
        async with self._returned:
            await self._returned.wait_for(lambda: self._idle or self._children < self._most)
            child = self._idle.pop() if self._idle else None
            self._children += child is None
        if child is None:
            return await self._start()
        return child if child.fit else await self._renew(child)

    async def _give_back(self, child: Child) -> None:
        if len(self._idle) >= _IDLE_CHILDREN:
            await child.stop()
            await self._uncount()
            return
        if not child.fit and self.is_setup:
            child = await self._renew(child)  # warm before the next run comes
        async with self._returned:
            self._idle.append(child)
            self._returned.notify()

    async def _renew(self, child: Child) -> Child:
        await child.stop()
        return await self._start()

    async def _start(self) -> Child:
        """A child that is already counted, and no longer if it does not start."""
        try:
            return await Child.start(*self._modules)
        except BaseException:  # also of a worker that is ending
            with anyio.CancelScope(shield=True):
                await self._uncount()
            raise

    async def _uncount(self) -> None:
        async with self._returned:
            self._children -= 1
            self._returned.notify()

    @property
    def _most(self) -> int:
        limit = self.work_pool.concurrency_limit
        return sys.maxsize if limit is None else max(limit, 1)

    async def _stop_if_cancelled(self, flow_run_id: UUID, child: Child) -> None:
        while True:
            await asyncio.sleep(_CANCELLED_EVERY_SECONDS)
            with suppress(httpx.HTTPError):
                state = (await self.client.read_flow_run(flow_run_id)).state
                if state and (state.is_cancelling() or state.is_cancelled()):
                    cancelled: State[Any] = Cancelled(message="The run's process was ended.")
                    await self.client.set_flow_run_state(flow_run_id, cancelled, force=True)
                    # Asked rather than killed, Prefect's engine would call the run crashed.
                    child.kill()
                    return

    async def setup(self) -> None:
        await super().setup()
        self._children += 1
        self._idle.append(await self._start())

    async def teardown(self, *exc_info: Any) -> None:
        try:
            await super().teardown(*exc_info)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.gather(*(child.stop() for child in self._idle))


async def serve(pool: str) -> None:
    """Serve the pool until TERM or INT, under this machine's name."""
    # The same name after a restart: to operators it stays one worker.
    worker = WarmWorker(work_pool_name=pool, name=f"{pool}-{socket.gethostname()}")
    task = asyncio.ensure_future(worker.start())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
