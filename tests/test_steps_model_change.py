"""A model folder that changes under a running farm never mixes two models in a take."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from db.states import SegmentState
from dreamontage.rendering import engine
from dreamontage.rendering.take import write_take
from dreamontage.rendering.take_plan import StaleTake
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    render_shot,
    shot_of,
    take_of,
)


def test_new_weights_are_never_mixed_with_old_ones(
    steps_farm: Farm, steps_settings: Settings, write_board: WriteBoard, tmp_path: Path
) -> None:
    """A model folder that changes under a running farm: other keys, and another film."""
    weights = tmp_path / "weights"
    shutil.copytree(steps_settings.weights, weights)
    (submitted,) = submit(steps_farm, write_board())
    films = []
    for edit in (1.0, 1.5):
        index = json.loads((weights / "scheduler" / "scheduler_config.json").read_text())
        index["flow_shift"] = edit * 3
        (weights / "scheduler" / "scheduler_config.json").write_text(json.dumps(index))
        with open_farm(steps_settings.model_copy(update={"weights": weights})) as changed:
            assert render_shot(changed, submitted.id) == 3 * STEPS
            films.append(steps.decode_take(changed, take_of(changed, submitted.id)))
    assert films[0] != films[1]


def test_a_late_worker_cannot_store_an_old_models_frames(
    steps_farm: Farm,
    steps_settings: Settings,
    write_board: WriteBoard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it decodes, the model folder changes and the take is planned anew."""
    weights = tmp_path / "weights"
    shutil.copytree(steps_settings.weights, weights)
    scheduler = weights / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"flow_shift": 4.0}))
    (submitted,) = submit(steps_farm, write_board())
    shot_id = shot_of(steps_farm, submitted.id)
    render_shot(steps_farm, submitted.id)
    take = take_of(steps_farm, submitted.id)
    with open_farm(steps_settings.model_copy(update={"weights": weights})) as changed:

        def slowly(*args: Any, **kwargs: Any) -> Path:
            written = write_take(*args, **kwargs)
            steps.begin_take(changed, shot_id, 0)
            return written

        with monkeypatch.context() as patched:
            patched.setattr(engine, "write_take", slowly)
            with pytest.raises(StaleTake, match="made of other segments by now"):
                steps.decode_take(steps_farm, take)
        assert steps_farm.repository.take(take.id).mezzanine_address is None
        with pytest.raises(steps.LostFrames, match="has no frames"):
            steps.gate_take(steps_farm, take, takes_left=0)
        assert render_shot(changed, submitted.id) == 3 * STEPS
        steps.decode_take(changed, take_of(changed, submitted.id))


def test_a_take_is_not_rendered_by_another_model_than_it_was_planned_for(
    steps_farm: Farm, steps_settings: Settings, write_board: WriteBoard, tmp_path: Path
) -> None:
    """Planned with one model folder, rendered with another: no latents under a wrong key."""
    weights = tmp_path / "weights"
    shutil.copytree(steps_settings.weights, weights)
    scheduler = weights / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps(json.loads(scheduler.read_text()) | {"flow_shift": 4.0}))
    (submitted,) = submit(steps_farm, write_board())
    take = take_of(steps_farm, submitted.id)
    with open_farm(steps_settings.model_copy(update={"weights": weights})) as changed:
        with pytest.raises(StaleTake, match="was planned for another model"):
            steps.render_segment(changed, take, take.segments[0])
        row = steps_farm.repository.segment(take.segments[0].key)
        assert (row.state, row.error, row.latents_address) == (SegmentState.WAITING, None, None)
        again = take_of(changed, submitted.id)
        assert not set(again.plan.keys) & set(take.plan.keys)
        assert render_shot(changed, submitted.id) == 3 * STEPS
    render_shot(steps_farm, submitted.id)
    with (
        open_farm(steps_settings.model_copy(update={"weights": weights})) as changed,
        pytest.raises(StaleTake, match="was planned for another model"),
    ):
        steps.decode_take(changed, take_of(steps_farm, submitted.id))
