"""The super-resolution stage on the farm: on a real Postgres, a real store and tiny models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from db.states import DeliverableKind, SegmentState, Stage
from dreamontage import DreaMontagePipeline, media
from dreamontage.faults import StoryboardError
from dreamontage.notation import write
from dreamontage.plan import Placed
from dreamontage.take import load_condition
from dreamontage.upscale import upscale_shot
from flows import model, steps
from flows.farm import Farm, open_farm
from flows.settings import Settings
from flows.submit import submit
from tests.fixtures.boards import WriteBoard

STEPS, SR_STEPS = 6, 6  # run of a segment; the SR model has eight, and starts at the third
WINDOWS = 3  # of either stage


@pytest.fixture
def settings(database_url: str, tmp_path: Path, tiny_ours: Path, tiny_sr: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        weights=tiny_ours,
        sr_weights=tiny_sr,
        database_url=database_url,
        lease_seconds=1.5,
        heartbeat_seconds=0.3,
        checkpoint_every=2,
    )


@pytest.fixture
def farm(settings: Settings) -> Iterator[Farm]:
    with open_farm(settings) as farm:
        yield farm


def shot_of(farm: Farm, storyboard_id: str) -> str:
    (shot,) = farm.repository.shots(storyboard_id)
    return shot.id


def planned(farm: Farm, board: Path) -> list[steps.PlannedSegment]:
    (submitted,) = submit(farm, board)
    return steps.plan_take(farm, shot_of(farm, submitted.id), 0)


def base(segments: list[steps.PlannedSegment]) -> list[steps.PlannedSegment]:
    return [each for each in segments if each.stage is Stage.BASE]


def large(segments: list[steps.PlannedSegment]) -> list[steps.PlannedSegment]:
    return [each for each in segments if each.stage is Stage.UPSCALE]


def render(farm: Farm, segments: list[steps.PlannedSegment]) -> list[int]:
    """How many denoise steps each one took."""
    return [steps.render_segment(farm, each) for each in segments]


def kinds(farm: Farm) -> dict[str, int]:
    """How many objects of each kind are in the store."""
    found = [stat.address.split("/")[0] for stat in farm.store.list()]
    return {kind: found.count(kind) for kind in found}


def in_one_go(farm: Farm, take_id: str, scale: float) -> torch.Tensor:
    """A take's refined latents from a notebook's two calls, nothing stored between."""
    take = farm.repository.take(take_id)
    shot = farm.repository.shot(take.shot_id)
    board = steps.board_of(farm, shot.storyboard_id)
    wanted = board.shots[0]

    def conditions(*addresses: str) -> list[Any]:
        rows = farm.repository.conditions(take.shot_id)
        with farm.scratch() as folder:
            return [
                load_condition(
                    Placed(index=row.index, kind=row.kind.value, frame=row.frame, frames=1),
                    farm.store.fetch(address, folder / str(row.index)),
                )
                for row, address in zip(rows, addresses, strict=True)
            ]

    words: dict[str, Any] = {
        "prompt": write([(s.start, s.end, s.text) for s in wanted.prompts]),
        "height": board.size.height,
        "width": board.size.width,
        "num_frames": shot.frames,
        "loop": wanted.loop,
        "seed": take.seed,
        "output_type": "latent",
    }
    rows = farm.repository.conditions(take.shot_id)
    pipe, sr = (
        DreaMontagePipeline.from_pretrained(folder)
        for folder in (farm.settings.weights, farm.settings.sr_weights)
    )
    small = pipe(**words, conditions=conditions(*(row.rendition_address for row in rows))).frames
    larger = conditions(*(row.target_address for row in rows))
    return upscale_shot(small, sr, scale, **words, conditions=larger).frames


def test_an_upscaled_storyboard_becomes_a_film(
    farm: Farm, write_board: WriteBoard, tmp_path: Path
) -> None:
    """Base segments as without it, one enlarging, then the SR model's windows; and all of it again
    costs nothing."""
    plain = planned(farm, write_board("plain"))
    assert render(farm, plain) == [STEPS] * WINDOWS
    segments = planned(farm, write_board("large", upscale=1.5))
    assert [each.key for each in base(segments)] == [each.key for each in plain]
    assert [(each.index, each.number, each.count) for each in large(segments)] == [
        (3, 0, 3),
        (4, 1, 3),
        (5, 2, 3),
    ]
    take_id = segments[0].take_id
    shot_id = farm.repository.take(take_id).shot_id
    slots = farm.repository.take_segments(take_id)
    assert [(slot.start, slot.stop, slot.tail) for slot in slots[WINDOWS:]] == [
        (0, 4, 0),
        (2, 7, 2),
        (5, 9, 2),
    ]
    assert render(farm, base(segments)) == [0] * WINDOWS, "the small film is there already"
    made = steps.enlarge_take(farm, take_id)
    assert list(made) == [each.key for each in large(segments)]
    assert steps.enlarge_take(farm, take_id) == {}, "once for a take"
    told: list[tuple[int, int]] = []
    for each in large(segments):
        steps.render_segment(farm, each, progress=lambda *step: told.append(step))
    assert told == [(step, 8) for step in range(3, 9)] * WINDOWS
    assert "enlarged" not in kinds(farm), "what is refined needs it no more"
    assert render(farm, segments) == [0] * 2 * WINDOWS
    assert steps.enlarge_take(farm, take_id) == {}

    found = [steps.latents_of(farm, each.key) for each in large(segments)]
    whole = in_one_go(farm, take_id, 1.5)
    assert torch.equal(found[0][:, :, :2], whole[:, :, :2])
    assert torch.equal(found[1][:, :, 2:3], whole[:, :, 4:5])
    assert torch.equal(found[2][:, :, 2:], whole[:, :, 7:])

    mezzanine = farm.store.fetch(steps.decode_take(farm, take_id), tmp_path / "take.mkv")
    info = media.probe(mezzanine)
    assert (info.width, info.height, info.frames) == (120, 96, 33), "of a grid of 128x96"
    steps.gate_take(farm, take_id, takes_left=0)
    storyboard_id = farm.repository.shot(shot_id).storyboard_id
    steps.assemble(farm, storyboard_id)
    deliverables = {each.kind: each for each in farm.repository.deliverables(storyboard_id)}
    film = farm.store.fetch(deliverables[DeliverableKind.FILM].address, tmp_path / "film.mp4")
    assert media.probe(film).width == 120
    record = json.loads(farm.store.get(deliverables[DeliverableKind.RECORD].address))
    assert record["upscale"]["model"]["folder"] == "sr"
    progress = farm.repository.progress(storyboard_id).segments
    assert [(each.stage, each.index) for each in progress] == [
        (stage, index) for stage in Stage for index in range(WINDOWS)
    ]


def test_keys_change_with_what_determines_them_and_with_nothing_else(
    farm: Farm, settings: Settings, write_board: WriteBoard, tmp_path: Path, monkeypatch: Any
) -> None:
    def keys(farm: Farm, name: str, **overrides: Any) -> tuple[list[str], list[str]]:
        segments = planned(farm, write_board(name, **{"upscale": 1.5} | overrides))
        return [each.key for each in base(segments)], [each.key for each in large(segments)]

    small, refined = keys(farm, "one")
    assert keys(farm, "title", title="Another") == (small, refined)

    def none_of(found: tuple[list[str], list[str]]) -> bool:
        """The same small film, and another large one."""
        return found[0] == small and not set(found[1]) & set(refined)

    assert none_of(keys(farm, "scale", upscale=2))
    other_seed = keys(farm, "seed", seed=6)
    assert not set(other_seed[0] + other_seed[1]) & set(small + refined)
    fewer = keys(farm, "steps", sampler={"steps": 5})
    assert not set(fewer[0] + fewer[1]) & set(small + refined), "other base segments, another film"

    # A still near the end: only the windows that it, or the film before it, reaches.
    shots = yaml.safe_load(write_board().read_text())["shots"]
    shots[0]["keyframes"][2]["image"] = "still3.png"
    other_end = keys(farm, "end", shots=shots)
    assert other_end[0][:2] == small[:2]
    assert other_end[1][:1] == refined[:1], "it depends on the base's first two windows alone"
    assert not set(other_end[1][1:]) & set(refined[1:])

    sr = tmp_path / "sr"
    shutil.copytree(settings.sr_weights, sr)  # type: ignore[arg-type]
    index = json.loads((sr / "model_index.json").read_text())
    with open_farm(settings.model_copy(update={"sr_weights": sr})) as copied:
        assert keys(copied, "copied") == (small, refined)
    for field, value in (
        ("superres", index["superres"] | {"strength": 0.8}),
        ("superres", index["superres"] | {"shared_rope": False}),
        ("default_guidance", 2.0),
    ):
        (sr / "model_index.json").write_text(json.dumps(index | {field: value}))
        with open_farm(settings.model_copy(update={"sr_weights": sr})) as changed:
            assert none_of(keys(changed, "changed"))
    with monkeypatch.context() as patched:
        patched.setattr("dreamontage.keys.machine_kind", lambda device: "cuda bfloat16")
        other = keys(farm, "machine")
        assert not set(other[0] + other[1]) & set(small + refined)


def test_variants_share_the_windows_that_they_have_in_common(
    farm: Farm, write_board: WriteBoard
) -> None:
    one = planned(farm, write_board("uk", upscale=1.5))
    assert render(farm, one) == [STEPS] * WINDOWS + [SR_STEPS] * WINDOWS
    shots = yaml.safe_load(write_board().read_text())["shots"]
    shots[0]["keyframes"][2]["image"] = "still3.png"
    two = planned(farm, write_board("de", upscale=1.5, shots=shots))
    assert render(farm, base(two)) == [0, 0, STEPS]
    assert len(steps.enlarge_take(farm, two[0].take_id)) == 2
    assert render(farm, large(two)) == [0, SR_STEPS, SR_STEPS]
    whole = in_one_go(farm, two[0].take_id, 1.5)
    assert torch.equal(steps.latents_of(farm, two[-1].key)[:, :, 2:], whole[:, :, 7:])


_HOLD = """
import sys
from flows import steps
from flows.farm import open_farm
from flows.settings import Settings
from tests.fixtures.alignment import aligned_loads

