"""Long-lived processes that execute flow runs, and a pool of them that stays warm."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import anyio

from flows.studio.processes import python

_CHANGES_IN = tuple(
    Path(__file__).resolve().parent.parent / part
    for part in ("flows", "dreamontage", "db", "storage")
)
_IDLE_CHILDREN = 2  # stay warm; children beyond that number end when they are idle
_RUNS_PER_CHILD = 50  # a bound on what memory a leak can take
_GRACE_SECONDS = 5.0  # between asking a child to end and making it


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


class ChildPool:
    """Children that are started on demand, up to a limit, and stay warm between runs.

    Args:
        modules: what each child imports ahead of its first run.
        limit: called for the number of children that there may be.
    """

    def __init__(self, modules: list[str], limit: Callable[[], int]) -> None:
        self.idle: list[Child] = []
        self.size = 0
        """The children that are idle, at work or about to start."""
        self._modules = modules
        self._limit = limit
        self._returned = asyncio.Condition()

    async def take(self) -> Child:
        """An idle child, or a new one while there are fewer than the limit.

        The server counts a run as over a little before its child is free, so the next run may
        have to wait for that rather than load a second model.
        """
        async with self._returned:
            await self._returned.wait_for(lambda: self.idle or self.size < self._limit())
            child = self.idle.pop() if self.idle else None
            self.size += child is None
        if child is None:
            return await self._start()
        return child if child.fit else await self._renew(child)

    async def give_back(self, child: Child, *, renew: bool = True) -> None:
        """Take back a child whose run is over. ``renew``: replace one that is not fit any more, so
        that the next run finds a warm one."""
        if len(self.idle) >= _IDLE_CHILDREN:
            await child.stop()
            await self._uncount()
            return
        if renew and not child.fit:
            child = await self._renew(child)
        async with self._returned:
            self.idle.append(child)
            self._returned.notify()

    async def warm(self) -> None:
        """Start a child ahead of the first run."""
        self.size += 1
        self.idle.append(await self._start())

    async def stop(self) -> None:
        """End the idle children."""
        await asyncio.gather(*(child.stop() for child in self.idle))

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
            self.size -= 1
            self._returned.notify()
