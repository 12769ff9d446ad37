"""A loop on the farm: its closing segment is given the head's latents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamontage import media
from dreamontage.rendering.ledger import LostLatents
from dreamontage.storyboard.errors import StoryboardError
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    interrupt_at_five,
    latents_address,
    latents_of,
    record_address,
    render_shot,
    straight_through,
    take_of,
)


def loop_board(write_board: WriteBoard, name: str = "loop", **changes: Any) -> Path:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"name": "walk", "duration": {"frames": 32}, "keyframes": stills, "coarse": "off"}
    return write_board(name, shots=[shot | changes])


def test_a_loop_is_closed_on_the_farm(
    steps_farm: Farm, write_board: WriteBoard, tmp_path: Path
) -> None:
    """Its closing segment gets the first one's latents from the store, whoever made them."""
    (straight,) = submit(steps_farm, loop_board(write_board, "straight"))
    assert render_shot(steps_farm, straight.id) == 3 * STEPS
    (looping,) = submit(steps_farm, loop_board(write_board, loop=True))
    take = take_of(steps_farm, looping.id)
    planned = take.segments
    assert [steps.render_segment(steps_farm, take, each) for each in planned] == [0, 0, STEPS], (
        "all but the closing segment are those of the shot that does not loop"
    )
    whole = latents_of(steps_farm, planned[-1].key)
    film = straight_through(steps_farm, looping.id)
    # The closing window: latents 6, 7 and 8, and one that is latent 1 again.
    assert torch.equal(whole[:, :, 1:3], film[:, :, 7:])

    mezzanine = steps_farm.store.fetch(steps.decode_take(steps_farm, take), tmp_path / "take.mkv")
    assert media.frame_count(mezzanine) == 32
    steps.gate_take(steps_farm, take, takes_left=0)
    (seam,) = (score for score in steps_farm.repository.scores(take.id) if score.name == "seam")
    assert "the loop's end" in seam.detail
    steps.assemble(steps_farm, looping.id)
    record = json.loads(steps_farm.store.get(record_address(steps_farm, looping.id)))
    assert record["shots"][0]["loop"] is True

    # Resumed in the middle, after its head was lost and made again: the same bits.
    steps_farm.store.delete(latents_address(steps_farm, planned[-1].key))
    with pytest.raises(LostLatents):
        latents_of(steps_farm, planned[-1].key)
    with pytest.raises(KeyboardInterrupt):
        steps.render_segment(steps_farm, take, planned[-1], progress=interrupt_at_five)
    steps_farm.store.delete(latents_address(steps_farm, planned[0].key))
    assert steps.render_segment(steps_farm, take, planned[-1]) == 2, (
        "the closing one from step 4 on"
    )
    assert steps_farm.repository.segment(planned[0].key).denoise_steps_run == 2 * STEPS, (
        "and the head"
    )
    assert torch.equal(latents_of(steps_farm, planned[-1].key), whole)


def test_a_loop_too_short_for_the_model_is_refused_at_submit(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    path = loop_board(write_board, loop=True, duration={"frames": 8}, keyframes=[])
    with pytest.raises(StoryboardError, match=r"duration = 8 frames: too short for a loop"):
        submit(steps_farm, path)
    assert steps_farm.repository.recent_storyboards(5) == []
