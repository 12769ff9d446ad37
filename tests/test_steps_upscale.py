"""The super-resolution stage on the farm: its film, its keys and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from db.states import DeliverableKind
from db.states import Stage as RowStage
from dreamontage import media
from dreamontage.rendering.take_plan import Stage
from dreamontage.storyboard.errors import StoryboardError
from flows import steps
from flows.actions.submit import submit
from flows.studio import model
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard
from tests.support.farm_steps import (
    STEPS,
    address_kinds,
    base_segments,
    latents_of,
    refined_segments,
    render_segments,
    submit_take,
    take_of,
)
from tests.support.farm_upscale import SR_STEPS, WINDOWS, in_one_go

STAGES = (Stage.BASE, Stage.UPSCALE)


def test_an_upscaled_storyboard_becomes_a_film(
    upscale_farm: Farm, write_board: WriteBoard, tmp_path: Path
) -> None:
    """The base segments are those of the film without it. One enlarging and the SR model's windows
    follow. A second render runs no step."""
    plain = submit_take(upscale_farm, write_board("plain"))
    assert render_segments(upscale_farm, plain) == [STEPS] * WINDOWS
    take = submit_take(upscale_farm, write_board("large", upscale=1.5))
    assert [each.key for each in base_segments(take)] == plain.plan.keys
    assert [(each.index, each.number, each.count) for each in refined_segments(take)] == [
        (3, 0, 3),
        (4, 1, 3),
        (5, 2, 3),
    ]
    slots = upscale_farm.repository.take_segments(take.id)
    assert [(slot.start, slot.stop, slot.tail) for slot in slots[WINDOWS:]] == [
        (0, 4, 0),
        (2, 7, 2),
        (5, 9, 2),
    ]
    assert render_segments(upscale_farm, take, base_segments(take)) == [0] * WINDOWS, (
        "the small film is there already"
    )
    made = steps.make_drafts(upscale_farm, take, Stage.UPSCALE)
    assert made == WINDOWS
    assert steps.make_drafts(upscale_farm, take, Stage.UPSCALE) == 0, "once for a take"
    calls: list[tuple[int, int]] = []
    for each in refined_segments(take):
        steps.render_segment(upscale_farm, take, each, progress=lambda *step: calls.append(step))
    assert calls == [(step, 8) for step in range(3, 9)] * WINDOWS
    assert "enlarged" not in address_kinds(upscale_farm), "what is refined needs it no more"
    assert render_segments(upscale_farm, take) == [0] * 2 * WINDOWS
    assert steps.make_drafts(upscale_farm, take, Stage.UPSCALE) == 0

    found = [latents_of(upscale_farm, each.key) for each in refined_segments(take)]
    whole = in_one_go(upscale_farm, take.id, 1.5)
    assert torch.equal(found[0][:, :, :2], whole[:, :, :2])
    assert torch.equal(found[1][:, :, 2:3], whole[:, :, 4:5])
    assert torch.equal(found[2][:, :, 2:], whole[:, :, 7:])

    mezzanine = upscale_farm.store.fetch(
        steps.decode_take(upscale_farm, take), tmp_path / "take.mkv"
    )
    info = media.probe(mezzanine)
    assert (info.width, info.height, info.frames) == (120, 96, 33), "of a grid of 128x96"
    steps.gate_take(upscale_farm, take, takes_left=0)
    storyboard_id = upscale_farm.repository.shot(take.shot_id).storyboard_id
    steps.assemble(upscale_farm, storyboard_id)
    deliverables = {each.kind: each for each in upscale_farm.repository.deliverables(storyboard_id)}
    film = upscale_farm.store.fetch(
        deliverables[DeliverableKind.FILM].address, tmp_path / "film.mp4"
    )
    assert media.probe(film).width == 120
    record = json.loads(upscale_farm.store.get(deliverables[DeliverableKind.RECORD].address))
    assert record["upscale"]["model"]["folder"] == "sr"
    progress = upscale_farm.repository.progress(storyboard_id).segments
    assert [(each.stage, each.index) for each in progress] == [
        (stage, index) for stage in (RowStage.BASE, RowStage.UPSCALE) for index in range(WINDOWS)
    ]


def test_keys_change_with_what_determines_them_and_with_nothing_else(
    upscale_farm: Farm,
    upscale_settings: Settings,
    write_board: WriteBoard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def keys(farm: Farm, name: str, **overrides: Any) -> tuple[list[str], list[str]]:
        take = submit_take(farm, write_board(name, **{"upscale": 1.5} | overrides))
        return [each.key for each in base_segments(take)], [
            each.key for each in refined_segments(take)
        ]

    small, refined = keys(upscale_farm, "one")
    assert keys(upscale_farm, "title", title="Another") == (small, refined)

    def only_refined_differ(found: tuple[list[str], list[str]]) -> bool:
        """The same small film, and another large one."""
        return found[0] == small and not set(found[1]) & set(refined)

    assert only_refined_differ(keys(upscale_farm, "scale", upscale=2))
    other_seed = keys(upscale_farm, "seed", seed=6)
    assert not set(other_seed[0] + other_seed[1]) & set(small + refined)
    fewer = keys(upscale_farm, "steps", sampler={"steps": 5})
    assert not set(fewer[0] + fewer[1]) & set(small + refined), "other base segments, another film"

    # A still near the end: only the windows that it, or the film before it, reaches.
    shots = yaml.safe_load(write_board().read_text())["shots"]
    shots[0]["keyframes"][2]["image"] = "still3.png"
    other_end = keys(upscale_farm, "end", shots=shots)
    assert other_end[0][:2] == small[:2]
    assert other_end[1][:1] == refined[:1], "it depends on the base's first two windows alone"
    assert not set(other_end[1][1:]) & set(refined[1:])

    sr = tmp_path / "sr"
    assert upscale_settings.sr_weights is not None
    shutil.copytree(upscale_settings.sr_weights, sr)
    index = json.loads((sr / "model_index.json").read_text())
    with open_farm(upscale_settings.model_copy(update={"sr_weights": sr})) as copied:
        assert keys(copied, "copied") == (small, refined)
    for field, value in (
        ("superres", index["superres"] | {"strength": 0.8}),
        ("superres", index["superres"] | {"shared_rope": False}),
        ("default_guidance", 2.0),
    ):
        (sr / "model_index.json").write_text(json.dumps(index | {field: value}))
        with open_farm(upscale_settings.model_copy(update={"sr_weights": sr})) as changed:
            assert only_refined_differ(keys(changed, "changed"))
    with monkeypatch.context() as patched:
        patched.setattr("flows.steps.shots.machine_kind", lambda device: "cuda bfloat16")
        other = keys(upscale_farm, "machine")
        assert not set(other[0] + other[1]) & set(small + refined)


def test_variants_share_the_windows_that_they_have_in_common(
    upscale_farm: Farm, write_board: WriteBoard
) -> None:
    one = submit_take(upscale_farm, write_board("uk", upscale=1.5))
    assert render_segments(upscale_farm, one) == [STEPS] * WINDOWS + [SR_STEPS] * WINDOWS
    shots = yaml.safe_load(write_board().read_text())["shots"]
    shots[0]["keyframes"][2]["image"] = "still3.png"
    two = submit_take(upscale_farm, write_board("de", upscale=1.5, shots=shots))
    assert render_segments(upscale_farm, two, base_segments(two)) == [0, 0, STEPS]
    assert steps.make_drafts(upscale_farm, two, Stage.UPSCALE) == 2
    assert render_segments(upscale_farm, two, refined_segments(two)) == [0, SR_STEPS, SR_STEPS]
    whole = in_one_go(upscale_farm, two.id, 1.5)
    assert torch.equal(latents_of(upscale_farm, two.plan.keys[-1])[:, :, 2:], whole[:, :, 7:])


def test_a_loop_is_closed_in_both_stages(upscale_farm: Farm, write_board: WriteBoard) -> None:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"duration": {"frames": 32}, "keyframes": stills, "loop": True}
    take = submit_take(upscale_farm, write_board(upscale=1.5, shots=[shot]))
    assert render_segments(upscale_farm, take, base_segments(take)) == [STEPS] * len(
        base_segments(take)
    )
    assert render_segments(upscale_farm, take, refined_segments(take)) == [SR_STEPS] * len(
        refined_segments(take)
    )
    last = refined_segments(take)[-1]
    whole = in_one_go(upscale_farm, take.id, 1.5)
    own = latents_of(upscale_farm, last.key)[:, :, last.window.tail : 9 - last.window.start]
    assert torch.equal(own, whole[:, :, last.window.start + last.window.tail :])

    # The gate looks at the joins of both stages.
    assert take.plan.upscale is not None
    joins = set(take.plan.base.joins), set(take.plan.upscale.joins)
    assert joins[0] != joins[1]
    steps.decode_take(upscale_farm, take)
    steps.gate_take(upscale_farm, take, takes_left=0)
    (seam,) = (score for score in upscale_farm.repository.scores(take.id) if score.name == "seam")
    named = {each.split(":")[0].strip() for each in seam.detail.split(";")}
    assert named == {"the loop's end"} | {f"{join / 16:.2f} s" for join in joins[0] | joins[1]}


def test_prompts_are_encoded_once_for_both_models(
    upscale_farm: Farm, upscale_settings: Settings, write_board: WriteBoard, tmp_path: Path
) -> None:
    """Both have the same text encoder. With different ones, each model gets its own encodings."""
    take = submit_take(
        upscale_farm, write_board("one", shots=[one_prompt(write_board)], upscale=1.5)
    )
    assert steps.encode_prompts(upscale_farm, take) == 1
    sr = tmp_path / "sr"
    assert upscale_settings.sr_weights is not None
    shutil.copytree(upscale_settings.sr_weights, sr)
    config = json.loads((sr / "text_encoder" / "config.json").read_text())
    (sr / "text_encoder" / "config.json").write_text(json.dumps(config | {"note": "another"}))
    with open_farm(upscale_settings.model_copy(update={"sr_weights": sr})) as other:
        assert steps.encode_prompts(other, take) == 1
        assert steps.encode_prompts(other, take) == 0


def one_prompt(write_board: WriteBoard) -> dict[str, Any]:
    shot: dict[str, Any] = yaml.safe_load(write_board().read_text())["shots"][0]
    return shot | {"prompts": "pan left"}


def test_a_process_holds_both_models(upscale_farm: Farm) -> None:
    both = [model.pipeline_of(upscale_farm, stage) for stage in STAGES]
    assert both[0] is not both[1]
    for _ in range(2):
        for stage, pipe in zip(STAGES, both, strict=True):
            assert model.pipeline_of(upscale_farm, stage) is pipe


def test_what_cannot_be_upscaled_is_refused_at_submit_and_by_the_worker(
    upscale_farm: Farm, upscale_settings: Settings, write_board: WriteBoard
) -> None:
    shots = [{"duration": {"frames": 4}, "loop": True}]
    (submitted,) = submit(upscale_farm, write_board("before", upscale=2))
    good, bad = write_board("good"), write_board("bad", upscale=2, shots=shots)
    base_only = upscale_settings.model_copy(update={"sr_weights": None})
    with open_farm(base_only) as without:
        with pytest.raises(StoryboardError) as error:
            submit(without, good, bad)
        messages = [str(field_error).removeprefix(f"{bad}: ") for field_error in error.value.errors]
        assert [each.split(" = ")[0] for each in messages] == ["shots[0].duration", "upscale"]
        assert "DREAMONTAGE_SR_WEIGHTS" in messages[1]
        assert len(without.repository.recent_storyboards(9)) == 1, "what was there before"
        # One that was submitted when there was a model.
        with pytest.raises(StoryboardError, match=r"^upscale = 2 needs a super-resolution model"):
            take_of(without, submitted.id)
    wrong = upscale_settings.model_copy(update={"sr_weights": upscale_settings.weights})
    with open_farm(wrong) as other, pytest.raises(StoryboardError, match="is no super-resolution"):
        submit(other, write_board("wrong", upscale=2))
