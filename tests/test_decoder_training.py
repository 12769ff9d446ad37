"""Training of the codec's finish: it repairs the films of a model, and changes no latents."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamontage.models.codec import LinearCodec, frames_of, patches_of
from dreamontage.training.loop.recipe import Recipe, Setting
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.objectives import nano
from dreamontage.training.objectives.adaptive import Shape, Study
from dreamontage.training.objectives.decoder import DecoderObjective

SIZE = nano.Size(heads=1, layers=1, ffn=64, z_dim=12)
STUDY = Study(
    shapes=(Shape(weight=1, latents=3, height=32, width=48, batch=4),), size=SIZE, held_out=4
)


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of an untrained model: after its last steps some noise is left."""
    folder = tmp_path_factory.mktemp("init")
    frozen = nano.build_frozen(seed=0, z_dim=SIZE.z_dim, batches=2, size=32)
    nano.save_folder(folder, frozen, nano.build_transformer(SIZE), release_stage="smoke")
    return folder


def objective(folder: Path, init: Path | None) -> DecoderObjective:
    setting = Setting(folder=folder, device=torch.device("cpu"), seed=0, init=init)
    return DecoderObjective(setting, STUDY, width=16)


def test_the_frames_that_it_trains_on_are_the_codecs(tmp_path: Path, init: Path) -> None:
    made = objective(tmp_path, init)
    torch.nn.init.normal_(made.model.leave.weight, std=0.1)
    latents = made.held_out[0].latents_BZLHW
    raw = latents * torch.tensor(made.codec.config.latents_std)[:, None, None, None]
    with torch.no_grad():
        decoded = made.decoded(made.model, latents).clamp(-1, 1)
    assert torch.allclose(decoded, made.codec.decode(raw).sample[:, :, 1:], atol=1e-4)


def test_patches_are_put_back_where_they_were_taken() -> None:
    frames = torch.randn(2, 3, 4, 16, 24)
    values_NPhw = patches_of(frames)[:, 0].movedim(-1, 1)
    assert torch.equal(frames_of(values_NPhw), frames)


def test_a_run_mends_films_and_exports_the_model_with_a_finished_codec(
    tmp_path: Path, init: Path
) -> None:
    def build(setting: Setting) -> Any:
        return DecoderObjective(setting, STUDY, width=16)

    recipe = Recipe(
        name="tiny", build=build, learning_rate=5e-3, warmup=5, decay=0.5, muon=False, ema=0.9
    )
    run = Trainer(recipe, tmp_path / "run", init=init, steps=60)
    run.run()
    scores = run.scores()
    assert scores["loss"] < 0.95 * run.untrained["loss"]
    assert scores["psnr"] > run.untrained["psnr"]
    exported = tmp_path / "run" / "exports" / "latest"
    assert json.loads((exported / "training.json").read_text())["recipe"] == "tiny"
    before, after = LinearCodec.from_pretrained(init / "vae"), nano.load_frozen(exported).vae
    held = run.objective.held_out[0].latents_BZLHW  # type: ignore[attr-defined]
    assert torch.equal(after.with_finish(0).decode(held).sample, before.decode(held).sample)
    assert not torch.equal(after.decode(held).sample, before.decode(held).sample)
    weights = [nano.load_transformer(folder).state_dict() for folder in (init, exported)]
    assert all(torch.equal(weights[0][name].half(), weights[1][name].half()) for name in weights[0])
    again = Trainer(replace(recipe, name="more"), tmp_path / "more", init=exported, steps=1)
    assert again.untrained["loss"] == pytest.approx(scores["loss"], rel=0.2), (
        "it goes on from there"
    )


def test_without_a_model_that_films_there_is_nothing_to_finish(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the finish is trained on films of a model"):
        objective(tmp_path, None)
