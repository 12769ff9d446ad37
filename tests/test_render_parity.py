"""`dreamontage render` and the farm are one product: what one does, the other does."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from typer.testing import CliRunner

from db.states import DeliverableKind
from dreamontage import DreaMontagePipeline, media, scorer
from dreamontage.cli import app as library
from dreamontage.rendering import assets, local
from dreamontage.rendering.delivery import Deliverables
from dreamontage.rendering.record import record_schema
from dreamontage.rendering.take_plan import PlannedSegment, Stage
from dreamontage.rendering.takes import render_takes
from dreamontage.storyboard import load
from dreamontage.storyboard.errors import StoryboardError
from flows import steps
from flows.actions.submit import submit
from flows.studio.farm import Farm
from tests.support.boards import WriteBoard

STEPS, SEGMENTS = 6, 3


@dataclass(frozen=True)
class FarmSteps:
    """The farm's steps without Prefect; see `flows.render.TakeTasks`."""

    farm: Farm
    shot_id: str

    def plan(self, attempt: int) -> steps.FarmTake:
        return steps.begin_take(self.farm, self.shot_id, attempt)

    def encode_prompts(self, take: steps.FarmTake) -> None:
        steps.encode_prompts(self.farm, take)

    def render_segment(self, take: steps.FarmTake, segment: PlannedSegment) -> None:
        steps.render_segment(self.farm, take, segment)

    def make_drafts(self, take: steps.FarmTake, stage: Stage) -> None:
        steps.make_drafts(self.farm, take, stage)

    def decode(self, take: steps.FarmTake) -> None:
        steps.decode_take(self.farm, take)

    def gate(self, take: steps.FarmTake, takes_left: int) -> scorer.Verdict:
        judged = steps.gate_take(self.farm, take, takes_left=takes_left)
        return scorer.Verdict(judged.verdict.value)


def on_the_farm(farm: Farm, board: Path, *, max_takes: int) -> dict[str, Any]:
    """The record of a storyboard of one shot."""
    (submitted,) = submit(farm, board)
    (shot,) = farm.repository.shots(submitted.id)
    render_takes(FarmSteps(farm, shot.id), first_attempt=0, max_takes=max_takes)
    steps.assemble(farm, submitted.id)
    found = {each.kind: each.address for each in farm.repository.deliverables(submitted.id)}
    record: dict[str, Any] = json.loads(farm.store.get(found[DeliverableKind.RECORD]))
    return record


class Watched:
    """A progress callback: how many denoise steps were run, by what was being done."""

    def __init__(self, stop_at: tuple[str, int] | None = None) -> None:
        self.steps: Counter[str] = Counter()
        self.lines: list[str] = []
        self.stop_at = stop_at

    def __call__(self, what: str, done: int, total: int) -> None:
        self.lines.append(what)
        # A segment that is found is reported as step 1 of 1.
        if ("segment" in what or "upscaling" in what) and done and total > 1:
            self.steps[what] += 1
            if (what, done) == self.stop_at:
                raise KeyboardInterrupt


def here(
    pipe: DreaMontagePipeline,
    board: Path,
    out: Path,
    watched: Watched | None = None,
    **options: Any,
) -> Deliverables:
    options = {"max_takes": 1} | options
    made, _ = local.render(
        load(board),
        board.parent,
        out,
        pipe,
        name="film",
        progress=watched or Watched(),
        **options,
    )
    return made


@pytest.fixture
def base_pipe(tiny_ours: Path) -> DreaMontagePipeline:
    return DreaMontagePipeline.from_pretrained(tiny_ours, dtype=torch.float32)


