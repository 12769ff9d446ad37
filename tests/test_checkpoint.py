"""Checkpoints of a run: what is in them, and that they appear whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch.distributed.checkpoint import state_dict_saver

from dreamontage.training.loop import checkpoint
from dreamontage.training.loop.trainer import Trainer
from tests.support.toy_training import toy_recipe

FIRST_FORMAT = Path(__file__).parent / "data" / "checkpoint-0.1"
"""What `toy_recipe` stored after two steps before checkpoints were sharded."""


def trained(out: Path, steps: int = 2) -> Trainer:
    run = Trainer(toy_recipe(), out, steps=9)
    for _ in range(steps):
        run.train_step()
    return run


def test_a_checkpoint_holds_safetensors_and_json_alone(tmp_path: Path) -> None:
    trained(tmp_path).save()
    (folder,) = (tmp_path / "checkpoints").iterdir()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert [path.relative_to(folder).as_posix() for path in files] == [
        "facts.json",
        "shards/shard-00001-model-00001-of-00001.safetensors",
    ]
    names = set(load_file(files[1]))
    assert {name.split("/")[0] for name in names} == {"model", "optimiser", "ema"}
    assert {"optimiser/head.weight|exp_avg", "optimiser/blocks.0.weight|momentum_buffer"} <= names


def test_what_was_stored_is_what_is_read(tmp_path: Path) -> None:
    stored = {"a": {"x": torch.randn(3, 5), "steps": torch.tensor(7.0)}, "b": {"x": torch.ones(2)}}
    checkpoint.save(tmp_path, step=5, tensors=stored, facts={"recipe": "toy"})
    found = checkpoint.find_latest(tmp_path)
    assert found is not None
    assert found.facts == {"step": 5, "recipe": "toy"}
    assert found.shapes("a") == {"x": (3, 5), "steps": ()}
    read = {
        group: {n: torch.zeros_like(t) for n, t in each.items()} for group, each in stored.items()
    }
    found.read_into(read)
    for group, each in stored.items():
        for name, value in each.items():
            assert torch.equal(read[group][name], value), (group, name)


def test_files_stay_small_where_there_is_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is built in memory before it is written."""
    monkeypatch.setattr(checkpoint, "FILE_BYTES", 400)
    tensors = {"model": {f"{n}": torch.full((50,), float(n)) for n in range(5)}}
    checkpoint.save(tmp_path, step=1, tensors=tensors, facts={})
    found = checkpoint.find_latest(tmp_path)
    assert found is not None
    assert [len(load_file(file)) for file in sorted(found.folder.glob("shards/*"))] == [2, 2, 1]
    read = {"model": {name: torch.zeros(50) for name in tensors["model"]}}
    found.read_into(read)
    assert all(torch.equal(read["model"][name], t) for name, t in tensors["model"].items())


def test_checkpoints_of_the_first_format_are_resumed(tmp_path: Path) -> None:
    """One file a group, as all runs stored before checkpoints were sharded."""
    shutil.copytree(FIRST_FORMAT, tmp_path / "checkpoints")
    old = tmp_path / "checkpoints" / "checkpoint-000000002"
    facts = json.loads((old / "facts.json").read_text())
    model, averaged, moments = (
        load_file(old / f"{name}.safetensors") for name in ("model", "ema", "optimiser")
    )
    run = Trainer(toy_recipe(), tmp_path, steps=3)
    assert (run.step, run.examples, run.untrained) == (2, 6, facts["untrained"])
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, model[name]), name
    with run.state.averaged():
        for name, value in run.state.whole().items():
            assert torch.equal(value, averaged[name]), name
    run.save()  # over the old one
    (new,) = (tmp_path / "checkpoints").glob("checkpoint-*/shards/*")
    for name, value in load_file(new).items():
        if name.startswith("optimiser/"):
            assert torch.equal(value, moments[name.removeprefix("optimiser/")]), name
    run.run()
    assert (run.step, run.examples) == (3, 9)


def test_a_checkpoint_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(tmp_path)
    run.save()
    run.train_step()
    write = state_dict_saver.save

    def fail(*args: object, **more: object) -> None:
        write(*args, **more)  # the shards are there, and their names are not
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(state_dict_saver, "save", fail)
        with pytest.raises(OSError, match="no space"):
            run.save()
    assert Trainer(toy_recipe(), tmp_path, steps=9).step == 2
    run.save()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["checkpoint-000000002", "checkpoint-000000003"], "no rest of the failed one"
    with safe_open(next(tmp_path.glob("checkpoints/*3/shards/*")), framework="pt") as file:
        assert "DCP_SHARDING_INFO" in file.metadata(), "offsets are in the header, as JSON"
