"""A shot that starts from a draft, on the farm."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
import yaml

from dreamontage import media
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    HEIGHT,
    STEPS,
    WIDTH,
    first_keys,
    interrupt_at_five,
    latents_of,
    record_address,
    render_shot,
    straight_through,
    take_of,
)


def test_a_drafted_shot_is_rendered_resumed_and_recorded(
    steps_farm: Farm, write_board: WriteBoard, tmp_path: Path
) -> None:
    (plain,) = submit(steps_farm, write_board())
    assert render_shot(steps_farm, plain.id) == 3 * STEPS
    board = yaml.safe_load(write_board().read_text())
    (shot,) = board["shots"]
    for name, draft in (("auto", {"draft": "auto"}), ("video", {"draft": "animatic.mkv"})):
        path = write_board(name, shots=[shot | draft | {"strength": 0.8}])
        if name == "video":
            pictures = [media.read_image(path.parent / f"still{n % 3}.png") for n in range(33)]
            film = path.parent / "animatic.mkv"
            with media.Encoder(
                film, width=WIDTH, height=HEIGHT, fps=Fraction(16), profile="mezzanine"
            ) as encoder:
                for picture in pictures:
                    encoder.write(picture)
        (submitted,) = submit(steps_farm, path)
        take = take_of(steps_farm, submitted.id)
        planned = take.segments
        assert not {each.key for each in planned} & set(first_keys(steps_farm, plain.id))
        with pytest.raises(KeyboardInterrupt):
            steps.render_segment(steps_farm, take, planned[0], progress=interrupt_at_five)
        assert steps_farm.repository.segment(planned[0].key).checkpoint_step == 4
        assert steps.render_segment(steps_farm, take, planned[0]) == 2
        whole = straight_through(
            steps_farm,
            submitted.id,
            draft="auto" if name == "auto" else pictures,
            strength=0.8,
        )
        made = latents_of(steps_farm, planned[0].key)
        assert torch.equal(made[:, :, :3], whole[:, :, :3])
        assert 0 < render_shot(steps_farm, submitted.id) < 2 * STEPS, "from the strength's step on"
        steps.decode_take(steps_farm, take)
        steps.assemble(steps_farm, submitted.id)
        record = json.loads(steps_farm.store.get(record_address(steps_farm, submitted.id)))
        recorded = record["shots"][0]["draft"]
        assert (recorded["kind"], recorded["strength"]) == (name, 0.8)
        assert (recorded["asset"] is not None) == (name == "video")