def test_the_gate_has_takes_retaken_in_both(
    two_model_farm: Farm, base_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    board = write_board()
    made = json.loads(here(base_pipe, board, tmp_path / "out", max_takes=2).record.read_text())
    other = on_the_farm(two_model_farm, board, max_takes=2)
    assert made["shots"][0]["take"] == 1, "random weights pass no gate"
    assert made["shots"] == other["shots"]


def test_both_write_one_record(
    two_model_farm: Farm, base_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    board = write_board()
    made = json.loads(here(base_pipe, board, tmp_path / "out").record.read_text())
    other = on_the_farm(two_model_farm, board, max_takes=1)
    assert made.keys() == other.keys()
    assert made["model"].keys() == other["model"].keys()
    differing = {name for name in made if made[name] != other[name]}
    assert differing == {"film", "id"}
    for record in (made, other):
        assert record["version"] == 1
        jsonschema.validate(record, record_schema())
    printed = CliRunner().invoke(library, ["schema", "--record"])
    assert json.loads(printed.stdout) == record_schema()


def test_a_stopped_render_continues_in_the_middle_of_a_segment(
    base_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    board = write_board()
    whole = here(base_pipe, board, tmp_path / "whole").film.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        here(base_pipe, board, tmp_path / "out", Watched(stop_at=("walk, segment 2 of 3", 5)))
    watched = Watched()
    assert here(base_pipe, board, tmp_path / "out", watched).film.read_bytes() == whole
    assert watched.steps == {"walk, segment 2 of 3": 2, "walk, segment 3 of 3": STEPS}


def test_latents_that_are_lost_or_torn_are_rendered_again_however_many(
    base_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    board, out = write_board(), tmp_path / "out"
    made = here(base_pipe, board, out)
    film = made.film.read_bytes()
    keys = [each["key"] for each in json.loads(made.record.read_text())["shots"][0]["segments"]]
    first, second, third = (out / "segments" / f"{key}.safetensors" for key in keys)
    first.unlink()
    second.write_bytes(second.read_bytes()[:-40])
    data = bytearray(third.read_bytes())
    data[-1] ^= 1
    third.write_bytes(data)
    watched = Watched()
    assert here(base_pipe, board, out, watched).film.read_bytes() == film
    assert watched.steps.total() >= STEPS, "the first is found lost before anything is read"
    again = Watched()
    here(base_pipe, board, out, again)
    assert again.steps.total() == 0


def test_prompts_are_encoded_once(
    base_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path, monkeypatch: Any
) -> None:
    board, out = write_board(), tmp_path / "out"
    encoded: list[str] = []
    encode_prompt = DreaMontagePipeline.encode_prompt

    def counted(self: DreaMontagePipeline, prompt: str | None, *args: Any, **kwargs: Any) -> Any:
        if prompt is not None:
            encoded.append(prompt)
        return encode_prompt(self, prompt, *args, **kwargs)

    monkeypatch.setattr(DreaMontagePipeline, "encode_prompt", counted)
    here(base_pipe, board, out)
    assert len(encoded) == len(set(encoded)) == SEGMENTS, "each has a prompt of its own"
    for file in (out / "segments").glob("*.safetensors"):
        if "embedding" not in file.name:
            file.unlink()
    here(base_pipe, board, out)
    assert len(encoded) == SEGMENTS


def test_a_model_that_changes_while_it_renders_has_its_take_planned_again(
    base_pipe: DreaMontagePipeline, write_board: WriteBoard, tmp_path: Path
) -> None:
    class Changing(Watched):
        def __call__(self, what: str, done: int, total: int) -> None:
            super().__call__(what, done, total)
            if what == "walk, segment 1 of 3" and done == STEPS:
                scheduler = type(base_pipe.scheduler)
                base_pipe.scheduler = scheduler.from_config(
                    base_pipe.scheduler.config, flow_shift=4.0
                )

    before, watched = base_pipe.revision, Changing()
    made = here(base_pipe, write_board(), tmp_path / "out", watched)
    assert any("planned again" in line for line in watched.lines)
    record = json.loads(made.record.read_text())
    assert record["model"]["revision"] == base_pipe.revision != before
    keys = {each["key"] for each in record["shots"][0]["segments"]}
    files = {file.stem for file in (tmp_path / "out" / "segments").glob("*.safetensors")}
    assert len({name for name in files if "embedding" not in name} - keys) == 1, (
        "the one of the model before"
    )


def bad_board(write_board: WriteBoard) -> Path:
    """Off the model's grid, a loop too short for it, an upscale with no model, a bad file, a
    missing one, and a draft below the last noise level."""
    shots = [
        {"name": "loop", "duration": {"frames": 8}, "loop": True},
        {
            "name": "walk",
            "duration": {"frames": 33},
            "draft": "auto",
            "strength": 0.001,
            "keyframes": [
                {"image": "still0.png", "frame": 0},
                {"image": "torn.png", "frame": 12},
                {"image": "nowhere.png", "frame": 32},
            ],
        },
    ]
    path = write_board("bad", shots=shots, upscale=2)
    (path.parent / "torn.png").write_bytes(b"rubbish")
    return path


def test_what_one_refuses_all_refuse_in_one_round(
    two_model_farm: Farm, write_board: WriteBoard, tmp_path: Path, tiny_ours: Path
) -> None:
    path = bad_board(write_board)
    with pytest.raises(StoryboardError) as error:
        submit(two_model_farm, path)
    refused = [str(each) for each in error.value.errors]
    fields = [each.field for each in error.value.errors]
    assert fields == [
        "shots[0].duration",
        "shots[0].duration",
        "shots[1].keyframes[1].image",
        "shots[1].keyframes[2].image",
        "shots[1].strength",
    ], "the loop is too short for either model"
    models = ["--weights", str(tiny_ours), "--sr", str(two_model_farm.settings.sr_weights)]
    for command in ("validate", "plan", "render"):
        more = ["-o", str(tmp_path / "out")] if command == "render" else []
        result = CliRunner().invoke(library, [command, str(path), *models, *more])
        assert result.exit_code == 1, command
        assert result.stderr.splitlines() == refused, command
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["render", "submit"])
def test_every_asset_is_probed_once(
    where: str,
    two_model_farm: Farm,
    base_pipe: DreaMontagePipeline,
    write_board: WriteBoard,
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    board = yaml.safe_load(write_board().read_text())
    with media.Encoder(
        tmp_path / "board" / "clip.mkv", width=80, height=64, fps=Fraction(16), profile="mezzanine"
    ) as encoder:
        for _ in range(8):
            encoder.write(media.read_image(tmp_path / "board" / "still0.png"))
    board["shots"][0]["clips"] = [{"video": "clip.mkv", "frame": 20}]
    path = write_board("clip", shots=board["shots"])
    probed: Counter[str] = Counter()
    probe = media.probe

    def counted(file: Path) -> Any:
        if file.parent == path.parent:
            probed[file.name] += 1
        return probe(file)

    for module in (assets, media):
        monkeypatch.setattr(module, "probe", counted)
    if where == "submit":
        submit(two_model_farm, path)
    else:
        here(base_pipe, path, tmp_path / "out")
    assert probed == {"still0.png": 1, "still1.png": 1, "still2.png": 1, "clip.mkv": 1}
