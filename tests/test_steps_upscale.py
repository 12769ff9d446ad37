"""The super-resolution stage on the farm: on a real Postgres, a real store and tiny models."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from db.states import DeliverableKind, SegmentState
from dreamontage import DreaMontagePipeline, media
from dreamontage.pipeline.upscale import upscale_shot
from dreamontage.rendering.engine import Engine
from dreamontage.rendering.ledger import LostLatents
from dreamontage.rendering.take import load_condition
from dreamontage.rendering.take_plan import PlannedSegment, Stage, TakePlan
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.placement import Placed
from dreamontage.storyboard.prompt_syntax import write
from flows import steps
from flows.actions.submit import submit
from flows.steps.postgres_ledger import PostgresLedger
from flows.studio import model
from flows.studio.farm import Farm, open_farm
from flows.studio.settings import Settings
from tests.support.boards import WriteBoard

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


def begun(farm: Farm, board: Path) -> steps.FarmTake:
    (submitted,) = submit(farm, board)
    return steps.begin_take(farm, shot_of(farm, submitted.id), 0)


def base(take: steps.FarmTake) -> list[PlannedSegment]:
    return take.plan.of_stage(Stage.BASE)


def large(take: steps.FarmTake) -> list[PlannedSegment]:
    return take.plan.of_stage(Stage.UPSCALE)


def render(
    farm: Farm, take: steps.FarmTake, segments: Sequence[PlannedSegment] | None = None
) -> list[int]:
    """How many denoise steps each one took, by default of all."""
    chosen = take.segments if segments is None else segments
    return [steps.render_segment(farm, take, each) for each in chosen]


def latents_of(farm: Farm, key: str) -> torch.Tensor:
    return PostgresLedger(farm).latents(key)


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
    plain = begun(farm, write_board("plain"))
    assert render(farm, plain) == [STEPS] * WINDOWS
    take = begun(farm, write_board("large", upscale=1.5))
    assert [each.key for each in base(take)] == plain.plan.keys
    assert [(each.index, each.number, each.count) for each in large(take)] == [
        (3, 0, 3),
        (4, 1, 3),
        (5, 2, 3),
    ]
    shot_id = take.shot_id
    slots = farm.repository.take_segments(take.id)
    assert [(slot.start, slot.stop, slot.tail) for slot in slots[WINDOWS:]] == [
        (0, 4, 0),
        (2, 7, 2),
        (5, 9, 2),
    ]
    assert render(farm, take, base(take)) == [0] * WINDOWS, "the small film is there already"
    made = steps.make_drafts(farm, take, Stage.UPSCALE)
    assert made == WINDOWS
    assert steps.make_drafts(farm, take, Stage.UPSCALE) == 0, "once for a take"
    told: list[tuple[int, int]] = []
    for each in large(take):
        steps.render_segment(farm, take, each, progress=lambda *step: told.append(step))
    assert told == [(step, 8) for step in range(3, 9)] * WINDOWS
    assert "enlarged" not in kinds(farm), "what is refined needs it no more"
    assert render(farm, take) == [0] * 2 * WINDOWS
    assert steps.make_drafts(farm, take, Stage.UPSCALE) == 0

    found = [latents_of(farm, each.key) for each in large(take)]
    whole = in_one_go(farm, take.id, 1.5)
    assert torch.equal(found[0][:, :, :2], whole[:, :, :2])
    assert torch.equal(found[1][:, :, 2:3], whole[:, :, 4:5])
    assert torch.equal(found[2][:, :, 2:], whole[:, :, 7:])

    mezzanine = farm.store.fetch(steps.decode_take(farm, take), tmp_path / "take.mkv")
    info = media.probe(mezzanine)
    assert (info.width, info.height, info.frames) == (120, 96, 33), "of a grid of 128x96"
    steps.gate_take(farm, take, takes_left=0)
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
        take = begun(farm, write_board(name, **{"upscale": 1.5} | overrides))
        return [each.key for each in base(take)], [each.key for each in large(take)]

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
        patched.setattr("flows.steps.shots.machine_kind", lambda device: "cuda bfloat16")
        other = keys(farm, "machine")
        assert not set(other[0] + other[1]) & set(small + refined)


def test_variants_share_the_windows_that_they_have_in_common(
    farm: Farm, write_board: WriteBoard
) -> None:
    one = begun(farm, write_board("uk", upscale=1.5))
    assert render(farm, one) == [STEPS] * WINDOWS + [SR_STEPS] * WINDOWS
    shots = yaml.safe_load(write_board().read_text())["shots"]
    shots[0]["keyframes"][2]["image"] = "still3.png"
    two = begun(farm, write_board("de", upscale=1.5, shots=shots))
    assert render(farm, two, base(two)) == [0, 0, STEPS]
    assert steps.make_drafts(farm, two, Stage.UPSCALE) == 2
    assert render(farm, two, large(two)) == [0, SR_STEPS, SR_STEPS]
    whole = in_one_go(farm, two.id, 1.5)
    assert torch.equal(latents_of(farm, two.plan.keys[-1])[:, :, 2:], whole[:, :, 7:])


_HOLD = """
import sys
from flows import steps
from flows.studio.farm import open_farm
from flows.studio.settings import Settings
from tests.support.alignment import aligned_loads

