"""The flows that render a storyboard. They are thin: ``steps`` does the work.

render_storyboard (pool cpu) starts one render_shot (pool gpu) for each shot, waits, assembles.
A run may die at any point and be retried, here or from Prefect's UI: finished work is found.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from prefect import Task, flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.deployments import run_deployment
from prefect.states import Completed

from db.models import Shot
from db.states import ShotState, StoryboardState
from db.states import Stage as RowStage
from dreamontage.rendering.take_plan import PlannedSegment, Stage, StaleTake
from dreamontage.rendering.takes import render_takes
from dreamontage.scorer import Verdict
from flows import artifacts, steps
from flows.studio.farm import open_farm

_SHOT_ATTEMPTS = 3  # runs started for a shot whose process died
_POLL_SECONDS = 1.0


@flow(name="render-storyboard", flow_run_name="{storyboard_id}")
def render_storyboard(storyboard_id: str) -> None:
    """Render every shot of a stored storyboard and assemble the film.

    Raises:
        RuntimeError: naming the shots that could not be rendered.
    """
    with open_farm() as farm:
        farm.repository.set_storyboard_state(storyboard_id, StoryboardState.RENDERING)
        farm.repository.set_flow_run(storyboard_id, str(runtime.flow_run.get_id()))
        try:
            _render_shots(farm.repository.shots(storyboard_id))
            assemble(storyboard_id)
        except Exception as error:
            farm.repository.set_storyboard_state(
                storyboard_id, StoryboardState.FAILED, error=str(error)
            )
            raise


def _render_shots(shots: list[Shot]) -> None:
    """One run a shot. A run whose process died is replaced; one that failed is not."""
    logger = get_run_logger()
    running: dict[str, tuple[Shot, int, FlowRun]] = {}
    for shot in shots:
        running[shot.id] = (shot, 0, _start(shot, 0))
    failed: list[str] = []
    with get_client(sync_client=True) as client:
        while running:
            time.sleep(_POLL_SECONDS)
            for shot, attempt, run in list(running.values()):
                state = client.read_flow_run(run.id).state
                if state is None or not state.is_final():
                    continue
                del running[shot.id]
                if state.is_crashed() and attempt + 1 < _SHOT_ATTEMPTS:
                    logger.warning("%s: its process died; starting another run", shot.name)
                    running[shot.id] = (shot, attempt + 1, _start(shot, attempt + 1))
                elif not state.is_completed():
                    failed.append(f"{shot.name}: {state.name}, {state.message}")
                    _fail_shot(shot.id, f"its run ended: {state.name}, {state.message}")
    if failed:
        raise RuntimeError("; ".join(failed))


def _fail_shot(shot_id: str, error: str) -> None:
    """For runs that could not say it themselves; what they did say stays."""
    with open_farm() as farm:
        if farm.repository.shot(shot_id).state is not ShotState.FAILED:
            farm.repository.set_shot_state(shot_id, ShotState.FAILED, error=error)


def _start(shot: Shot, attempt: int) -> FlowRun:
    # A retry of this flow has to start shots anew, though it has the run id of the first.
    retry = runtime.flow_run.get_run_count()
    key = f"{runtime.flow_run.get_id()}-{shot.id}-{retry}-{attempt}"
    run = run_deployment(
        "render-shot/render-shot",
        parameters={"shot_id": shot.id},
        idempotency_key=key,
        timeout=0,
        flow_run_name=shot.id,
    )
    assert isinstance(run, FlowRun)
    return run


@task(name="assemble", retries=2, retry_delay_seconds=5)
def assemble(storyboard_id: str) -> None:
    """Film, sheet and record; the sheet also as an artifact, so that it shows in the UI."""
    with open_farm() as farm:
        assembled = steps.assemble(farm, storyboard_id)
        artifacts.sheet(storyboard_id, assembled.title, assembled.sheet_png)
        state = StoryboardState.REVIEW if assembled.for_review else StoryboardState.DONE
        farm.repository.set_storyboard_state(storyboard_id, state)


# A second run finds what the first one finished.
@flow(name="render-shot", flow_run_name="{shot_id}", retries=1, retry_delay_seconds=2)
def render_shot(shot_id: str) -> str:
    """Render takes of a shot until the gate is content or asks for a person; its verdict."""
    logger = get_run_logger()
    try:
        with open_farm() as farm:
            first_attempt = steps.next_attempt(farm, shot_id)
            max_takes = steps.takes_allowed(farm, shot_id)
        verdict = render_takes(
            TakeTasks(shot_id),
            first_attempt=first_attempt,
            max_takes=max_takes,
            retake=lambda attempt: logger.info(
                "the gate asks for a retake: take %d of at most %d", attempt + 1, max_takes
            ),
            stale=lambda error: logger.warning("stale take, planned again: %s", error),
        )
        with open_farm() as farm:
            done = ShotState.DONE if verdict is Verdict.PASS else ShotState.REVIEW
            farm.repository.set_shot_state(shot_id, done)
        return verdict.value
    except Exception as error:
        with open_farm() as farm:
            farm.repository.set_shot_state(shot_id, ShotState.FAILED, error=str(error))
        raise


@dataclass(frozen=True)
class TakeTasks:
    """A take's steps as Prefect tasks; see `dreamontage.rendering.takes.TakeSteps`."""

    shot_id: str

    def plan(self, attempt: int) -> steps.FarmTake:
        return plan_take(self.shot_id, attempt)

    def encode_prompts(self, take: steps.FarmTake) -> None:
        encode_prompts(take)

    def render_segment(self, take: steps.FarmTake, planned: PlannedSegment) -> None:
        run_name = f"{RowStage(planned.stage.value).label}-{planned.number + 1}-of-{planned.count}"
        segment.with_options(task_run_name=run_name)(take, planned)

    def make_drafts(self, take: steps.FarmTake, stage: Stage) -> None:
        name = "enlarge" if stage is Stage.UPSCALE else "full-rate"
        make_drafts.with_options(task_run_name=name)(take, stage)

    def decode(self, take: steps.FarmTake) -> None:
        decode(take)

    def gate(self, take: steps.FarmTake, takes_left: int) -> Verdict:
        return gate(take, takes_left)


