"""A storyboard that asks for `upscale`, rendered in this process: its film, its record, its plan,
and what is told of one that cannot be.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from typer.testing import CliRunner

from dreamontage import DreaMontagePipeline, Keyframe, media
from dreamontage.cli import app
from dreamontage.delivery import film
from dreamontage.models.devices import precision
from dreamontage.models.folder import autoencoder_revision
from dreamontage.pipeline.sar import fuse
from dreamontage.pipeline.upscale import Upscaler, upscale_shot
from dreamontage.pipeline.upscale.model import folder_errors
from dreamontage.planning.cost import _Shape, steps_below
from dreamontage.planning.segments import plan_shot
from dreamontage.rendering import local, model_facts, plan_report
from dreamontage.sampling.conditioning.conditions import Clip
from dreamontage.sampling.start import start_step
from dreamontage.storyboard import Size, Storyboard, load
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.storyboard.prompt_syntax import write
from dreamontage.storyboard.types import SCALES
from dreamontage.training.objectives import nano
from tests.support.boards import WriteBoard, board_writer
from tests.support.tiny import tiny_vae
from tests.test_upscale import Watched, smooth_film

STEPS, SR_STEPS = 6, 8  # of the tiny models; of the latter's, six are run
SR_WINDOWS = [(0, 4), (2, 7), (5, 9)]

ProgressCalls = list[tuple[str, int, int]]


@dataclass(frozen=True, kw_only=True)
class Models:
    base: DreaMontagePipeline
    sr: DreaMontagePipeline


@pytest.fixture(scope="module")
def models(tiny_ours: Path, tiny_sr: Path) -> Models:
    base, sr = (DreaMontagePipeline.from_pretrained(each) for each in (tiny_ours, tiny_sr))
    return Models(base=base, sr=sr)


def render(
    models: Models, path: Path, out: Path, told: ProgressCalls | None = None
) -> local.Deliverables:
    def progress(*step: Any) -> None:
        if told is not None:
            told.append(step)

    made, _ = local.render(
        load(path), path.parent, out, models.base, sr=models.sr, name="film", progress=progress
    )
    return made


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A storyboard rendered at 1.5 times its size, and what was told and asked on the way."""

    path: Path
    out: Path
    made: local.Deliverables
    told: ProgressCalls
    calls: list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    path, told = board_writer(folder / "board")(upscale=1.5), ProgressCalls()
    with Watched(models.sr.transformer) as calls:
        made = render(models, path, folder / "out", told)
    return Whole(path=path, out=folder / "out", made=made, told=told, calls=calls)


# --- the film ------------------------------------------------------------------------------------


def test_a_film_is_delivered_at_its_target_and_its_record_says_how(
    models: Models, whole: Whole
) -> None:
    """1.5 times 80x64 is 120x96, off the SR model's grid of 16; and equal to a notebook's calls."""
    path, made = whole.path, whole.made
    info = media.probe(made.film)
    assert (info.width, info.height, info.frames) == (120, 96, 33)
    assert [step for step in whole.told if step[0] == "walk, upscaling 2 of 3"] == [
        ("walk, upscaling 2 of 3", step, SR_STEPS) for step in range(3, SR_STEPS + 1)
    ]
    record = json.loads(made.record.read_text())
    assert record["upscale"] == {
        "scale": 1.5,
        "size": [120, 96],
        "tile_latents": [8, 12],
        "overlap_latents": 4,
        "strength": 0.92,
        "shared_rope": True,
        "model": {"revision": models.sr.revision, "machine": "cpu float32", "speed": []},
        "sampler": {"steps": SR_STEPS, "guidance": 1.0},
    }
    (shot,) = record["shots"]
    assert [(each["start"], each["stop"]) for each in shot["upscaled"]] == SR_WINDOWS
    for each in shot["conditions"]:
        assert each["made_by"] == {"fit": "crop", "width": 80, "height": 64}
        assert each["target"]["made_by"] == {"fit": "crop", "width": 120, "height": 96}
        assert each["target"]["rendition"] != each["rendition"]
    assert list(film._notes(load(path), [])) == ["upscaled: 80x64 times 1.5"]

    board, kept = load(path), whole.out / "segments"
    plan = plan_shot(
        frames=33,
        fps=board.fps,
        prompts=board.shots[0].prompts,
        conditions=[],
        seed=0,
        geometry=models.sr.geometry,
    )
    windows = [
        # Conditions move the borders; where they lie is what was told above.
        replace(segment, start=start, stop=stop)
        for segment, (start, stop) in zip(plan.segments, SR_WINDOWS, strict=True)
    ]
    found = [load_file(kept / f"{each['key']}.safetensors")["latents"] for each in shot["upscaled"]]
    refined = torch.cat(list(fuse(zip(windows, found, strict=True))), dim=2)
    assert torch.equal(refined, in_a_notebook(models, board, path.parent, 1.5))


