"""A storyboard that asks for `upscale`, rendered in this process: its film, its record and
its cost.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from dreamontage import DreaMontagePipeline, Keyframe, media
from dreamontage.cli import app
from dreamontage.delivery import film
from dreamontage.models.devices import precision
from dreamontage.pipeline.sar import fuse
from dreamontage.pipeline.upscale import Upscaler, upscale_shot
from dreamontage.planning.cost import _Shape
from dreamontage.planning.segments import plan_shot
from dreamontage.rendering import local, model_facts, plan_report
from dreamontage.rendering.delivery import Deliverables
from dreamontage.sampling.conditioning.conditions import Clip
from dreamontage.storyboard import Size, Storyboard, load
from dreamontage.storyboard.types import SCALES
from tests.support.boards import WriteBoard, board_writer, prompt_of
from tests.support.upscale import recorded_calls, smooth_film

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
    models: Models, path: Path, out: Path, calls: ProgressCalls | None = None
) -> Deliverables:
    def progress(*step: Any) -> None:
        if calls is not None:
            calls.append(step)

    made, _ = local.render(
        load(path),
        path.parent,
        out,
        models.base,
        sr=models.sr,
        name="film",
        max_takes=1,
        progress=progress,
    )
    return made


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A storyboard rendered at 1.5 times its size, what was reported, and the model's calls."""

    path: Path
    out: Path
    made: Deliverables
    progress: ProgressCalls
    calls: list[dict[str, Any]]


@pytest.fixture(scope="module")
def whole(models: Models, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    path, progress = board_writer(folder / "board")(upscale=1.5), ProgressCalls()
    with recorded_calls(models.sr.transformer) as calls:
        made = render(models, path, folder / "out", progress)
    return Whole(path=path, out=folder / "out", made=made, progress=progress, calls=calls)


# --- the film ------------------------------------------------------------------------------------


def test_a_film_is_delivered_at_its_target_and_its_record_says_how(
    models: Models, whole: Whole
) -> None:
    """1.5 times 80x64 is 120x96, off the SR model's grid of 16; and equal to a notebook's calls."""
    path, made = whole.path, whole.made
    info = media.probe(made.film)
    assert (info.width, info.height, info.frames) == (120, 96, 33)
    assert [step for step in whole.progress if step[0] == "walk, upscaling 2 of 3"] == [
        ("walk, upscaling 2 of 3", step, SR_STEPS) for step in (0, *range(3, SR_STEPS + 1))
    ]
    record = json.loads(made.record.read_text())
    assert record["upscale"] == {
        "scale": 1.5,
        "size": [120, 96],
        "tile_latents": [8, 12],
        "overlap_latents": 4,
        "strength": 0.92,
        "shared_rope": True,
        "model": {
            "folder": "sr",
            "revision": models.sr.revision,
            "machine": "cpu float32",
            "speed": [],
        },
        "sampler": {"steps": SR_STEPS, "guidance": 1.0},
    }
    (shot,) = record["shots"]
    assert [(each["start"], each["stop"]) for each in shot["upscaled"]] == SR_WINDOWS
    for each in shot["conditions"]:
        assert each["made_by"] == {"fit": "crop", "width": 80, "height": 64}
        assert each["target"]["made_by"] == {"fit": "crop", "width": 120, "height": 96}
        assert each["target"]["rendition"] != each["rendition"]
    assert list(film.film_notes(load(path), [])) == ["upscaled: 80x64 times 1.5"]

    board, segments = load(path), whole.out / "segments"
    plan = plan_shot(
        frames=33,
        fps=board.fps,
        prompts=board.shots[0].prompts,
        conditions=[],
        seed=0,
        geometry=models.sr.geometry,
    )
    windows = [
        # Conditions move the borders; their place is asserted above.
        replace(segment, start=start, stop=stop)
        for segment, (start, stop) in zip(plan.segments, SR_WINDOWS, strict=True)
    ]
    found = [
        load_file(segments / f"{each['key']}.safetensors")["latents"] for each in shot["upscaled"]
    ]
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
        "prompt": prompt_of(shot.prompts),
        "height": board.size.height,
        "width": board.size.width,
        "num_frames": shot.frames(board.fps),
        "loop": shot.loop,
        "seed": board.shot_seed(0),
        "output_type": "latent",
    }
    small: Any = models.base(**words, conditions=conditions(board.size))
    larger = conditions(board.size.times(scale))
    refined: Any = upscale_shot(small.frames, models.sr, scale, **words, conditions=larger)
    latents: torch.Tensor = refined.frames
    return latents


