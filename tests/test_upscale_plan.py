"""The plan of a storyboard that asks for `upscale`, and how one that cannot be is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from diffusers import UniPCMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dreamontage import DreaMontagePipeline
from dreamontage.cli import app
from dreamontage.models.folder import autoencoder_revision
from dreamontage.pipeline.upscale.model import folder_errors
from dreamontage.planning.cost import steps_below
from dreamontage.rendering import local
from dreamontage.sampling.start import start_step
from dreamontage.storyboard import load
from dreamontage.storyboard.errors import StoryboardError
from dreamontage.training.objectives import nano
from tests.support.boards import WriteBoard
from tests.support.tiny import tiny_vae


def run(*arguments: str | Path) -> Any:
    return CliRunner(env={"COLUMNS": "120"}).invoke(app, [str(each) for each in arguments])


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
        given_: list[str | Path] = [] if sr is None else ["--sr", sr]
        for command in ("plan", "render"):
            result = run(command, path, "--weights", tiny_ours, *given_)
            assert result.exit_code == 1
            assert result.stderr.startswith(f"upscale = 2{rule}"), result.stderr
            assert len(result.stderr.splitlines()) == 1
    assert run("plan", write_board("plain"), "--weights", tiny_ours).exit_code == 0


def test_all_errors_are_reported_at_once_before_any_work(
    write_board: WriteBoard, tiny_ours: Path, other: Path, tmp_path: Path
) -> None:
    shots = [{"duration": {"frames": 4}, "loop": True}]
    path = write_board(shots=shots, upscale=2)
    base, odd = (DreaMontagePipeline.from_pretrained(each) for each in (tiny_ours, other))
    for sr, fields in (
        (None, ["shots[0].duration", "upscale"]),
        (odd, ["shots[0].duration", "upscale", "shots[0].duration"]),
    ):
        with pytest.raises(StoryboardError) as error:
            local.render(load(path), path.parent, tmp_path / "out", base, sr=sr, name="film")
        assert [field_error.field for field_error in error.value.errors] == fields
    assert not (tmp_path / "out").exists()
    messages = [str(each) for each in folder_errors(load(path), tiny_ours, other)]
    assert messages[1].startswith(
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
