"""Latents and frames that are lost from the store are made again."""

from __future__ import annotations

import pytest
import torch

from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    latents_address,
    latents_of,
    render_shot,
    take_of,
    tear,
)


def test_what_is_lost_from_the_store_is_made_again(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    """Latents and mezzanines: each costs only itself, and no operator is needed."""
    (submitted,) = submit(steps_farm, write_board())
    render_shot(steps_farm, submitted.id)
    take = take_of(steps_farm, submitted.id)
    whole = [latents_of(steps_farm, key) for key in take.plan.keys]
    for key in take.plan.keys[1:]:
        steps_farm.store.delete(latents_address(steps_farm, key))
    tear(steps_farm, latents_address(steps_farm, take.plan.keys[0]))
    address = steps.decode_take(steps_farm, take)
    assert all(
        torch.equal(latents_of(steps_farm, key), before)
        for key, before in zip(take.plan.keys, whole, strict=True)
    )
    run = [steps_farm.repository.segment(key).denoise_steps_run for key in take.plan.keys]
    assert run == [2 * STEPS] * 3, "each once more, in one call"

    tear(steps_farm, address)
    with pytest.raises(steps.LostFrames):
        steps.gate_take(steps_farm, take, takes_left=0)
    assert steps.decode_take(steps_farm, take) == address
    steps.gate_take(steps_farm, take, takes_left=0)


def test_a_segment_renders_what_is_lost_before_it(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    """A worker that misses a tail makes it, and all that the tail needs."""
    (submitted,) = submit(steps_farm, write_board())
    take = take_of(steps_farm, submitted.id)
    for each in take.segments[:2]:
        steps.render_segment(steps_farm, take, each)
    for each in take.segments[:2]:
        steps_farm.store.delete(latents_address(steps_farm, each.key))
    assert steps.render_segment(steps_farm, take, take.segments[2]) == STEPS
    counted = [steps_farm.repository.segment(key).denoise_steps_run for key in take.plan.keys]
    assert counted == [2 * STEPS, 2 * STEPS, STEPS]
