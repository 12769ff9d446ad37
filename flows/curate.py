"""The flows that curate a folder of videos, thin: what happens is in ``steps.curation``.

curate_folder (pool cpu) starts measure_videos runs (pool cpu) and then encode_videos runs (pool
gpu), and publishes the data set. A run may die at any point and be retried: finished work is found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment

from dreamontage.digests import digest
from dreamontage.training.curation import report
from dreamontage.training.curation.run import settings
from flows import artifacts
from flows.steps import curation as steps
from flows.studio.farm import open_farm

_VIDEOS_A_RUN = 64  # a run's start costs as much as measuring ten
_ATTEMPTS = 3  # runs started for a group whose process died
_POLL_SECONDS = 1.0


@flow(name="curate-folder", flow_run_name="{folder}", retries=1, retry_delay_seconds=5)
def curate_folder(
    folder: str, options: dict[str, Any] | None = None, out: str | None = None
) -> str:
    """Curate a folder that every worker sees; the address of the data set's index in the store.

    Args:
        options: those of `dreamontage curate`, as in {"size": "832x480", "least_motion": 0.02}.
        out: a folder to copy the data set and its report into.
    """
    given = options or {}
    with open_farm() as farm:
        curation = steps.curation_of(farm, given)
        names = steps.videos_of(folder)
        groups = [names[at : at + _VIDEOS_A_RUN] for at in range(0, len(names), _VIDEOS_A_RUN)]
        _spread(
            "measure-videos/measure-videos",
            groups,
            {"folder": folder, "options": given},
            dead=lambda name: steps.record_crash(farm, folder, name, curation),
        )
        entries = steps.judged(farm, folder, curation)
        plan = steps.plan_clips(farm, folder, curation, entries)
        _spread("encode-videos/encode-videos", plan.groups, {"folder": folder, "options": given})
        published = steps.publish(farm, folder, curation, entries, plan)
        get_run_logger().info("%d clips: %s", published.clips, published.address)
        with farm.scratch() as scratch:
            place = scratch
            if out is not None:
                place = steps.fetch_data_set(farm, published.address, Path(out))
            report.write(place, entries, settings(curation))
            artifacts.curated(folder, report.counts(entries), published.address, place)
    return published.address


@flow(name="measure-videos")
def measure_videos(folder: str, names: list[str], options: dict[str, Any]) -> None:
    """Measure some of a folder's videos, one after the other."""
    for name in names:
        measure.with_options(task_run_name=name)(folder, name, options)


@task(name="measure", retries=2, retry_delay_seconds=5)
def measure(folder: str, name: str, options: dict[str, Any]) -> None:
    """See to it that a video is measured."""
    with open_farm() as farm:
        steps.measure(farm, folder, name, steps.curation_of(farm, options))


@flow(name="encode-videos", retries=1, retry_delay_seconds=2)
def encode_videos(folder: str, names: list[str], options: dict[str, Any]) -> None:
    """Encode some of a folder's videos, and join them into a shard."""
    bar = artifacts.Progress(f"encode-{digest(names)[:16]}")
    with open_farm() as farm:
        curation = steps.curation_of(farm, options)
        for done, _ in enumerate(steps.encode(farm, folder, names, curation), start=1):
            bar.update(done, len(names))
    bar.finish()


def _spread(
    deployment: str,
    groups: Sequence[Sequence[str]],
    parameters: dict[str, Any],
    *,
    dead: Callable[[str], None] | None = None,
) -> None:
    """Run a deployment for each group of names, and wait. A run whose process died is replaced.

    Args:
        dead: called with each name whose process dies every time. With it, a group whose process
            died is halved until one name is left.

    Raises:
        RuntimeError: naming what failed, once all runs have ended.
    """
    logger = get_run_logger()
    running: dict[str, tuple[Sequence[str], int, FlowRun]] = {}

    def start(names: Sequence[str], attempt: int) -> None:
        # A retry of this flow has to start runs anew, though it has the run id of the first.
        key = digest([list(names), attempt, runtime.flow_run.get_run_count()])
        run = run_deployment(
            deployment,
            parameters={**parameters, "names": list(names)},
            idempotency_key=f"{runtime.flow_run.get_id()}-{key}",
            timeout=0,
            flow_run_name=f"{names[0]} ({len(names)})",
        )
        assert isinstance(run, FlowRun)
        running[str(run.id)] = names, attempt, run

    for names in groups:
        start(names, 0)
    failed: list[str] = []
    with get_client(sync_client=True) as client:
        while running:
            time.sleep(_POLL_SECONDS)
            for names, attempt, run in list(running.values()):
                state = client.read_flow_run(run.id).state
                if state is None or not state.is_final():
                    continue
                del running[str(run.id)]
                if state.is_completed():
                    continue
                if not state.is_crashed():
                    failed.append(f"{names[0]}: {state.name}, {state.message}")
                elif dead is not None and len(names) > 1:
                    logger.warning("a process died on one of %d videos", len(names))
                    start(names[: len(names) // 2], attempt)
                    start(names[len(names) // 2 :], attempt)
                elif attempt + 1 < _ATTEMPTS:
                    start(names, attempt + 1)
                elif dead is not None:
                    dead(names[0])
                else:
                    failed.append(f"{names[0]}: its process died {_ATTEMPTS} times")
    if failed:
        raise RuntimeError("; ".join(failed))
