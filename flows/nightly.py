"""The flow that renders, at night, every storyboard that is due."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from flows.studio.farm import open_farm

_POLL_SECONDS = 2.0


@flow(name="nightly")
def nightly() -> None:
    """Start a run for each due storyboard, wait for all, and leave a table of what came of it.

    One storyboard's failure does not touch the others; the flow fails at the end, naming it.
    """
    with open_farm() as farm:
        due = farm.repository.due_storyboards(datetime.now(UTC))
    get_run_logger().info("%d storyboards are due", len(due))
    runs: dict[str, FlowRun] = {}
    for storyboard in due:
        run = _start(storyboard.id, f"nightly-{storyboard.id}")
        if run.state is not None and run.state.is_final():
            # An earlier night's run, which ended before it could begin: its key is used up.
            run = _start(storyboard.id, f"nightly-{storyboard.id}-{run.id}")
        runs[storyboard.id] = run
    ended: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        while len(ended) < len(runs):
            time.sleep(_POLL_SECONDS)
            for storyboard_id, run in runs.items():
                state = client.read_flow_run(run.id).state
                if storyboard_id not in ended and state is not None and state.is_final():
                    ended[storyboard_id] = state.type.value
    create_table_artifact(
        key="nightly",
        description="What the night rendered",
        table=[
            {
                "storyboard": each.id,
                "title": each.title,
                "variant": each.variant,
                "run": ended[each.id],
            }
            for each in due
        ],
    )
    failed = [storyboard_id for storyboard_id, name in ended.items() if name != "COMPLETED"]
    if failed:
        raise RuntimeError("not rendered: " + ", ".join(failed))


def _start(storyboard_id: str, key: str) -> FlowRun:
    """A run for the key, new or the one that has it: two nights that overlap start one."""
    run = run_deployment(
        "render-storyboard/render-storyboard",
        parameters={"storyboard_id": storyboard_id},
        idempotency_key=key,
        timeout=0,
        flow_run_name=storyboard_id,
    )
    assert isinstance(run, FlowRun)
    return run
