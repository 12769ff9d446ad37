"""A window of the super-resolution stage that stopped, or that the store lost, is made again."""

from __future__ import annotations

import os
import signal

import pytest
import torch

from db.states import SegmentState
from dreamontage.rendering.engine import Engine
from dreamontage.rendering.ledger import LostLatents
from dreamontage.rendering.take_plan import Stage, TakePlan
from flows import steps
from flows.steps.postgres_ledger import PostgresLedger
from flows.studio.farm import Farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    address_kinds,
    base_segments,
    latents_address,
    latents_of,
    refined_segments,
    render_segments,
    start_holder,
    submit_take,
    tear,
)
from tests.support.farm_upscale import SR_STEPS, WINDOWS, in_one_go


def test_a_killed_holders_window_is_taken_over_from_its_checkpoint(
    upscale_farm: Farm, upscale_settings: Settings, write_board: WriteBoard
) -> None:
    take = submit_take(upscale_farm, write_board(upscale=1.5))
    render_segments(upscale_farm, take, take.segments[:4])
    held = take.segments[4]
    with start_holder(upscale_settings, take.shot_id, segment=4, step=7) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        row = upscale_farm.repository.segment(held.key)
        assert (row.state, row.checkpoint_step) == (SegmentState.RUNNING, 6)
        assert row.enlarged_address is not None
        os.kill(holder.pid, signal.SIGKILL)
        waited_for: list[str] = []
        run = steps.render_segment(upscale_farm, take, held, waiting=waited_for.append)
    assert waited_for == [row.lease_holder], "the lease of a dead process is waited out, not stolen"
    assert run == 2, "step 7 is lost with its process, steps 3 to 6 are not"
    assert upscale_farm.repository.segment(held.key).denoise_steps_run == SR_STEPS
    assert render_segments(upscale_farm, take, take.segments[5:]) == [SR_STEPS]
    whole = in_one_go(upscale_farm, take.id, 1.5)
    assert torch.equal(latents_of(upscale_farm, held.key)[:, :, 2:3], whole[:, :, 4:5])
    assert torch.equal(latents_of(upscale_farm, take.segments[5].key)[:, :, 2:], whole[:, :, 7:])
    assert not {"checkpoints", "enlarged"} & address_kinds(upscale_farm).keys()


def test_enlarged_latents_that_are_lost_are_made_again(
    upscale_farm: Farm, write_board: WriteBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window that misses them makes them, and no others. So for a lost refined window."""
    take = submit_take(upscale_farm, write_board(upscale=1.5))
    first, second, third = refined_segments(take)
    render_segments(upscale_farm, take, base_segments(take))
    steps.make_drafts(upscale_farm, take, Stage.UPSCALE)
    address = upscale_farm.repository.segment(second.key).enlarged_address
    torn = upscale_farm.repository.segment(third.key).enlarged_address
    assert address is not None
    assert torn is not None
    upscale_farm.store.delete(address)
    tear(upscale_farm, torn)
    put: list[str] = []
    put_draft = PostgresLedger.put_draft

    def counted(self: PostgresLedger, key: str, latents_BCLHW: torch.Tensor) -> None:
        put.append(key)
        put_draft(self, key, latents_BCLHW)

    monkeypatch.setattr(PostgresLedger, "put_draft", counted)
    assert render_segments(upscale_farm, take, [first, second]) == [SR_STEPS] * 2
    assert put == [second.key], "a torn one is found only when it is read"
    assert render_segments(upscale_farm, take, [third]) == [SR_STEPS]
    assert put == [second.key, third.key]
    whole = in_one_go(upscale_farm, take.id, 1.5)
    assert torch.equal(latents_of(upscale_farm, third.key)[:, :, 2:], whole[:, :, 7:])

    # A refined window that is lost: it alone is enlarged and refined again, wherever it is read.
    refined = latents_address(upscale_farm, second.key)
    upscale_farm.store.delete(refined)
    put.clear()
    steps.decode_take(upscale_farm, take)
    assert put == [second.key]
    assert upscale_farm.repository.segment(second.key).latents_address == refined
    assert upscale_farm.repository.segment(second.key).denoise_steps_run == 2 * SR_STEPS

    # A lost base segment costs nothing until something is made of it.
    upscale_farm.store.delete(latents_address(upscale_farm, take.segments[0].key))
    assert steps.make_drafts(upscale_farm, take, Stage.UPSCALE) == 0
    assert render_segments(upscale_farm, take) == [0] * 2 * WINDOWS
    refined = latents_address(upscale_farm, third.key)
    upscale_farm.store.delete(refined)
    with pytest.raises(LostLatents):
        latents_of(upscale_farm, third.key)
    assert render_segments(upscale_farm, take, [third]) == [SR_STEPS]
    assert upscale_farm.repository.segment(take.segments[0].key).denoise_steps_run == 2 * STEPS
    assert upscale_farm.repository.segment(third.key).latents_address == refined


def test_a_window_that_another_take_enlarges_at_the_same_time(
    upscale_farm: Farm, write_board: WriteBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = submit_take(upscale_farm, write_board(upscale=1.5))
    render_segments(upscale_farm, take, base_segments(take))
    make_drafts = Engine.make_drafts

    def late(self: Engine, plan: TakePlan, stage: Stage) -> int:
        make_drafts(self, plan, stage)  # the other one
        return make_drafts(self, plan, stage)

    monkeypatch.setattr(Engine, "make_drafts", late)
    assert render_segments(upscale_farm, take, refined_segments(take)[:1]) == [SR_STEPS]
