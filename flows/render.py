"""The flows that render a storyboard, thin: what happens is in ``steps``, how it is told is here.

render_storyboard (pool cpu) starts one render_shot (pool gpu) for each shot, waits, assembles.
A run may die at any point and be retried, here or from Prefect's UI: finished work is found.
"""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, get_run_logger, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.states import Completed

from db.models import Shot
from db.states import ShotState, Stage, StoryboardState, Verdict
from flows import show, steps
from flows.farm import open_farm

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
        show.sheet(storyboard_id, assembled.title, assembled.sheet_png)
        state = StoryboardState.REVIEW if assembled.for_review else StoryboardState.DONE
        farm.repository.set_storyboard_state(storyboard_id, state)


# A second run finds what the first one finished, and makes again what was found to be lost.
@flow(name="render-shot", flow_run_name="{shot_id}", retries=1, retry_delay_seconds=2)
def render_shot(shot_id: str) -> str:
    """Render takes of a shot until the gate is content or asks for a person; its verdict."""
    logger = get_run_logger()
    try:
        with open_farm() as farm:
            attempt = steps.next_attempt(farm, shot_id)
            most = steps.takes_allowed(farm, shot_id)
        while True:
            planned = plan_take(shot_id, attempt)
            encode_prompts(planned[0].take_id)
            for each in planned:
                if each.stage is Stage.UPSCALE and each.number == 0:
                    enlarge(each.take_id)
                name = "segment" if each.stage is Stage.BASE else "upscale"
                segment.with_options(task_run_name=f"{name}-{each.number + 1}-of-{each.count}")(
                    each
                )
            decode(planned[0].take_id)
            verdict = gate(planned[0].take_id, most - attempt - 1)
            if verdict is not Verdict.RETAKE:
                break
            attempt += 1
            logger.info("the gate asks for a retake: take %d of at most %d", attempt + 1, most)
        with open_farm() as farm:
            done = ShotState.DONE if verdict is Verdict.PASS else ShotState.REVIEW
            farm.repository.set_shot_state(shot_id, done)
        return verdict.value
    except Exception as error:
        with open_farm() as farm:
            farm.repository.set_shot_state(shot_id, ShotState.FAILED, error=str(error))
        raise


@task(name="plan-take", retries=2, retry_delay_seconds=5)
def plan_take(shot_id: str, attempt: int) -> list[steps.PlannedSegment]:
    """Begin a take and name its segments."""
    with open_farm() as farm:
        return steps.plan_take(farm, shot_id, attempt)


@task(name="encode-prompts", retries=2, retry_delay_seconds=5)
def encode_prompts(take_id: str) -> None:
    """The take's prompts as the model reads them, for those that nobody has encoded yet."""
    with open_farm() as farm:
        new = steps.encode_prompts(farm, take_id)
    get_run_logger().info("%d prompts encoded", new)


@task(name="segment", retries=3, retry_delay_seconds=2)
def segment(planned: steps.PlannedSegment) -> State[Any]:
    """See to it that a segment is done; "Cached" when it was already."""
    logger = get_run_logger()
    bar = show.Progress(f"{planned.take_id}-{planned.index}")
    with open_farm() as farm:
        run = steps.render_segment(
            farm,
            planned,
            progress=bar.update,
            waiting=lambda holder: logger.info("held by %s: waiting, or taking over", holder),
        )
    bar.finish()
    logger.info("%d of %d denoise steps run here", run, planned.steps)
    name = None if run else "Cached"
    return Completed(name=name, message=f"{run} of {planned.steps} denoise steps run")


@task(name="enlarge", retries=2, retry_delay_seconds=5)
def enlarge(take_id: str) -> State[Any]:
    """The rendered film enlarged, for the windows that are still to be refined; "Cached" when none
    is wanting."""
    with open_farm() as farm:
        made = steps.enlarge_take(farm, take_id)
    get_run_logger().info("%d windows enlarged", len(made))
    return Completed(name=None if made else "Cached", message=f"{len(made)} windows enlarged")


@task(name="decode", retries=2, retry_delay_seconds=5)
def decode(take_id: str) -> None:
    """The take's frames, losslessly, into the store."""
    with open_farm() as farm:
        steps.decode_take(farm, take_id)


@task(name="gate", retries=2, retry_delay_seconds=5)
def gate(take_id: str, takes_left: int) -> Verdict:
    """Measure and judge the take; scores and reasons also as an artifact."""
    with open_farm() as farm:
        judged = steps.gate_take(farm, take_id, takes_left=takes_left)
    show.judgement(take_id, judged)
    get_run_logger().info("%s %s", judged.verdict.value, "; ".join(judged.reasons))
    return judged.verdict