def in_a_notebook(models: Models, board: Storyboard, base: Path, scale: float) -> torch.Tensor:
    """The same two calls that the README shows; pictures in the sizes that the films have."""
    (shot,) = board.shots
    folder = base / "fitted"
    folder.mkdir(exist_ok=True)

    def conditions(size: Size) -> list[Keyframe | Clip]:
        made: list[Keyframe | Clip] = []
        for each in shot.keyframes:
            out = media.ingest_image(
                base / each.image,
                width=size.width,
                height=size.height,
                fit=each.fit,
                out=folder / "still.png",
            )
            made.append(Keyframe(image=media.read_image(out), frame=shot.frame_of(each, board.fps)))
        return made

    words: dict[str, Any] = {
        "prompt": write([(s.start, s.end, s.text) for s in shot.prompts]),
        "height": board.size.height,
        "width": board.size.width,
        "num_frames": shot.frames(board.fps),
        "loop": shot.loop,
        "seed": board.shot_seed(0),
        "output_type": "latent",
    }
    latents = models.base(**words, conditions=conditions(board.size)).frames
    larger = conditions(board.size.times(scale))
    return upscale_shot(latents, models.sr, scale, **words, conditions=larger).frames


def test_a_loop_is_enlarged_as_one(models: Models, write_board: WriteBoard, tmp_path: Path) -> None:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"duration": {"frames": 32}, "keyframes": stills, "loop": True}
    path = write_board(shots=[shot], upscale=1.5)
    made = render(models, path, tmp_path / "out")
    info = media.probe(made.film)
    assert (info.width, info.height, info.frames) == (120, 96, 32)
    (told,) = json.loads(made.record.read_text())["shots"]
    last = told["upscaled"][-1]
    kept = tmp_path / "out" / "segments" / f"{last['key']}.safetensors"
    film = in_a_notebook(models, load(path), path.parent, 1.5)
    # What comes after latent 8 is the film's beginning again, and left away.
    inner = slice(last["start"] + last["tail"], 9)
    own = load_file(kept)["latents"][:, :, last["tail"] : 9 - last["start"]]
    assert torch.equal(own, film[:, :, inner])


def test_a_stopped_render_continues(models: Models, whole: Whole, tmp_path: Path) -> None:
    path, out = whole.path, tmp_path / "out"

    def stop(what: str, step: int, steps: int) -> None:
        if (what, step) == ("walk, upscaling 2 of 3", SR_STEPS):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local.render(
            load(path), path.parent, out, models.base, sr=models.sr, name="film", progress=stop
        )
    told: ProgressCalls = []
    again = render(models, path, out, told)
    assert digest(again.film) == digest(whole.made.film)
    found = {what for what, step, steps in told if steps == 1 and step == 1}
    rendered = {what for what, _, steps in told if steps in (STEPS, SR_STEPS)}
    small = {f"walk, segment {number} of 3" for number in (1, 2, 3)}
    assert found == {"walk, upscaling 1 of 3"} | small
    assert rendered == {"walk, upscaling 2 of 3", "walk, upscaling 3 of 3"}

    # With all of the large film there, the small one is not even looked for.
    record = json.loads(again.record.read_text())
    for each in record["shots"][0]["segments"]:
        (out / "segments" / f"{each['key']}.safetensors").unlink()
    told.clear()
    assert digest(render(models, path, out, told).film) == digest(whole.made.film)
    assert {what for what, step, _ in told if step} == {
        f"walk, upscaling {number} of 3" for number in (1, 2, 3)
    }


