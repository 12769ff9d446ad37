"""Recipes and chains by name: every stage, where they continue, and errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformerBlock
from safetensors.torch import load_file

from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.objectives import nano
from dreamontage.training.objectives.adaptive import WindowsObjective
from dreamontage.training.recipes import CHAINS, RECIPES
from dreamontage.training.runs import latest, train

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole chain, in some seconds a stage. Its blocks are compiled, as a GPU's are, but for
    the last step, which is the slow one: a process has to bear what all stages ask of the tracer.
    """
    out = tmp_path_factory.mktemp("smoke")
    chain = CHAINS["nano_smoke"]
    parts = tuple((replace(recipe, compiled=True), share) for recipe, share in chain.parts)
    traced = partialmethod(torch.nn.Module.compile, backend="eager")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # The tracer looks at every attribute of a tensor.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor")
        patch.setattr(WanTransformerBlock, "compile", traced)
        patch.setitem(CHAINS, chain.name, replace(chain, parts=parts))
        train("nano_smoke", out, minutes=0.1)
    return out


def test_a_chain_runs_every_stage(smoke: Path) -> None:
    stages = [recipe.name for recipe, _ in CHAINS["nano_smoke"].parts]
    assert stages == [
        f"nano_{stage}_smoke"
        for stage in ("base", "adaptive", "expression", "decoder", "superres", "preference")
    ]
    codecs = []
    for stage in stages:
        folder = latest(smoke / stage)
        facts = json.loads((folder / "training.json").read_text())
        assert facts["recipe"] == stage
        before = stages[: min(4, stages.index(stage))]  # the last two both start from the decoder's
        assert [run["recipe"] for run in facts["before"]] == before
        assert all(name in (folder / "README.md").read_text() for name in [*before, stage])
        assert list((smoke / stage / "sheets").glob("*.png"))
        codecs.append(load_file(folder / "vae" / WEIGHTS))
        assert not [path for path in folder.rglob("*.json") if str(smoke) in path.read_text()]
    first, *others = codecs
    for codec in others:
        assert all(torch.equal(first[name], codec[name]) for name in first), "one codec for all"
    finished = ["finish.leave.weight" in codec for codec in codecs]
    assert finished == [False, False, False, True, True, True]


def test_a_stopped_chain_continues(smoke: Path, tmp_path: Path) -> None:
    shutil.copytree(smoke, tmp_path / "run", symlinks=True)
    last = tmp_path / "run" / "nano_preference_smoke"
    shutil.rmtree(last)
    before = latest(tmp_path / "run" / "nano_superres_smoke").stat().st_mtime_ns
    assert train("nano_smoke", tmp_path / "run", minutes=0.05) == latest(last)
    assert latest(tmp_path / "run" / "nano_superres_smoke").stat().st_mtime_ns == before


def test_a_chain_continues_from_finished_weights(smoke: Path, tmp_path: Path) -> None:
    init = latest(smoke / "nano_expression_smoke")
    last = train("nano_longer_smoke", tmp_path, minutes=0.05, init=init)
    assert last == latest(tmp_path / "nano_preference_smoke")
    start, end = (load_file(folder / "vae" / WEIGHTS) for folder in (init, last))
    assert all(torch.equal(start[name], end[name]) for name in start), "its latents stay the same"


@pytest.mark.parametrize("stage", ["adaptive", "superres"])
def test_a_new_run_starts_from_exported_weights(smoke: Path, tmp_path: Path, stage: str) -> None:
    recipe = f"nano_{stage}_smoke"
    init = latest(smoke / recipe)
    run = Trainer(RECIPES[recipe], tmp_path, init=init, steps=1)
    exported = nano.load_transformer(init).state_dict()
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, exported[name]), name


def test_the_pairs_are_made_once_and_both_sorts(smoke: Path) -> None:
    held = load_file(smoke / "nano_preference_smoke" / "frozen" / "pairs.safetensors")
    assert len(held["winner"]) > 8
    assert not torch.equal(held["winner"], held["loser"])
    facts = json.loads((latest(smoke / "nano_preference_smoke") / "training.json").read_text())
    assert facts["untrained"]["loss"] == pytest.approx(0.6931, abs=1e-3), "ln 2 at first"


def test_an_unknown_recipe_and_a_chain_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recipe = 'nonsense' must be one of"):
        train("nonsense", tmp_path)
    with pytest.raises(ValueError, match="minutes are missing: nano_smoke is a chain"):
        train("nano_smoke", tmp_path)
    with pytest.raises(
        ValueError, match="init is missing: nano_longer_smoke continues from weights"
    ):
        train("nano_longer_smoke", tmp_path, minutes=1)
    with pytest.raises(ValueError, match="minutes = 0 must be more than 0"):
        train("nano_base_smoke", tmp_path, minutes=0)
    with pytest.raises(ValueError, match="steps = -1 must be more than 0"):
        train("nano_base_smoke", tmp_path, steps=-1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="here it would run")
@pytest.mark.parametrize("recipe", ["nano_base_h100", "nano_h100", "wan_14b_adaptive_8xh100"])
def test_a_recipe_for_a_gpu_is_not_run_on_a_cpu(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"h100' is for a GPU, and torch finds none here"):
        train(recipe, tmp_path, minutes=1)


def test_a_user_error_is_one_line_where_only_training_is_installed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreamontage.training", "--out", str(tmp_path)]
    for arguments, message in (
        (["nano_smoke"], "nano_smoke is a chain, and shares them"),
        (["nano_base_smoke", "--steps", "1", "--photos", str(tmp_path / "no")], "no such folder"),
    ):
        ended = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
        assert ended.returncode == 1
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr


def test_a_failure_while_training_is_no_user_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ValueError would be shown as one line, without the place where it was raised."""

    def fails(*_: object, **__: object) -> None:
        raise ValueError("from deep below")

    monkeypatch.setattr(WindowsObjective, "loss", fails)
    with pytest.raises(RuntimeError, match="nano_base_smoke failed at step 0: from deep") as raised:
        train("nano_base_smoke", tmp_path, steps=1)
    assert isinstance(raised.value.__cause__, ValueError)


def test_who_only_trains_needs_nothing_for_media_or_the_farm() -> None:
    """As docs/training.md says. On machines with a GPU we cannot always install packages."""
    absent = "av ffmpeg imageio_ffmpeg cv2 scenedetect typer rich prefect sqlalchemy minio"
    script = f"""
import sys
sys.modules.update(dict.fromkeys({absent.split()}))
import dreamontage.training.__main__
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)


def test_a_start_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        train("nano_base_smoke", tmp_path / "a", steps=1, init=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="init is missing: preferences need weights"):
        train("nano_preference_smoke", tmp_path / "b", steps=1)


def test_a_start_that_is_another_kind_of_model(smoke: Path, tiny_i2v: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no nano model; its autoencoder is AutoencoderKLWan"):
        train("nano_adaptive_smoke", tmp_path / "a", steps=1, init=tiny_i2v)
    larger = latest(smoke / "nano_superres_smoke")
    with pytest.raises(ValueError, match="its model takes 52 channels and not 36"):
        train("nano_adaptive_smoke", tmp_path / "b", steps=1, init=larger)
