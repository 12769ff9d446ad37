"""Finished work is found again: segments by their keys, prompts by their text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from flows import steps
from flows.actions.submit import submit
from flows.studio import model
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    first_keys,
    latents_of,
    record_address,
    render_shot,
    take_of,
)


def test_finished_segments_are_never_rendered_again(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    """Neither on a retry, nor for a storyboard submitted twice, nor for a variant that shares
    its beginning: denoise steps are counted."""
    (first,) = submit(steps_farm, write_board())
    assert render_shot(steps_farm, first.id) == 3 * STEPS
    assert render_shot(steps_farm, first.id) == 0
    (again,) = submit(steps_farm, write_board("same", title="Another title"))
    assert render_shot(steps_farm, again.id) == 0

    board = yaml.safe_load(write_board().read_text())
    keyframes = board["shots"][0]["keyframes"]
    keyframes[2]["image"] = "still3.png"
    (other_end,) = submit(steps_farm, write_board("end", shots=board["shots"]))
    assert render_shot(steps_farm, other_end.id) == STEPS, "only the window that sees the new still"
    (other_seed,) = submit(steps_farm, write_board("seed", seed=6))
    assert render_shot(steps_farm, other_seed.id) == 3 * STEPS
    counted = {
        key: steps_farm.repository.segment(key).denoise_steps_run
        for one in (first, again, other_end, other_seed)
        for key in first_keys(steps_farm, one.id)
    }
    assert list(counted.values()) == [STEPS] * 7


def test_a_prompt_is_encoded_once_for_the_whole_farm(
    steps_farm: Farm, write_board: WriteBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = submit(steps_farm, write_board())
    take = take_of(steps_farm, first.id)
    assert steps.encode_prompts(steps_farm, take) == 3, "a prompt a window"
    assert steps.encode_prompts(steps_farm, take) == 0

    def refuse(weights: Path, device: str) -> None:
        raise AssertionError("the text encoder was loaded")

    monkeypatch.setattr(model, "load_text", refuse)
    assert render_shot(steps_farm, first.id) == 3 * STEPS
    (other,) = submit(steps_farm, write_board("seed", seed=9))
    assert render_shot(steps_farm, other.id) == 3 * STEPS
    guided = write_board("guided", sampler={"guidance": 3.0}, negative_prompt="blur")
    (new,) = submit(steps_farm, guided)
    with pytest.raises(AssertionError, match="was loaded"):
        render_shot(steps_farm, new.id)


def test_image_guidance_of_a_storyboard_changes_its_film(
    steps_farm: Farm, write_board: WriteBoard
) -> None:
    latents = []
    samplers: dict[str, dict[str, float]] = {"usual": {}, "guided": {"image_guidance": 2.0}}
    for name, sampler in samplers.items():
        (new,) = submit(steps_farm, write_board(name, sampler=sampler))
        assert render_shot(steps_farm, new.id) == 3 * STEPS
        latents.append(latents_of(steps_farm, first_keys(steps_farm, new.id)[0]))
    usual, guided = latents
    assert not torch.allclose(usual, guided, atol=1e-2)


def test_variants_share_what_they_have_in_common(
    steps_farm: Farm, write_board: WriteBoard, tmp_path: Path
) -> None:
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(
        yaml.safe_dump(
            {
                "axes": {
                    "market": {
                        "uk": {"shots[0].keyframes[2].image": "still2.png"},
                        "de": {"shots[0].keyframes[2].image": "still3.png"},
                    }
                }
            },
            sort_keys=False,
        )
    )
    uk, de = submit(steps_farm, write_board(), matrix=matrix)
    assert (uk.variant, de.variant) == ("uk", "de")
    assert render_shot(steps_farm, uk.id) == 3 * STEPS
    assert render_shot(steps_farm, de.id) == STEPS


def with_speed(settings: Settings, speed: str) -> Settings:
    return settings.model_copy(update={"speed": speed})


def test_exact_speed_options_find_finished_work_and_others_make_their_own(
    steps_farm: Farm, steps_settings: Settings, write_board: WriteBoard
) -> None:
    (submitted,) = submit(steps_farm, write_board())
    assert render_shot(steps_farm, submitted.id) == 3 * STEPS
    plain = first_keys(steps_farm, submitted.id)
    with open_farm(with_speed(steps_settings, "{attention: native, group_offload: leaf}")) as exact:
        assert render_shot(exact, submitted.id) == 0
    rounded = with_speed(steps_settings, "attention: _native_math")
    with open_farm(rounded) as other:
        assert render_shot(other, submitted.id) == 3 * STEPS, "another kernel rounds otherwise"
        others = first_keys(steps_farm, submitted.id)
        assert not set(plain) & set(others)
        one, two = (latents_of(steps_farm, keys[0]) for keys in (plain, others))
        assert not torch.equal(one, two), "it was really set up"
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
        steps.decode_take(other, take_of(other, submitted.id))
        steps.assemble(other, submitted.id)
    record = json.loads(steps_farm.store.get(record_address(steps_farm, submitted.id)))
    assert record["model"]["speed"] == [
        {"option": "attention", "setting": "_native_math", "exactness": "exact to rounding"}
    ]
    assert render_shot(steps_farm, submitted.id) == 0, "without it the first ones are found again"