settings = Settings.model_validate_json(sys.argv[1])
def stop_at(step, total):
    if step == 7:
        print("holding", flush=True)
        sys.stdin.read()
with open_farm(settings) as farm, aligned_loads():
    take = steps.begin_take(farm, sys.argv[2], 0)
    steps.render_segment(farm, take, take.segments[4], progress=stop_at)
"""


def test_a_killed_holders_window_is_taken_over_from_its_checkpoint(
    farm: Farm, settings: Settings, write_board: WriteBoard
) -> None:
    take = begun(farm, write_board(upscale=1.5))
    shot_id = take.shot_id
    render(farm, take, take.segments[:4])
    held = take.segments[4]
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
        run = steps.render_segment(farm, take, held, waiting=waited_for.append)
    assert waited_for == [row.lease_holder], "the lease of the dead is waited out, not stolen"
    assert run == 2, "step 7 is lost with its process, steps 3 to 6 are not"
    assert farm.repository.segment(held.key).denoise_steps_run == SR_STEPS
    assert render(farm, take, take.segments[5:]) == [SR_STEPS]
    whole = in_one_go(farm, take.id, 1.5)
    assert torch.equal(latents_of(farm, held.key)[:, :, 2:3], whole[:, :, 4:5])
    assert torch.equal(latents_of(farm, take.segments[5].key)[:, :, 2:], whole[:, :, 7:])
    assert not {"checkpoints", "enlarged"} & kinds(farm).keys()


def test_enlarged_latents_that_are_lost_are_made_again(
    farm: Farm, write_board: WriteBoard, monkeypatch: Any
) -> None:
    """By the window that misses them, and they alone; and so is a refined one that is lost."""
    take = begun(farm, write_board(upscale=1.5))
    first, second, third = large(take)
    render(farm, take, base(take))
    steps.make_drafts(farm, take, Stage.UPSCALE)
    address = farm.repository.segment(second.key).enlarged_address
    torn = farm.repository.segment(third.key).enlarged_address
    assert address is not None
    assert torn is not None
    farm.store.delete(address)
    path = farm.settings.home / "store" / torn
    path.chmod(0o644)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 0xFF]))
    put: list[str] = []
    put_enlarged = PostgresLedger.put_enlarged

    def counted(self: PostgresLedger, key: str, latents_BCLHW: torch.Tensor) -> None:
        put.append(key)
        put_enlarged(self, key, latents_BCLHW)

    monkeypatch.setattr(PostgresLedger, "put_enlarged", counted)
    assert render(farm, take, [first, second]) == [SR_STEPS] * 2
    assert put == [second.key], "a torn one is found only when it is read"
    assert render(farm, take, [third]) == [SR_STEPS]
    assert put == [second.key, third.key]
    whole = in_one_go(farm, take.id, 1.5)
    assert torch.equal(latents_of(farm, third.key)[:, :, 2:], whole[:, :, 7:])

    # A refined window that is lost: it alone is enlarged and refined again, wherever it is read.
    refined = farm.repository.segment(second.key).latents_address
    assert refined is not None
    farm.store.delete(refined)
    put.clear()
    steps.decode_take(farm, take)
    assert put == [second.key]
    assert farm.repository.segment(second.key).latents_address == refined
    assert farm.repository.segment(second.key).denoise_steps_run == 2 * SR_STEPS

    # A base segment's loss is no loss until something is to be made of it.
    lost = farm.repository.segment(take.segments[0].key).latents_address
    assert lost is not None
    farm.store.delete(lost)
    assert steps.make_drafts(farm, take, Stage.UPSCALE) == 0
    assert render(farm, take) == [0] * 2 * WINDOWS
    refined = farm.repository.segment(third.key).latents_address
    assert refined is not None
    farm.store.delete(refined)
    with pytest.raises(LostLatents):
        latents_of(farm, third.key)
    assert render(farm, take, [third]) == [SR_STEPS]
    assert farm.repository.segment(take.segments[0].key).denoise_steps_run == 2 * STEPS
    assert farm.repository.segment(third.key).latents_address == refined


def test_a_window_that_another_take_enlarges_at_the_same_time(
    farm: Farm, write_board: WriteBoard, monkeypatch: Any
) -> None:
    take = begun(farm, write_board(upscale=1.5))
    render(farm, take, base(take))
    enlarge = Engine.enlarge

    def late(self: Engine, plan: TakePlan) -> int:
        enlarge(self, plan)  # the other one
        return enlarge(self, plan)

    monkeypatch.setattr(Engine, "enlarge", late)
    assert render(farm, take, large(take)[:1]) == [SR_STEPS]


def test_a_loop_is_closed_in_both_stages(farm: Farm, write_board: WriteBoard) -> None:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"duration": {"frames": 32}, "keyframes": stills, "loop": True}
    take = begun(farm, write_board(upscale=1.5, shots=[shot]))
    assert render(farm, take, base(take)) == [STEPS] * len(base(take))
    assert render(farm, take, large(take)) == [SR_STEPS] * len(large(take))
    last = large(take)[-1]
    whole = in_one_go(farm, take.id, 1.5)
    own = latents_of(farm, last.key)[:, :, last.window.tail : 9 - last.window.start]
    assert torch.equal(own, whole[:, :, last.window.start + last.window.tail :])

    # The gate looks at the joins of both stages.
    assert take.plan.upscale is not None
    joins = set(take.plan.base.joins), set(take.plan.upscale.joins)
    assert joins[0] != joins[1]
    steps.decode_take(farm, take)
    steps.gate_take(farm, take, takes_left=0)
    (seam,) = (score for score in farm.repository.scores(take.id) if score.name == "seam")
    told = {each.split(":")[0].strip() for each in seam.detail.split(";")}
    assert told == {"the loop's end"} | {f"{join / 16:.2f} s" for join in joins[0] | joins[1]}


def test_prompts_are_encoded_once_for_both_models(
    farm: Farm, settings: Settings, write_board: WriteBoard, tmp_path: Path
) -> None:
    """They have the same text encoder; with another, each its own."""
    take = begun(farm, write_board("one", shots=[one_prompt(write_board)], upscale=1.5))
    assert steps.encode_prompts(farm, take) == 1
    sr = tmp_path / "sr"
    shutil.copytree(settings.sr_weights, sr)  # type: ignore[arg-type]
    config = json.loads((sr / "text_encoder" / "config.json").read_text())
    (sr / "text_encoder" / "config.json").write_text(json.dumps(config | {"note": "another"}))
    with open_farm(settings.model_copy(update={"sr_weights": sr})) as other:
        assert steps.encode_prompts(other, take) == 1
        assert steps.encode_prompts(other, take) == 0


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
        told = [str(field_error).removeprefix(f"{bad}: ") for field_error in error.value.errors]
        assert [each.split(" = ")[0] for each in told] == ["shots[0].duration", "upscale"]
        assert "DREAMONTAGE_SR_WEIGHTS" in told[1]
        assert len(without.repository.recent_storyboards(9)) == 1, "what was there before"
        # One that was submitted when there was a model.
        with pytest.raises(StoryboardError, match=r"^upscale = 2 needs a super-resolution model"):
            steps.begin_take(without, shot_of(farm, submitted.id), 0)
    wrong = settings.model_copy(update={"sr_weights": settings.weights})
    with open_farm(wrong) as other, pytest.raises(StoryboardError, match="is no super-resolution"):
        submit(other, write_board("wrong", upscale=2))
