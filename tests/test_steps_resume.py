"""A segment that stopped continues from its checkpoint, or says why it failed."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from db.leases import LostLease
from db.states import SegmentState
from dreamontage import DreaMontagePipeline
from dreamontage.planning.segments import plan_shot
from dreamontage.rendering.ledger import LostLatents
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from storage import Torn
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    HEIGHT,
    STEPS,
    WIDTH,
    conditions_of,
    interrupt_at_five,
    latents_address,
    latents_of,
    shot_of,
    start_holder,
    take_of,
)


def test_a_killed_holders_segment_is_taken_over_from_its_checkpoint(
    steps_farm: Farm, steps_settings: Settings, write_board: WriteBoard
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    shot_id = shot_of(steps_farm, submitted.id)
    take = steps.begin_take(steps_farm, shot_id, 0)
    planned = take.segments[0]
    with start_holder(steps_settings, shot_id, segment=0, step=5) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        row = steps_farm.repository.segment(planned.key)
        assert row.state is SegmentState.RUNNING
        assert row.lease_holder != steps_farm.holder
        assert row.checkpoint_step == 4
        os.kill(holder.pid, signal.SIGKILL)
        waited_for: list[str] = []
        run = steps.render_segment(steps_farm, take, planned, waiting=waited_for.append)
        assert holder.stdin is not None
    assert waited_for == [row.lease_holder], "the lease of a dead process is waited out, not stolen"
    assert run == 2, "step 5 is lost with its process, steps 1 to 4 are not"
    taken_over = latents_of(steps_farm, planned.key)

    (fresh,) = submit(steps_farm, write_board())
    row = steps_farm.repository.segment(planned.key)
    assert row.denoise_steps_run == 6
    assert torch.equal(taken_over, uninterrupted(steps_farm, fresh.id))


def uninterrupted(farm: Farm, storyboard_id: str) -> torch.Tensor:
    """The first segment's latents from one run of the pipeline. Nothing is stored between."""
    board = steps.board_of(farm, storyboard_id)
    shot = farm.repository.shot(shot_of(farm, storyboard_id))
    pipe = DreaMontagePipeline.from_pretrained(farm.settings.weights)
    placed, conditions = conditions_of(farm, shot.id)
    plan = plan_shot(
        frames=shot.frames,
        fps=board.fps,
        prompts=board.shots[0].prompts,
        conditions=placed,
        seed=shot.seed,
        geometry=pipe.geometry,
    )
    states = pipe.denoise_segment(
        plan.segments[0],
        track=pipe.track(conditions, HEIGHT, WIDTH),
        previous_BCLHW=None,
        height=HEIGHT,
        width=WIDTH,
        sampler=pipe.sampler(),
    )
    return list(states)[-1].latents_BCLHW


def test_a_lost_checkpoint_costs_its_steps_and_no_more(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    take = take_of(steps_farm, submitted.id)
    planned = take.segments[0]
    with pytest.raises(KeyboardInterrupt):
        steps.render_segment(steps_farm, take, planned, progress=interrupt_at_five)
    row = steps_farm.repository.segment(planned.key)
    assert row.checkpoint_step == 4
    assert row.checkpoint_address is not None
    steps_farm.store.delete(row.checkpoint_address)
    assert steps.render_segment(steps_farm, take, planned) == STEPS


def test_a_segment_with_a_step_cache_restarts_from_its_first_step(
    steps_farm: Farm, steps_settings: Settings, write_board: WriteBoard
) -> None:
    """A stored state does not hold the cache: none is stored, and none is resumed."""
    (submitted,) = submit(steps_farm, write_board())
    with open_farm(
        steps_settings.model_copy(update={"speed": "step_cache: {first_block: {threshold: 0.2}}"})
    ) as cached:
        take = take_of(cached, submitted.id)
        planned = take.segments[0]

        with pytest.raises(KeyboardInterrupt):
            steps.render_segment(cached, take, planned, progress=interrupt_at_five)
        row = steps_farm.repository.segment(planned.key)
        assert (row.checkpoint_step, row.checkpoint_address) == (0, None)
        assert steps.render_segment(cached, take, planned) == STEPS
        interrupted = latents_of(steps_farm, planned.key)
        steps_farm.store.delete(latents_address(steps_farm, planned.key))
        with pytest.raises(LostLatents):
            latents_of(steps_farm, planned.key)
        assert steps.render_segment(cached, take, planned) == STEPS
        assert torch.equal(latents_of(steps_farm, planned.key), interrupted)


def test_a_worker_that_lost_its_lease_writes_nothing(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    take = take_of(steps_farm, submitted.id)
    planned = take.segments[0]

    def lose_lease(step: int, total: int) -> None:
        # What a worker finds that was stopped for longer than its lease.
        if step == 1:
            with steps_farm.repository._engine.begin() as connection:
                connection.exec_driver_sql("UPDATE segments SET lease_token = lease_token + 1")

    with pytest.raises(LostLease):
        steps.render_segment(steps_farm, take, planned, progress=lose_lease)
    assert steps_farm.repository.segment(planned.key).checkpoint_address is None


def test_a_failed_segment_says_why_and_is_free_at_once(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    take = take_of(steps_farm, submitted.id)
    planned = take.segments[0]
    (rendition,) = steps_farm.repository.conditions(shot_of(steps_farm, submitted.id))[:1]
    path = steps_farm.settings.home / "store" / rendition.rendition_address
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:-1])
    with pytest.raises(Torn):
        steps.render_segment(steps_farm, take, planned)
    row = steps_farm.repository.segment(planned.key)
    assert row.state is SegmentState.FAILED
    assert row.error is not None
    assert "Torn" in row.error
    path.write_bytes(whole)
    assert steps.render_segment(steps_farm, take, planned) == STEPS


def test_what_this_machine_cannot_do_fails_the_segment_and_says_so(
    steps_farm: Farm, steps_settings: Settings, write_board: WriteBoard
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    with open_farm(steps_settings.model_copy(update={"speed": "attention: flash"})) as wrong:
        take = take_of(wrong, submitted.id)
        planned = take.segments[0]
        with pytest.raises(ValueError, match="attention = 'flash' needs CUDA"):
            steps.render_segment(wrong, take, planned)
    error = steps_farm.repository.segment(planned.key).error
    assert error is not None
    assert "needs CUDA" in error
