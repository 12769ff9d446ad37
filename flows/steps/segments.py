"""Rendering a segment: claimed by a lease, resumed from its checkpoint, finished once for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from db.leases import Lease, LostLease
from db.states import SegmentState, Stage
from dreamontage import speed
from flows.farm import Farm
from flows.steps.enlarging import enlarged_of
from flows.steps.finished import latents_of, put_latents
from flows.steps.prompts import embedding_of
from flows.steps.shots import (
    PlannedSegment,
    ShotContext,
    context_of,
    plan_of,
    sampler_of,
    upscaler_of,
)

if TYPE_CHECKING:
    from db.models import Take
    from dreamontage.conditioning import Clip, Keyframe
    from dreamontage.sampling import DenoiseState

Progress = Callable[[int, int], None]
"""Told after each denoise step: the step, and how many there are."""


def render_segment(
    farm: Farm,
    planned: PlannedSegment,
    *,
    progress: Progress = lambda step, steps: None,
    waiting: Callable[[str], None] = lambda holder: None,
) -> int:
    """See to it that a segment's latents are in the store; returns how many steps this call ran.

    A finished segment costs nothing, whoever finished it. One that another worker holds is waited
    for, and taken over from its last checkpoint when that worker's lease runs out. ``waiting`` is
    told whom it waits for.

    Raises:
        LostLease: when this worker was too slow to keep its lease. Running it again is right.
    """
    repository, settings = farm.repository, farm.settings
    told = ""
    while True:
        row = repository.segment(planned.key)
        if row.state is SegmentState.DONE:
            return 0
        lease = repository.claim_segment(planned.key, farm.holder, settings.lease_ttl)
        if lease is not None:
            break
        if row.lease_holder and row.lease_holder != told:
            told = row.lease_holder
            waiting(told)
        time.sleep(min(1.0, settings.heartbeat_seconds))
    try:
        with _beating(farm, lease):
            return _denoise(farm, planned, lease, progress)
    except LostLease:
        raise
    except BaseException as error:
        # Also on cancellation: the next worker need not wait for the lease to run out.
        _give_up(farm, lease, error)
        raise


def _give_up(farm: Farm, lease: Lease, error: BaseException) -> None:
    try:
        if isinstance(error, Exception):
            farm.repository.fail_segment(lease, f"{type(error).__name__}: {error}")
        else:
            farm.repository.release(lease)
    except LostLease:
        pass  # somebody else has it, which is what giving up is for


@contextmanager
def _beating(farm: Farm, lease: Lease) -> Iterator[None]:
    """Renew the lease from a thread of its own: a denoise step may take longer than the lease."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(farm.settings.heartbeat_seconds):
            try:
                farm.repository.heartbeat(lease, farm.settings.lease_ttl)
            except LostLease:
                return  # the next write finds out, and says so
            except Exception:
                continue

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _denoise(farm: Farm, planned: PlannedSegment, lease: Lease, progress: Progress) -> int:
    # torch and the models come in here, not with the module: planning and assembly need neither.
    from dreamontage.sampling import state_from_bytes, state_to_bytes

    take = farm.repository.take(planned.take_id)
    context = context_of(farm, take.shot_id)
    # What a step cache holds is in no stored state: with one, a segment starts from its noise.
    resumable = speed.resumable(farm.model(planned.stage).options)
    stored = resumable and lease.checkpoint_address and farm.read(lease.checkpoint_address)
    begun = state_from_bytes(stored) if stored else None  # a lost one costs its steps, no more
    states_of = _base_states if planned.stage is Stage.BASE else _refined_states
    saved = run = 0
    superseded = lease.checkpoint_address
    for state in states_of(farm, planned, take, context, begun):
        run += 1
        progress(state.step, state.total)
        due = state.step % farm.settings.checkpoint_every == 0
        if resumable and due and not state.done:
            address = farm.store.put("checkpoints", state_to_bytes(state), ".safetensors")
            farm.repository.save_checkpoint(lease, address, state.step, steps_run=run - saved)
            saved = run
            if superseded is not None:
                farm.store.delete(superseded)
            superseded = address
    assert run, "a checkpoint is never of the last step"
    address = put_latents(farm, "latents", state.latents_BCLHW)
    enlarged = farm.repository.segment(planned.key).enlarged_address
    farm.repository.finish_segment(lease, address, steps_run=run - saved)
    for each in (superseded, enlarged):
        if each is not None:
            farm.store.delete(each)
    return run


