"""A Prefect worker that keeps its processes: the model is loaded once, not once a run.

A run is handed to an idle child process, which executes it as Prefect's own engine would and then
waits for the next. A child is used for one run at a time and dropped when its run failed, was
cancelled or killed it, when it has done enough of them, and when our code has changed: the next
run gets a fresh one. Prefect's stock `process` and `kubernetes` workers do the same work, only
slower. On a server of your own: `PREFECT_API_URL=… python -m flows.worker gpu`.
"""

import asyncio
import signal
import socket
import sys
from contextlib import suppress
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

from flows.child_pool import Child, ChildPool

_CANCELLED_EVERY_SECONDS = 2.0  # between two looks whether a run is cancelled


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
        modules = [
            "flows.render",
            *(["flows.studio.model"] if self._work_pool_name == "gpu" else []),
        ]
        self._children = ChildPool(modules, limit=self._concurrency_limit)

    async def run(
        self,
        flow_run: Any,
        configuration: BaseJobConfiguration,
        task_status: Any = None,
    ) -> BaseWorkerResult:
        child = await self._children.take()
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
                await self._children.give_back(child, renew=self.is_setup)
        return BaseWorkerResult(identifier=str(child.pid), status_code=status)

    def _concurrency_limit(self) -> int:
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
        await self._children.warm()

    async def teardown(self, *exc_info: Any) -> None:
        try:
            await super().teardown(*exc_info)
        finally:
            with anyio.CancelScope(shield=True):
                await self._children.stop()


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
