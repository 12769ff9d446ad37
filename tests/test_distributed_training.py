"""Two processes on one CPU (gloo): equal bits after a resume, and no process holds all state."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dreamontage.training.loop import checkpoint
from dreamontage.training.loop.checkpoint import Stored
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.recipes import RECIPES
from dreamontage.training.runs import latest

ROOT = Path(__file__).parents[1]


def torchrun(*command: str | Path) -> None:
    """Run two processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", *command),
        ],
        check=True,
        cwd=ROOT,
        env=environment,
        timeout=300,
    )


def train_by_two(recipe: str, out: Path, *, init: Path, data: Path, steps: int) -> None:
    torchrun(
        *("-m", "dreamontage.training", recipe, "--out", out),
        *("--init", init, "--data", data, "--steps", str(steps)),
    )


def last_checkpoint(run: Path) -> Stored:
    found = checkpoint.find_latest(run / "checkpoints")
    assert found is not None
    return found


def tensors_of(stored: Stored, group: str) -> dict[str, torch.Tensor]:
    """A group's whole tensors."""
    read = {name: torch.empty(shape) for name, shape in stored.shapes(group).items()}
    stored.read_into({group: read})
    return read


@pytest.mark.parametrize(
    "recipe", ["wan_full_smoke", pytest.param("wan_lora_smoke", marks=pytest.mark.slow)]
)
def test_two_processes_train_and_resume(
    recipe: str, tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    """Sharded (FSDP2) or side by side: a run stopped and resumed is the whole run, to the bit."""
    train_by_two(recipe, tmp_path / "whole", init=tiny_i2v, data=tiny_clips, steps=4)
    train_by_two(recipe, tmp_path / "parts", init=tiny_i2v, data=tiny_clips, steps=2)
    train_by_two(recipe, tmp_path / "parts", init=tiny_i2v, data=tiny_clips, steps=4)
    whole, parts = (last_checkpoint(tmp_path / each) for each in ("whole", "parts"))
    for group in ("model", "optimiser"):
        one, other = tensors_of(whole, group), tensors_of(parts, group)
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]), (group, name)
    facts = json.loads((latest(tmp_path / "whole") / "training.json").read_text())
    assert (facts["step"], facts["examples"]) == (4, 8), "both processes' windows count"


_MEASURE = """
import json, sys
from pathlib import Path
import torch
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from dreamontage.training.loop import checkpoint
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.recipes import RECIPES


class Received(TorchDispatchMode):
    "Counts the numbers that this process gets from the other one."

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        if any(issubclass(each, DTensor) for each in types):
            return NotImplemented  # DTensor's own operations on shards are looked at instead
        found = op(*args, **(kwargs or {}))
        if "c10d" in op.namespace:
            # The plans of who writes what are bytes; weights and moments are floating.
            tensors = torch.utils._pytree.tree_leaves((found, args))
            self.count += sum(
                t.numel() for t in tensors if isinstance(t, torch.Tensor) and t.is_floating_point()
            )
        return found


out, init, data = map(Path, sys.argv[1:])
run = Trainer(RECIPES["wan_full_smoke"], out, init=init, data=data, steps=2)
run.train_step()
run.save()  # a step's scores are measured once: the next save only stores
received = {}
for name, act in (
    ("save", run.save),
    ("load", lambda: run.state.load(checkpoint.find_latest(out / "checkpoints"))),
    ("export", run.state.whole),
):
    with Received() as mode:
        act()
    received[name] = mode.count
(out / f"{run.accelerator.process_index}.json").write_text(json.dumps(received))
"""