def test_a_loop_is_enlarged_as_one(models: Models, write_board: WriteBoard, tmp_path: Path) -> None:
    stills = [{"image": "still0.png", "frame": 0}, {"image": "still1.png", "frame": 12}]
    shot = {"duration": {"frames": 32}, "keyframes": stills, "loop": True}
    path = write_board(shots=[shot], upscale=1.5)
    made = render(models, path, tmp_path / "out")
    info = media.probe(made.film)
    assert (info.width, info.height, info.frames) == (120, 96, 32)
    (shot,) = json.loads(made.record.read_text())["shots"]
    last = shot["upscaled"][-1]
    segments = tmp_path / "out" / "segments" / f"{last['key']}.safetensors"
    film = in_a_notebook(models, load(path), path.parent, 1.5)
    # What comes after latent 8 is the film's beginning again, and left away.
    inner = slice(last["start"] + last["tail"], 9)
    own = load_file(segments)["latents"][:, :, last["tail"] : 9 - last["start"]]
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
    progress: ProgressCalls = []
    again = render(models, path, out, progress)
    assert digest(again.film) == digest(whole.made.film)
    found = {what for what, step, steps in progress if steps == 1 and step == 1}
    rendered = {what for what, step, steps in progress if step and steps in (STEPS, SR_STEPS)}
    small = {f"walk, segment {number} of 3" for number in (1, 2, 3)}
    assert found == {"walk, upscaling 1 of 3"} | small
    assert rendered == {"walk, upscaling 2 of 3", "walk, upscaling 3 of 3"}

    # With all of the large film there, the small one is not rendered again.
    record = json.loads(again.record.read_text())
    for each in record["shots"][0]["segments"]:
        (out / "segments" / f"{each['key']}.safetensors").unlink()
    progress.clear()
    assert digest(render(models, path, out, progress).film) == digest(whole.made.film)
    assert not [call for call in progress if call[1] and call[2] > 1], "nothing is denoised"
    for each in record["shots"][0]["segments"]:
        assert not (out / "segments" / f"{each['key']}.safetensors").exists()


def test_with_and_without_it_the_small_film_is_the_same(
    models: Models, whole: Whole, write_board: WriteBoard, tmp_path: Path
) -> None:
    shutil.copytree(whole.out / "segments", tmp_path / "out" / "segments")
    progress: ProgressCalls = []
    made = render(models, write_board(), tmp_path / "out", progress)
    again = [what for what, step, steps in progress if step and steps == STEPS]
    assert not again, "nothing of it is made again"
    plain, large = (json.loads(each.record.read_text()) for each in (made, whole.made))
    assert plain["upscale"] is None
    assert plain["shots"][0]["upscaled"] is None
    assert large["shots"][0]["segments"] == plain["shots"][0]["segments"]


@pytest.mark.parametrize("scale", SCALES)
def test_every_size_comes_out_whole_and_even(scale: float) -> None:
    """So no storyboard can ask for half a pixel, nor for a side that H.264 cannot hold."""
    upscaler = Upscaler(scale=scale)
    for side in range(64, 4097, 16):
        target = Size(width=side, height=64).times(scale)
        assert (target.height, target.width) == upscaler.size(64, side)
        assert target.width % 2 == target.height % 2 == 0


# --- the plan ------------------------------------------------------------------------------------


def test_the_plan_counts_what_the_model_is_asked(
    whole: Whole, tiny_ours: Path, tiny_sr: Path
) -> None:
    """Windows, tiles, steps and appended stills: every call of the SR model, and its tokens."""
    board, calls = load(whole.path), whole.calls
    model, sr = model_facts.Model.from_folder(tiny_ours), model_facts.Model.from_folder(tiny_sr)
    planned = plan_report.plan_report(board, {}, model, 1e9, sr=tiny_sr)
    (shot,) = planned["shots"]
    recorded = json.loads(whole.made.record.read_text())["shots"][0]["upscaled"]
    assert [(each["start"], each["stop"]) for each in shot["upscaled"]["segments"]] == [
        (each["start"], each["stop"]) for each in recorded
    ]
    upscale = planned["upscale"]
    assert upscale["size"] == [120, 96]
    assert len(calls) == len(recorded) * upscale["tiles"] * upscale["run_steps"]
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
    small: Any = models.base(**words, output_type="latent")
    latents: torch.Tensor = small.frames
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


# --- from the command line ------------------------------------------------------------------------


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
    written = json.loads(record.read_text())
    assert {each["model"]["machine"] for each in (written, written["upscale"])} == {"cpu bfloat16"}