def _unless_stale(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Retrying a step of a stale take is of no use: the take is planned again instead."""
    return not isinstance(state.data, StaleTake)


# On each step: finished work is found in the ledger, so Prefect's own cache is off.
@task(
    name="plan-take",
    retries=2,
    retry_delay_seconds=5,
    cache_policy=NO_CACHE,
    retry_condition_fn=_unless_stale,
)
def plan_take(shot_id: str, attempt: int) -> steps.FarmTake:
    """Begin a take and name its segments."""
    with open_farm() as farm:
        return steps.begin_take(farm, shot_id, attempt)


@task(
    name="encode-prompts",
    retries=2,
    retry_delay_seconds=5,
    cache_policy=NO_CACHE,
    retry_condition_fn=_unless_stale,
)
def encode_prompts(take: steps.FarmTake) -> None:
    """The take's prompts as the model reads them, for those that nobody has encoded yet."""
    with open_farm() as farm:
        new = steps.encode_prompts(farm, take)
    get_run_logger().info("%d prompts encoded", new)


@task(
    name="segment",
    retries=3,
    retry_delay_seconds=2,
    cache_policy=NO_CACHE,
    retry_condition_fn=_unless_stale,
)
def segment(take: steps.FarmTake, planned: PlannedSegment) -> State[Any]:
    """Make sure that a segment is finished; "Cached" when it was already."""
    logger = get_run_logger()
    bar = artifacts.Progress(f"{take.id}-{planned.index}")
    with open_farm() as farm:
        run = steps.render_segment(
            farm,
            take,
            planned,
            progress=bar.update,
            waiting=lambda holder: logger.info("held by %s: waiting, or taking over", holder),
        )
    bar.finish()
    logger.info("%d of %d denoise steps run here", run, planned.steps)
    name = None if run else "Cached"
    return Completed(name=name, message=f"{run} of {planned.steps} denoise steps run")


@task(
    name="make-drafts",
    retries=2,
    retry_delay_seconds=5,
    cache_policy=NO_CACHE,
    retry_condition_fn=_unless_stale,
)
def make_drafts(take: steps.FarmTake, stage: Stage) -> State[Any]:
    """The film of the stage before, enlarged or at full rate, for the windows that are still to be
    refined; "Cached" when none is missing."""
    with open_farm() as farm:
        made = steps.make_drafts(farm, take, stage)
    get_run_logger().info("%d windows made", made)
    return Completed(name=None if made else "Cached", message=f"{made} windows made")


@task(
    name="decode",
    retries=2,
    retry_delay_seconds=5,
    cache_policy=NO_CACHE,
    retry_condition_fn=_unless_stale,
)
def decode(take: steps.FarmTake) -> None:
    """The take's frames, losslessly, into the store."""
    with open_farm() as farm:
        steps.decode_take(farm, take)


@task(
    name="gate",
    retries=2,
    retry_delay_seconds=5,
    cache_policy=NO_CACHE,
    retry_condition_fn=_unless_stale,
)
def gate(take: steps.FarmTake, takes_left: int) -> Verdict:
    """Measure and judge the take; scores and reasons also as an artifact."""
    with open_farm() as farm:
        judged = steps.gate_take(farm, take, takes_left=takes_left)
    artifacts.judgement(take.id, judged)
    get_run_logger().info("%s %s", judged.verdict.value, "; ".join(judged.reasons))
    return Verdict(judged.verdict.value)