def test_with_and_without_it_the_small_film_is_the_same(
    models: Models, whole: Whole, write_board: WriteBoard, tmp_path: Path
) -> None:
    shutil.copytree(whole.out / "segments", tmp_path / "out" / "segments")
    told: ProgressCalls = []
    made = render(models, write_board(), tmp_path / "out", told)
    assert not [what for what, _, steps in told if steps == STEPS], "nothing of it is made again"
    plain, large = (json.loads(each.record.read_text()) for each in (made, whole.made))
    assert plain["upscale"] is None
    assert "upscaled" not in plain["shots"][0]
    assert large["shots"][0]["segments"] == plain["shots"][0]["segments"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_size_comes_out_whole_and_even(scale: float) -> None:
    """So no storyboard can ask for half a pixel, nor for a side that H.264 cannot hold."""
    upscaler = Upscaler(scale=scale)
    for side in range(64, 4097, 16):
        target = Size(width=side, height=64).times(scale)
        assert (target.height, target.width) == upscaler.size(64, side)
        assert target.width % 2 == target.height % 2 == 0


# --- in a notebook -------------------------------------------------------------------------------


def test_a_notebook_shows_the_target_from_pictures_of_any_size(models: Models) -> None:
    still = (smooth_film(3, 1, 200, 300)[0, :, 0].permute(1, 2, 0).numpy() * 127 + 128).astype("u1")
    words: dict[str, Any] = {
        "prompt": "[0, 0.5] pan left; [0.5, 1] zoom in",
        "conditions": [Keyframe(image=still, frame=4)],
        "height": 64,
        "width": 80,
        "num_frames": 15,
    }
    latents = models.base(**words, output_type="latent").frames
    frames = upscale_shot(latents, models.sr, 1.5, **words).frames
    assert frames.shape == (1, 15, 96, 120, 3)
    assert 0 <= frames.min() < frames.max() <= 1
    own = Upscaler(scale=1.5, tile_latents=(8, 12), overlap_latents=4, strength=0.92)
    assert np.array_equal(upscale_shot(latents, models.sr, own, **words).frames, frames)
    without = upscale_shot(latents, models.sr, 1.5, **words | {"conditions": []}).frames
    assert not np.array_equal(without, frames)
    with pytest.raises(ValueError, match=r"transformer.in_channels = 12, .* has 16"):
        upscale_shot(latents, models.base, 1.5, **words)
    with pytest.raises(ValueError, match=r"conditions\[0\] reaches frame 4, past"):
        upscale_shot(latents, models.sr, 1.5, **words | {"num_frames": 4})


# --- the plan ------------------------------------------------------------------------------------


def test_the_plan_counts_what_the_model_is_asked(
    whole: Whole, tiny_ours: Path, tiny_sr: Path
) -> None:
    """Windows, tiles, steps and appended stills: every call of the SR model, and its tokens."""
    board, calls = load(whole.path), whole.calls
    model, sr = model_facts.Model.from_folder(tiny_ours), model_facts.Model.from_folder(tiny_sr)
    planned = plan_report.plan_report(board, {}, model, 1e9, sr=tiny_sr)
    (shot,) = planned["shots"]
    told = json.loads(whole.made.record.read_text())["shots"][0]["upscaled"]
    assert [(each["start"], each["stop"]) for each in shot["upscaled"]["segments"]] == [
        (each["start"], each["stop"]) for each in told
    ]
    upscale = planned["upscale"]
    assert upscale["size"] == [120, 96]
    assert len(calls) == len(told) * upscale["tiles"] * upscale["run_steps"]
    shape = _Shape.read(sr.config)
    tokens = [
        (call["hidden_states"].shape[2] + len(call.get("shared_frames", ())))
        * (call["hidden_states"].shape[3] // 2)
        * (call["hidden_states"].shape[4] // 2)
        for call in calls
    ]
    flops = sum(shape.flops(count, sr.text_tokens) for count in tokens)
    assert shot["upscaled"]["estimate"]["flops"] == flops
    assert planned["estimate"]["flops"] == flops + shot["estimate"]["flops"]
    both = model.weight_bytes + sr.weight_bytes
    assert planned["estimate"]["bytes"] > both, "a process keeps the two of them"


@given(
    strength=st.floats(0.2, 0.999) | st.just(1.0),
    steps=st.integers(4, 60),
    shift=st.sampled_from([1.0, 3.0, 5.0]),
)
def test_a_plan_knows_where_in_its_steps_refining_starts(
    strength: float, steps: int, shift: float
) -> None:
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    try:
        first, _ = start_step(scheduler, steps, strength)
    except ValueError:
        first = steps
    assert steps_below(strength, steps, shift) == steps - first
    assert steps_below(0.5, 8, 3.0) == 1, "0.501 is above it"


def run(*arguments: str | Path) -> Any:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(each) for each in arguments])


def test_plan_shows_the_large_films_windows(
    write_board: WriteBoard, tiny_ours: Path, tiny_sr: Path
) -> None:
    """And needs no torch for it."""
    code = (
        "import sys; from dreamontage.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    board = write_board(upscale=2.25)
    words = ("plan", board, "--weights", tiny_ours, "--sr", tiny_sr, "--tflops", "1")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=os.environ | {"COLUMNS": "120"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "walk at 180x144: about" in done.stdout
    assert "2–6" in done.stdout
    assert "Upscaled by 2.25: the last 6 of 8 steps at guidance 1, in 12 tiles" in done.stdout


# --- what cannot be ------------------------------------------------------------------------------


@pytest.fixture
def other(tiny_sr: Path, tmp_path: Path) -> Path:
    """The same super-resolution model on an autoencoder with other weights."""
    folder = tmp_path / "other"
    shutil.copytree(tiny_sr, folder)
    shutil.rmtree(folder / "vae")
    tiny_vae(seed=1).save_pretrained(folder / "vae")
    return folder


def test_errors_name_field_and_rule(
    write_board: WriteBoard,
    tiny_ours: Path,
    tiny_sr: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "dreamontage.cli.films.nano_sr_folder", lambda: None
    )  # whether it ships or not
    path = write_board(upscale=2)
    broken = tmp_path / "broken"
    shutil.copytree(tiny_sr, broken)
    index = json.loads((broken / "model_index.json").read_text())
    index["superres"] = {"tile_latents": [7, 12]}
    (broken / "model_index.json").write_text(json.dumps(index))
    for sr, rule in (
        (None, " needs a super-resolution model, and none is set: give its folder with --sr, or "),
        (tiny_ours, f": {tiny_ours} is no super-resolution model: transformer.in_channels = 12, "),
        (other, f": {other} is for another autoencoder than the model's own"),
        (tmp_path / "gone", f": {tmp_path / 'gone' / 'model_index.json'}: No such file"),
        (broken, ": overlap_latents = 16 must be at least 0 and less than a tile's shorter side"),
    ):
        given_ = [] if sr is None else ["--sr", sr]
        for command in ("plan", "render"):
            result = run(command, path, "--weights", tiny_ours, *given_)
            assert result.exit_code == 1
            assert result.stderr.startswith(f"upscale = 2{rule}"), result.stderr
            assert len(result.stderr.splitlines()) == 1
    assert run("plan", write_board("plain"), "--weights", tiny_ours).exit_code == 0


def test_all_errors_are_reported_at_once_before_any_work(
    models: Models, write_board: WriteBoard, tiny_ours: Path, other: Path, tmp_path: Path
) -> None:
    shots = [{"duration": {"frames": 4}, "loop": True}]
    path = write_board(shots=shots, upscale=2)
    odd = DreaMontagePipeline.from_pretrained(other)
    for sr, fields in (
        (None, ["shots[0].duration", "upscale"]),
        (odd, ["shots[0].duration", "upscale", "shots[0].duration"]),
    ):
        with pytest.raises(StoryboardError) as error:
            local.render(load(path), path.parent, tmp_path / "out", models.base, sr=sr, name="film")
        assert [field_error.field for field_error in error.value.errors] == fields
    assert not (tmp_path / "out").exists()
    told = [str(field_error) for field_error in folder_errors(load(path), tiny_ours, other)]
    assert told[1].startswith(
        "shots[0].duration = 4 frames, for the super-resolution model: too short for a loop"
    )


def test_an_autoencoder_is_the_same_wherever_its_model_was_trained(
    tiny_ours: Path, tiny_sr: Path, other: Path, tmp_path: Path
) -> None:
    """Training writes what it loaded anew, and from where it came into its config."""
    assert autoencoder_revision(tiny_ours) == autoencoder_revision(tiny_sr)
    assert autoencoder_revision(other) != autoencoder_revision(tiny_ours)
    shipped = Path("weights/nano")
    nano.save_frozen(tmp_path / "again", nano.load_frozen(shipped))
    config = json.loads((tmp_path / "again" / "vae" / "config.json").read_text())
    assert config["_name_or_path"] == str(shipped / "vae")
    assert autoencoder_revision(tmp_path / "again") == autoencoder_revision(shipped)
    config["latents_std"][0] += 0.1
    (tmp_path / "again" / "vae" / "config.json").write_text(json.dumps(config))
    assert autoencoder_revision(tmp_path / "again") != autoencoder_revision(shipped)


def test_a_command_renders_in_the_precision_of_its_device(
    write_board: WriteBoard, tiny_ours: Path, tiny_sr: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """As the farm does, with which it shares its keys; on a GPU that is half of the memory."""
    assert precision("cuda:1") == torch.bfloat16
    assert precision("cpu") == torch.float32
    monkeypatch.setattr("dreamontage.models.devices.machine_kind", lambda device: "cpu bfloat16")
    command = ["render", write_board(upscale=1.5), "-o", tmp_path / "out"]
    models = ["--weights", tiny_ours, "--sr", tiny_sr]
    done = CliRunner().invoke(app, [str(each) for each in (*command, *models)])
    assert done.exit_code == 0, done.output
    (record,) = (tmp_path / "out").glob("*.json")
    told = json.loads(record.read_text())
    assert {each["model"]["machine"] for each in (told, told["upscale"])} == {"cpu bfloat16"}
