"""The library's commands: what they print, how they fail, and that none of them needs torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dreamontage.cli import app
from tests.support.configs import SMALL_TRANSFORMER

BOARD = """
title: A walk
fps: 16
size: 128x64
seed: 3
shots:
  - name: sea
    duration: 10
    prompts: "[0, 5] zoom [in]; [5, 10] he walks"
    keyframes:
      - {image: a.png, at: 0}
      - {image: a.png, at: 10}
    clips:
      - {video: c.mp4, at: 4, in: 0.5}
  - {duration: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A storyboard with real files, two seconds of video among them."""
    Image.new("RGB", (64, 32), "red").save(tmp_path / "a.png")
    with av.open(tmp_path / "c.mp4", "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.width, stream.height = 64, 32
        for level in range(48):
            picture_HWC = np.full((32, 64, 3), level, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture_HWC, format="rgb24")))
        file.mux(stream.encode())
    (tmp_path / "board.yaml").write_text(BOARD)
    return tmp_path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    files: dict[str, dict[str, Any]] = {
        "model_index.json": {
            "_class_name": "DreaMontagePipeline",
            "window_latents": 9,
            "tail_latents": 2,
            "default_steps": 6,
        },
        "transformer/config.json": SMALL_TRANSFORMER,
        "vae/config.json": {"scale_factor_spatial": 8},
        "scheduler/scheduler_config.json": {"flow_shift": 3.0},
    }
    for name, content in files.items():
        path = tmp_path / "weights" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path / "weights"


def run(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(each) for each in arguments])


def test_validate_says_what_is_right(folder: Path) -> None:
    result = run("validate", folder / "board.yaml")
    assert result.output == "A walk: no faults; 128x64, shots: 2, seconds: 11.00\n"
    assert result.exit_code == 0


def test_validate_prints_every_error_on_its_line(folder: Path) -> None:
    text = BOARD.replace("at: 10}", "at: 12}").replace("in: 0.5", "in: 2.5")
    text = text.replace("{image: a.png, at: 0}", "{image: c.mp4, at: 0}")
    text = text.replace("{duration: 1}", "{duration: 1, name: a b, clips: [{video: a.png}]}")
    (folder / "board.yaml").write_text(text)
    result = run("validate", folder / "board.yaml")
    assert result.exit_code == 1
    assert result.stdout == ""
    # A name that cannot be read keeps no file from being opened.
    assert result.stderr.splitlines() == [
        "shots[0].clips[0].in = 2.5 s lies past the video's end, 2.0 s",
        "shots[0].keyframes[0].image = 'c.mp4' is of kind video; it must be of kind image",
        "shots[0].keyframes[1].at = 12.0 s lies past the shot's end, 10.0 s",
        "shots[1].clips[0] needs a place: `at`, in seconds, or `frame`",
        "shots[1].clips[0].video = 'a.png' is of kind image; it must be of kind video",
        "shots[1].name = 'a b' must be 1 to 64 letters, digits, dots, dashes and underscores, "
        "starting with a letter or digit: files are named for it",
    ]


def test_validate_reports_a_file_that_is_neither_picture_nor_film(folder: Path) -> None:
    (folder / "a.png").write_text("no picture")
    result = run("validate", folder / "board.yaml")
    assert result.exit_code == 1
    rule = "= 'a.png': neither an image nor a video that can be read"
    assert result.stderr.splitlines() == [
        f"shots[0].keyframes[{index}].image {rule}" for index in (0, 1)
    ]


def test_validate_checks_variants(folder: Path) -> None:
    matrix = folder / "matrix.yaml"
    matrix.write_text("axes: {size: {wide: {}, tall: {size: 64x128}}}")
    result = run("validate", folder / "board.yaml", "--variants", matrix)
    assert result.exit_code == 0
    assert result.output.splitlines()[2].startswith("A walk, tall: no faults; 64x128")
    matrix.write_text("axes: {n: {a: {size: 32x64}, b: {'shots[0].keyframes[0].image': c.mp4}}}")
    result = run("validate", folder / "board.yaml", "--variants", matrix)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "a: size.width = 32 must be at least 64\n"


def test_no_command_shows_a_traceback(folder: Path, weights: Path) -> None:
    for arguments in (
        ("validate", folder / "gone.yaml"),
        ("validate", folder),
        ("validate", folder / "c.mp4"),
        ("validate", folder / "board.yaml", "--variants", folder / "gone.yaml"),
        ("plan", folder / "gone.yaml", "--weights", weights),
        ("plan", folder / "board.yaml", "--weights", folder / "gone"),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1


def test_plan_prints_every_segment(folder: Path, weights: Path) -> None:
    result = run("plan", folder / "board.yaml", "--weights", weights, "--tflops", "1")
    assert result.exit_code == 0, result.output
    assert "sea: 160 frames, 41 latents" in result.output
    assert "shot-2: 16 frames, 5 latents" in result.output
    # The clip is cut at 1.5 s, 24 frames from 64 on; brackets are no markup.
    assert "64–87 c.mp4" in result.output
    assert "zoom [in]" in result.output
    assert "6 steps at guidance 5" in result.output
    # Segments are counted from one, as `status` and the progress of a render do.
    numbers = re.findall(r"^│ +(\d+) │", result.output, re.MULTILINE)
    assert numbers[0] == "1"
    assert numbers.count("1") == 3, "once a shot, and once for the coarse level of the first"
    assert "sea, coarse: one frame in 4, 41 frames" in result.output
    assert "refined in 1 of 6 steps" in " ".join(result.output.split())


def test_plan_says_how_a_loop_is_closed_and_rounded(folder: Path, weights: Path) -> None:
    text = BOARD.replace("fps: 16", "fps: 25").replace("{image: a.png, at: 10}", "")
    text = text.replace("      - \n", "").replace("duration: 10", "duration: 5\n    loop: true")
    text = text.replace("[0, 5] zoom [in]; [5, 10] he walks", "zoom in").replace("at: 4,", "at: 3,")
    (folder / "board.yaml").write_text(text)
    result = run("plan", folder / "board.yaml", "--weights", weights, "--tflops", "1")
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "sea: 124 frames, 32 latents" in said
    assert "Loops: 125 frames asked for, 124 shown: a loop has a multiple of four;" in said
    assert "given the film's first 3 latents" in said
    (folder / "board.yaml").write_text(text.replace("duration: 5", "duration: 0.6"))
    result = run("plan", folder / "board.yaml", "--weights", weights)
    assert "past the shot's end" in result.stderr
    shots = "[{duration: 0.6, loop: true}]"
    (folder / "board.yaml").write_text(f"title: t\nfps: 25\nsize: 128x64\nshots: {shots}\n")
    result = run("plan", folder / "board.yaml", "--weights", weights)
    assert result.stderr == (
        "shots[0].duration = 16 frames: too short for a loop with this model, which needs at "
        "least 20 frames\n"
    )


def test_plan_as_json(folder: Path, weights: Path) -> None:
    result = run("plan", folder / "board.yaml", "--json", "--weights", weights, "--tflops", "2")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    sea, second = report["shots"]
    assert [each["latents"] for each in sea["conditions"]] == [[0, 1], [40, 41], [16, 23]]
    assert [(each["start"], each["stop"]) for each in sea["segments"]] == [
        (0, 9), (7, 16), (14, 23), (21, 30), (28, 37), (35, 41),
    ]  # fmt: skip
    assert sea["segments"][2]["conditions"] == [2]
    assert sea["segments"][-1]["seconds"] == [8.5625, 10.0]
    assert second["padded_frames"] == 17
    cost = report["estimate"]
    levels = [*report["shots"], sea["coarse"]]
    assert cost["flops"] == sum(each["estimate"]["flops"] for each in levels)
    assert sea["coarse"]["stride"] == 4
    assert [each["frame"] for each in sea["coarse"]["conditions"]] == [0, 40, 16]
    assert [each["shown_frame"] for each in sea["coarse"]["conditions"]] == [0, 159, 64]
    assert (sea["run_steps"], second["run_steps"], second["coarse"]) == (1, 6, None)
    assert cost["seconds"] == pytest.approx(cost["flops"] / 2e12)
    again = run("plan", folder / "board.yaml", "--json", "--weights", weights, "--tflops", "2")
    assert again.stdout == result.stdout


def test_plan_reports_a_size_that_the_model_cannot_render(folder: Path, weights: Path) -> None:
    (weights / "vae/config.json").write_text('{"scale_factor_spatial": 32}')
    (folder / "board.yaml").write_text(BOARD.replace("128x64", "128x96"))
    result = run("plan", folder / "board.yaml", "--weights", weights)
    assert result.stderr == (
        "size.height = 96 must be a multiple of 64, which this model works in\n"
    )


def test_render_says_what_a_speed_option_does_before_it_renders(folder: Path) -> None:
    board = folder / "board.yaml"
    result = run(
        "render", board, "--weights", folder / "gone", "--speed", "step_cache: taylor_seer"
    )
    assert result.exit_code == 1
    assert result.stderr.startswith("step_cache = TaylorSeer(interval=5, warmup=3, order=1): ")
    assert "approximate; what a cache holds is not part of a stored state" in result.stderr
    result = run("render", board, "--speed", "attention: quick")
    assert result.stderr.startswith("--speed attention = 'quick' must be one of native, ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("device", ["cuda:99", "graphics"])
def test_a_missing_device_is_reported(folder: Path, device: str) -> None:
    for arguments in (
        ("render", folder / "board.yaml", "-o", folder / "out"),
        ("evaluate", "-o", folder / "out"),
        ("curate", folder, "-o", folder / "out"),
    ):
        result = CliRunner().invoke(app, [*map(str, arguments), "--device", device])
        # The command's own line of errors is `main`'s, for ValueError.
        message = (
            f"{result.exception}" if isinstance(result.exception, ValueError) else result.stderr
        )
        assert f"device = {device!r} " in message, arguments
        assert not (folder / "out").exists()


def test_a_log_has_a_line_of_all_that_is_done(folder: Path, tiny_ours: Path) -> None:
    text = BOARD.partition("    clips")[0].replace("duration: 10", "duration: 2")
    (folder / "board.yaml").write_text(text.replace("5, 10]", "1, 2]").replace("0, 5", "0, 1"))
    text = (folder / "board.yaml").read_text().replace("at: 10", "at: 2")
    (folder / "board.yaml").write_text(text)
    command = ("render", folder / "board.yaml", "--weights", tiny_ours, "-o", folder / "out")
    result = run(*command, "--takes", "1")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == [
        "loading the model",
        "taking in a.png",
        "sea, coarse segment 1 of 2",
        "sea, coarse segment 2 of 2",
        "sea, segment 1 of 3",
        "sea, segment 2 of 3",
        "sea, segment 3 of 3",
        "writing the film",
    ]


def test_a_strength_without_a_noise_level_is_an_error_of_its_field(
    folder: Path, tiny_ours: Path
) -> None:
    drafted = "duration: 1, draft: auto, strength: 0.01, keyframes: [{image: a.png, at: 0}]"
    (folder / "board.yaml").write_text(BOARD.replace("duration: 1}", f"{drafted}}}"))
    result = run("render", folder / "board.yaml", "--weights", tiny_ours, "-o", folder / "out")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "shots[1].strength = 0.01 is below the last noise level of 6 steps, 0.376: "
        "raise it, or the steps"
    ]


def test_schema_is_a_json_schema(folder: Path) -> None:
    result = run("schema")
    jsonschema.Draft202012Validator.check_schema(json.loads(result.stdout))


def test_neither_validating_nor_planning_imports_torch(folder: Path, weights: Path) -> None:
    code = (
        "import sys; from dreamontage.cli import app; from typer.testing import CliRunner\n"
        "for command in (['validate'], ['plan', '--weights', sys.argv[2]]):\n"
        "    result = CliRunner().invoke(app, [*command, sys.argv[1]])\n"
        "    assert result.exit_code == 0, result.output\n"
        "print(*{'torch', 'diffusers', 'transformers'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, folder / "board.yaml", weights],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == ""


def test_a_pipeline_that_is_not_known_is_refused_by_every_command(
    folder: Path, weights: Path
) -> None:
    index = weights / "model_index.json"
    index.write_text(index.read_text().replace("DreaMontagePipeline", "LTXPipeline"))
    for command in ("validate", "plan", "render"):
        result = run(command, folder / "board.yaml", "--weights", weights)
        assert result.exit_code == 1, command
        (line,) = result.stderr.splitlines()
        assert "model_index.json is of a LTXPipeline, which is not supported; the pip" in line