settings = Settings.model_validate_json(sys.argv[1])
def stop_at(step, total):
    if step == 7:
        print("holding", flush=True)
        sys.stdin.read()
with open_farm(settings) as farm, aligned_loads():
    planned = steps.plan_take(farm, sys.argv[2], 0)[4]
    steps.render_segment(farm, planned, progress=stop_at)
"""


def test_a_killed_holders_window_is_taken_over_from_its_checkpoint(
    farm: Farm, settings: Settings, write_board: WriteBoard
) -> None:
    segments = planned(farm, write_board(upscale=1.5))
    take_id = segments[0].take_id
    shot_id = farm.repository.take(take_id).shot_id
    render(farm, segments[:4])
    held = segments[4]
    command = [sys.executable, "-c", _HOLD, settings.model_dump_json(), shot_id]
    holder = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        row = farm.repository.segment(held.key)
        assert (row.state, row.checkpoint_step) == (SegmentState.RUNNING, 6)
        assert row.enlarged_address is not None
        os.kill(holder.pid, signal.SIGKILL)
        waited_for: list[str] = []
        run = steps.render_segment(farm, held, waiting=waited_for.append)
    assert waited_for == [row.lease_holder], "the lease of the dead is waited out, not stolen"
    assert run == 2, "step 7 is lost with its process, steps 3 to 6 are not"
    assert farm.repository.segment(held.key).denoise_steps_run == SR_STEPS
    assert render(farm, segments[5:]) == [SR_STEPS]
    whole = in_one_go(farm, take_id, 1.5)
    assert torch.equal(steps.latents_of(farm, held.key)[:, :, 2:3], whole[:, :, 4:5])
    assert torch.equal(steps.latents_of(farm, segments[5].key)[:, :, 2:], whole[:, :, 7:])
    assert not {"checkpoints", "enlarged"} & kinds(farm).keys()


def test_enlarged_latents_that_are_lost_are_made_again(
    farm: Farm, write_board: WriteBoard, monkeypatch: Any
) -> None:
    """By the window that misses them, and they alone; and so is a refined one that is lost."""
    segments = planned(farm, write_board(upscale=1.5))
    first, second, third = large(segments)
    take_id = first.take_id
    render(farm, base(segments))
    steps.enlarge_take(farm, take_id)
    address = farm.repository.segment(second.key).enlarged_address
    torn = farm.repository.segment(third.key).enlarged_address
    assert address is not None
    assert torn is not None
    farm.store.delete(address)
    path = farm.settings.home / "store" / torn
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    put: list[str] = []
    keep = steps.enlarging.put_latents

    def counted(farm: Farm, kind: str, latents: torch.Tensor) -> str:
        put.append(keep(farm, kind, latents))
        return put[-1]

    monkeypatch.setattr(steps.enlarging, "put_latents", counted)
    assert render(farm, [first, second]) == [SR_STEPS] * 2
    assert put == [address], "of the same bytes; of the others nothing was wanting, to the eye"
    assert render(farm, [third]) == [SR_STEPS]
    assert put == [address, torn]
    whole = in_one_go(farm, take_id, 1.5)
    assert torch.equal(steps.latents_of(farm, third.key)[:, :, 2:], whole[:, :, 7:])

    # A refined window that is lost: it alone is enlarged and refined again.
    refined = farm.repository.segment(second.key).latents_address
    assert refined is not None
    farm.store.delete(refined)
    with pytest.raises(steps.LostWork):
        steps.decode_take(farm, take_id)
    assert list(steps.enlarge_take(farm, take_id)) == [second.key]
    assert render(farm, segments) == [0, 0, 0, 0, SR_STEPS, 0]
    assert farm.repository.segment(second.key).latents_address == refined

    # A base segment's loss is no loss until something is to be made of it.
    lost = farm.repository.segment(segments[0].key).latents_address
    assert lost is not None
    farm.store.delete(lost)
    assert steps.enlarge_take(farm, take_id) == {}
    steps.decode_take(farm, take_id)
    refined = farm.repository.segment(third.key).latents_address
    assert refined is not None
    farm.store.delete(refined)
    with pytest.raises(steps.LostWork):
        steps.latents_of(farm, third.key)
    with pytest.raises(steps.LostWork):
        steps.render_segment(farm, third)
    assert "LostWork" in (farm.repository.segment(third.key).error or "")
    assert render(farm, segments) == [STEPS, 0, 0, 0, 0, SR_STEPS], "as the flow's next run does"
    assert farm.repository.segment(third.key).latents_address == refined


def test_a_window_that_another_take_enlarges_at_the_same_time(
    farm: Farm, write_board: WriteBoard, monkeypatch: Any
) -> None:
    segments = planned(farm, write_board(upscale=1.5))
    first = large(segments)[0]
    render(farm, base(segments))
    enlarge = steps.enlarging.enlarge_take

    def late(farm: Farm, take_id: str) -> dict[str, str]:
        enlarge(farm, take_id)  # the other one
        return enlarge(farm, take_id)

    monkeypatch.setattr(steps.enlarging, "enlarge_take", late)
    assert render(farm, [first]) == [SR_STEPS]


def test_a_loop_is_closed_in_both_stages(farm: Farm, write_board: WriteBoard) -> None:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"duration": {"frames": 32}, "keyframes": stills, "loop": True}
    segments = planned(farm, write_board(upscale=1.5, shots=[shot]))
    assert render(farm, base(segments)) == [STEPS] * len(base(segments))
    assert render(farm, large(segments)) == [SR_STEPS] * len(large(segments))
    last = farm.repository.take_segments(segments[0].take_id)[-1]
    whole = in_one_go(farm, segments[0].take_id, 1.5)
    own = steps.latents_of(farm, last.key)[:, :, last.tail : 9 - last.start]
    assert torch.equal(own, whole[:, :, last.start + last.tail :])

    # The gate looks at the joins of both stages.
    take = farm.repository.take(segments[0].take_id)
    context = steps.shots.context_of(farm, take.shot_id)
    joins = [set(steps.shots.plan_of(farm, context, take.seed, stage).joins) for stage in Stage]
    assert joins[0] != joins[1]
    steps.decode_take(farm, take.id)
    steps.gate_take(farm, take.id, takes_left=0)
    (seam,) = (score for score in farm.repository.scores(take.id) if score.name == "seam")
    told = {each.split(":")[0].strip() for each in seam.detail.split(";")}
    assert told == {"the loop's end"} | {f"{join / 16:.2f} s" for join in joins[0] | joins[1]}


def test_prompts_are_encoded_once_for_both_models(
    farm: Farm, settings: Settings, write_board: WriteBoard, tmp_path: Path
) -> None:
    """They have the same text encoder; with another, each its own."""
    segments = planned(farm, write_board("one", shots=[one_prompt(write_board)], upscale=1.5))
    assert steps.encode_prompts(farm, segments[0].take_id) == 1
    sr = tmp_path / "sr"
    shutil.copytree(settings.sr_weights, sr)  # type: ignore[arg-type]
    config = json.loads((sr / "text_encoder" / "config.json").read_text())
    (sr / "text_encoder" / "config.json").write_text(json.dumps(config | {"note": "another"}))
    with open_farm(settings.model_copy(update={"sr_weights": sr})) as other:
        assert steps.encode_prompts(other, segments[0].take_id) == 1
        assert steps.encode_prompts(other, segments[0].take_id) == 0


def one_prompt(write_board: WriteBoard) -> dict[str, Any]:
    shot: dict[str, Any] = yaml.safe_load(write_board().read_text())["shots"][0]
    return shot | {"prompts": "pan left"}


def test_a_process_keeps_both_models(farm: Farm) -> None:
    both = [model.pipeline_of(farm, stage) for stage in Stage]
    assert both[0] is not both[1]
    for _ in range(2):
        for stage, pipe in zip(Stage, both, strict=True):
            assert model.pipeline_of(farm, stage) is pipe


def test_what_cannot_be_upscaled_is_refused_at_the_door_and_by_the_worker(
    farm: Farm, settings: Settings, write_board: WriteBoard
) -> None:
    shots = [{"duration": {"frames": 4}, "loop": True}]
    (submitted,) = submit(farm, write_board("before", upscale=2))
    good, bad = write_board("good"), write_board("bad", upscale=2, shots=shots)
    bare = settings.model_copy(update={"sr_weights": None})
    with open_farm(bare) as without:
        with pytest.raises(StoryboardError) as error:
            submit(without, good, bad)
        told = [str(fault).removeprefix(f"{bad}: ") for fault in error.value.faults]
        assert [each.split(" = ")[0] for each in told] == ["shots[0].duration", "upscale"]
        assert "DREAMONTAGE_SR_WEIGHTS" in told[1]
        assert len(without.repository.recent_storyboards(9)) == 1, "what was there before"
        # One that was submitted when there was a model.
        with pytest.raises(StoryboardError, match=r"^upscale = 2 needs a super-resolution model"):
            steps.plan_take(without, shot_of(farm, submitted.id), 0)
    wrong = settings.model_copy(update={"sr_weights": settings.weights})
    with open_farm(wrong) as other, pytest.raises(StoryboardError, match="is no super-resolution"):
        submit(other, write_board("wrong", upscale=2))
