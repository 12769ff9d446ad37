"""Processes that outlive the command that started them: started, found again, ended.

A process is known by its id *and* the time it began, since ids are given out again: what a stale
record names is never touched.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from dreamontage.files import write_text

_LOG_LIMIT = 10_000_000  # bytes at which a log starts afresh when its service next starts


def python(*arguments: str) -> tuple[str, ...]:
    """A command under this very interpreter."""
    return (sys.executable, *arguments)


def process_start_time(pid: int) -> float | None:
    """When the process began, in seconds since 1970; None if it has ended."""
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.create_time()
    except psutil.NoSuchProcess:
        return None
    with suppress(ChildProcessError):  # a zombie of another parent is left to that parent
        os.waitpid(pid, os.WNOHANG)
    return None


@dataclass(frozen=True, kw_only=True)
class Service:
    """A long-running program of the stack, with its log and the record of its process."""

    name: str
    argv: tuple[str, ...]
    home: Path

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.home / "run" / f"{self.name}.json"

    def pid(self) -> int | None:
        """Its process, if it runs."""
        try:
            record = json.loads(self.record.read_text())
            pid, then = int(record["pid"]), float(record["began"])
        except (FileNotFoundError, ValueError, KeyError):
            return None
        now = process_start_time(pid)
        # The two readings may differ a little: the kernel counts from a boot time that jitters.
        return pid if now is not None and abs(now - then) < 1.0 else None

    def start(self, environment: Mapping[str, str]) -> int:
        """Start it in a session of its own, so that no terminal's signals reach it."""
        for folder in (self.log.parent, self.record.parent):
            folder.mkdir(parents=True, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.argv,
                env=dict(environment),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process.returncode = 0  # not this object's to wait for: see `began`
        facts = {"pid": process.pid, "began": process_start_time(process.pid) or 0.0}
        write_text(self.record, json.dumps(facts))
        return process.pid

    def last_log_lines(self, lines: int = 15) -> str:
        """The end of its log, for a message that says why it does not run."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def stop(*services: Service, grace: float = 10.0, with_children: bool = True) -> None:
    """Ask them to end; after `grace` seconds insist, also with the processes they had started."""
    family: list[psutil.Process] = []
    for service in services:
        pid = service.pid()
        if pid is not None:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                family.append(process)
                if with_children:
                    family += process.children(recursive=True)
                process.terminate()
    if not _ended(family, within=grace):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _ended(family, within=grace)
    for service in services:
        service.record.unlink(missing_ok=True)


def _ended(family: list[psutil.Process], *, within: float) -> bool:
    deadline = time.monotonic() + within
    # is_running compares start times, so a process that got a freed id is not waited for.
    while any(process.is_running() and process_start_time(process.pid) for process in family):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