def test_no_process_gathers_the_state_for_a_checkpoint(
    tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    """Of 14B weights all moments and weights would be 168 GB on one process."""
    script = tmp_path / "measure.py"
    script.write_text(_MEASURE)
    torchrun(script, tmp_path / "run", tiny_i2v, tiny_clips)
    stored = last_checkpoint(tmp_path / "run")
    weights = sum(shape.numel() for shape in stored.shapes("model").values())
    for rank in range(2):
        received = json.loads((tmp_path / "run" / f"{rank}.json").read_text())
        assert received["save"] == received["load"] == 0
        assert received["export"] >= weights, "what is counted is seen where all is gathered"
    sizes = [
        sum(t.numel() for t in load_file(file).values())
        for file in sorted(stored.folder.glob("shards/*"))
    ]
    assert len(sizes) == 2, "a file of each process"
    assert max(sizes) < 0.55 * sum(sizes), "each with its own half"
    assert sum(sizes) >= 3 * weights, "weights and two moments of each"


def test_a_run_of_two_processes_is_continued_by_one(
    tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    train_by_two("wan_full_smoke", tmp_path, init=tiny_i2v, data=tiny_clips, steps=1)
    stored = tensors_of(last_checkpoint(tmp_path), "model")
    run = Trainer(RECIPES["wan_full_smoke"], tmp_path, init=tiny_i2v, data=tiny_clips, steps=2)
    for name, value in run.state.whole().items():
        assert torch.equal(value, stored[name]), name
    run.run()
    assert run.step == 2


_BOTH_WAYS = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from torch.distributed.fsdp import FSDPModule
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.recipes import RECIPES

out, init, data = map(Path, sys.argv[1:4])
weights, losses = [], []
for fsdp in (False, True):
    bfloat16 = sys.argv[4] == "bfloat16"
    recipe = replace(RECIPES["wan_full_smoke"], fsdp=fsdp, bfloat16=bfloat16, ema=0.9)
    run = Trainer(recipe, out / str(fsdp), init=init, data=data, steps=3)
    assert isinstance(run.model, FSDPModule) == fsdp
    losses.append([float(run.train_step()) for _ in range(3)])
    run.save()
    losses[-1].append(run.objective.scores(run.model)["loss"])
    with run.state.averaged():
        weights.append(run.state.whole())
        losses[-1].append(run.objective.scores(run.model)["loss"])
if run.accelerator.is_main_process:
    torch.save((losses, weights), out / "made.pt")
"""


@pytest.mark.parametrize(
    ("precision", "near"),
    [("float32", 1e-5), pytest.param("bfloat16", 0.02, marks=pytest.mark.slow)],
)
def test_sharded_training_is_that_side_by_side(
    precision: str, near: float, tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    script = tmp_path / "both_ways.py"
    script.write_text(_BOTH_WAYS)
    torchrun(script, tmp_path, tiny_i2v, tiny_clips, precision)
    (replicated, sharded), (one, other) = torch.load(tmp_path / "made.pt")
    assert sharded == pytest.approx(replicated, rel=near)
    if precision == "float32":
        start = load_file(tiny_i2v / "transformer" / "diffusion_pytorch_model.safetensors")
        for name, value in one.items():
            assert torch.allclose(value, other[name], atol=1e-4), name
        moved = max(float((other[name] - value).abs().max()) for name, value in start.items())
        assert moved > 2e-3, "three steps of 1e-3"


_BY_THE_CLOCK = """
import sys, time
from dataclasses import replace
from pathlib import Path
import torch
from accelerate.state import PartialState
from dreamontage.training.loop.trainer import Trainer
from dreamontage.training.recipes import RECIPES

out, init, data = map(Path, sys.argv[1:])
rank = PartialState(cpu=True).process_index
clock = time.monotonic
time.monotonic = lambda: (1 + 3 * rank) * clock()
recipe = replace(RECIPES["wan_lora_smoke"], decay=1.0, checkpoint_minutes=0.03, device="cpu")
run = Trainer(recipe, out, init=init, data=data, minutes=0.1)
run.run()
weights = torch.cat([p.detach().flatten() for p in run.model.parameters() if p.requires_grad])
torch.save((run.step, weights), out / f"{rank}.pt")
"""


@pytest.mark.slow
def test_processes_with_different_clocks_store_and_end_together(
    tiny_i2v: Path, tiny_clips: Path, tmp_path: Path
) -> None:
    """The first process's clock says when the rate falls, when a checkpoint is due and when the
    run is over. The second process's clock is four times as fast."""
    script = tmp_path / "by_the_clock.py"
    script.write_text(_BY_THE_CLOCK)
    torchrun(script, tmp_path, tiny_i2v, tiny_clips)
    (steps, one), (steps_too, other) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert steps == steps_too > 1
    assert torch.equal(one, other), "one learning rate"