def _base_states(
    farm: Farm,
    planned: PlannedSegment,
    take: Take,
    context: ShotContext,
    state: DenoiseState | None,
) -> Iterator[DenoiseState]:
    """The model's denoise loop, from a stored state on if there is one."""
    from dreamontage.take import load_condition, load_draft
    from flows.model import pipeline_of

    plan = plan_of(farm, context, take.seed)
    segment = plan.segments[planned.number]
    pipe = pipeline_of(farm)
    size = context.board.size
    draft = None
    with farm.scratch() as folder:

        def condition(index: int) -> Keyframe | Clip:
            path = farm.store.fetch(context.renditions[index], folder / f"{index}")
            return load_condition(context.placed[index], path)

        conditions = [condition(index) for index in segment.conditions]
        if context.wanted.draft is not None:
            address = context.shot.draft_address
            draft = load_draft(
                segment,
                plan,
                context.placed,
                load=condition,
                animatic=farm.store.fetch(address, folder / "draft") if address else None,
            )
    track = pipe.track(conditions, size.height, size.width)
    previous_BCLHW = head_BCLHW = None
    if segment.tail:
        slots = farm.repository.take_segments(take.id)
        previous_BCLHW = latents_of(farm, slots[segment.index - 1].key)
        if segment.head:
            head_BCLHW = latents_of(farm, slots[0].key)
    sampler = sampler_of(farm, context.board)
    guided = sampler["guidance"] > 1
    negative_prompt = context.board.negative_prompt
    return pipe.denoise_segment(
        segment,
        track=track,
        previous_BCLHW=previous_BCLHW,
        head_BCLHW=head_BCLHW,
        draft=draft,
        strength=context.wanted.draft_strength,
        height=size.height,
        width=size.width,
        sampler=pipe.sampler(
            int(sampler["steps"]),
            sampler["guidance"],
            image_guidance=sampler.get("image_guidance", 1.0),
        ),
        prompt_embeds=embedding_of(farm, segment.prompt),
        negative_prompt_embeds=embedding_of(farm, negative_prompt) if guided else None,
        state=state,
    )


def _refined_states(
    farm: Farm,
    planned: PlannedSegment,
    take: Take,
    context: ShotContext,
    state: DenoiseState | None,
) -> Iterator[DenoiseState]:
    """The super-resolution model's, in one of its windows of the enlarged film."""
    from dreamontage.take import load_condition
    from dreamontage.upscale.stage import grid_of, placed, refine
    from flows.model import pipeline_of

    stage, board = Stage.UPSCALE, context.board
    segment = plan_of(farm, context, take.seed, stage).segments[planned.number]
    pipe, upscaler = pipeline_of(farm, stage), upscaler_of(farm, board)
    with farm.scratch() as folder:
        conditions = [
            load_condition(
                context.placed[index],
                farm.store.fetch(context.targets[index], folder / f"{index}"),
            )
            for index in segment.conditions
        ]
    slots = farm.repository.take_segments(take.id)
    first = planned.index - planned.number
    sampler = sampler_of(farm, board, stage)
    guided = sampler["guidance"] > 1
    return refine(
        segment,
        pipe=pipe,
        upscaler=upscaler,
        enlarged_BZLHW=enlarged_of(farm, take.id, planned.key),
        track=placed(
            conditions,
            pipe=pipe,
            size=(board.target.height, board.target.width),
            grid=upscaler.padded(board.size.height, board.size.width, multiple=grid_of(pipe)),
        ),
        previous_BZLHW=latents_of(farm, slots[planned.index - 1].key) if segment.tail else None,
        head_BZLHW=latents_of(farm, slots[first].key) if segment.head else None,
        sampler=pipe.sampler(int(sampler["steps"]), sampler["guidance"]),
        seed=take.seed,
        prompt_embeds=embedding_of(farm, segment.prompt, stage),
        negative_prompt_embeds=(
            embedding_of(farm, board.negative_prompt, stage) if guided else None
        ),
        state=state,
    )
