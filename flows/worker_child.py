"""The process that executes flow runs for the warm worker: see `flows.worker`.

Its arguments are modules to import ahead of the first run.
Orders arrive on stdin, one line of JSON each; an answer, also one line of JSON, goes to what was
stdout. It ends when stdin does: after its run, if the worker is killed in the middle of one.
"""

import asyncio
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from prefect.engine import handle_engine_signals
from prefect.flow_engine import load_flow, load_flow_run, run_flow
from prefect.logging.loggers import flow_run_logger


def execute(flow_run_id: UUID) -> dict[str, int | bool]:
    """What `python -m prefect.engine` does, but with the outcome as a value instead of an exit.

    `status` is the exit code: 0 also for a failed run, whose state the engine has reported.
    `failed` says that an exception came out of the flow.
    """
    failed = False
    try:
        with handle_engine_signals(flow_run_id):
            flow_run = load_flow_run(flow_run_id)
            try:
                flow = load_flow(flow_run)
            except Exception:
                flow_run_logger(flow_run).exception("The flow cannot be loaded")
                raise
            try:
                running = run_flow(flow, flow_run=flow_run)
                if asyncio.iscoroutine(running):
                    asyncio.run(running)
            except Exception:
                failed = True
                raise
    except SystemExit as end:
        return {"status": int(end.code or 0), "failed": failed}
    return {"status": 0, "failed": failed}


def main(modules: Sequence[str]) -> None:
    # The two pipes are ours alone: a run's prints join stderr, and a program that a run starts
    # finds nothing to read.
    orders, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    for module in modules:
        importlib.import_module(module)
    own, folder = dict(os.environ), Path.cwd()
    for line in orders:
        order = json.loads(line)
        given = {name: value for name, value in order["environment"].items() if value is not None}
        os.environ.clear()
        os.environ.update(own | given)
        os.chdir(folder)  # a deployment's pull steps may have moved us
        print(json.dumps(execute(UUID(order["flow_run"]))), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
