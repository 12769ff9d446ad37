"""The training loop: everything that step n draws comes from a seed of n, so a resumed run is the
uninterrupted one, bit for bit (on one machine, with one number of threads, run by steps and not by
the clock).
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import InitProcessGroupKwargs
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy

from dreamontage.training import checkpoint, sheets
from dreamontage.training.feed import Draws, batches
from dreamontage.training.muon import Muon
from dreamontage.training.recipe import Recipe, Setting

_EXPORTS = 2  # how many are kept
_TOLD = ("recipe", "step", "examples", "training_seconds", "hardware")
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_LOAD = StateDictOptions(full_state_dict=True, strict=False, ignore_frozen_params=True)


def _hardware(device: torch.device, processes: int) -> str:
    if device.type == "cuda":
        name = str(torch.cuda.get_device_name())
        return name if processes == 1 else f"{processes} x {name}"
    return f"{torch.get_num_threads()} thread(s) of a shared CPU"


def _history(init: Path | None) -> list[dict[str, Any]]:
    """The runs behind the folder to start from, in order, as far as it tells."""
    path = init / "training.json" if init is not None else None
    if path is None or not path.is_file():
        return []
    facts = json.loads(path.read_text())
    return [*facts.get("before", []), {name: facts[name] for name in _TOLD if name in facts}]


def _accelerator(recipe: Recipe) -> Accelerator:
    if recipe.device == "cuda" and not torch.cuda.is_available():
        # accelerate would take the CPU without a word, for a run of days.
        raise ValueError(f"recipe = {recipe.name!r} is for a GPU, and torch finds none here")
    plugin = None
    if recipe.fsdp:
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            # Inputs stay as they are: timesteps and rotary positions must not be rounded.
            mixed_precision_policy=MixedPrecisionPolicy(
                param_dtype=torch.bfloat16 if recipe.bfloat16 else None,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
            ),
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["WanTransformerBlock"],
            reshard_after_forward=True,
        )
    return Accelerator(
        cpu=recipe.device == "cpu",
        mixed_precision="bf16" if recipe.bfloat16 else "no",
        fsdp_plugin=plugin,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=1))],
    )


def _optimisers(recipe: Recipe, model: Any, *, fused: bool) -> list[Any]:
    """AdamW, and by the recipe's wish Muon for the blocks' matrices, at the same rate."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [
        name for name, p in trained.items() if recipe.muon and "blocks." in name and p.ndim == 2
    ]
    found: list[Any] = [
        torch.optim.AdamW(
            [p for name, p in trained.items() if name not in matrices],
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
            fused=fused,
        )
    ]
    if matrices:
        found.append(
            Muon(
                [trained[name] for name in matrices],
                lr=recipe.learning_rate,
                weight_decay=recipe.weight_decay,
            )
        )
    return found


class Trainer:
    """A run in a folder: `checkpoints/`, `exports/` with `latest`, `sheets/` and `log.jsonl`.

    Made on a folder that holds a checkpoint, it goes on from there. Under `torchrun` every process
    makes one; they share the batch, and the first of them writes.

    Args:
        minutes, steps: when the run ends; steps count from its first start.

    Raises:
        ValueError: for a folder that holds a run of another recipe, a recipe for a GPU where there
            is none, and as the recipe's objective.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        *,
        init: Path | None = None,
        photos: Tensor | None = None,
        data: Path | None = None,
        minutes: float = math.inf,
        steps: float = math.inf,
    ) -> None:
        self.recipe, self.out = recipe, out
        self.minutes, self.steps = minutes, steps
        self.accelerator = _accelerator(recipe)
        setting = Setting(
            folder=out,
            device=self.accelerator.device,
            seed=recipe.seed,
            init=init,
            photos_NCHW=photos,
            data=data,
            bfloat16=recipe.bfloat16,
            compiled=recipe.compiled,
        )
        with self.accelerator.main_process_first():
            self.objective = recipe.build(setting)
        model = setting.dress(self.objective.model)
        fused = self.accelerator.device.type == "cuda"
        self.model, *self.optimisers = self.accelerator.prepare(
            model, *_optimisers(recipe, model, fused=fused)
        )
        self.ema = EMAModel(self._trained(), decay=recipe.ema, foreach=True) if recipe.ema else None
        self.step, self.examples, self.seconds = 0, 0, 0.0
        self.before = _history(init)
        self._began: float | None = None
        self._measured: tuple[int, dict[str, float]] | None = None
        found = checkpoint.load_latest(out / "checkpoints")
        if found is not None:
            self._restore(*found)
        self.draws = Draws(
            self.objective.source,
            seed=recipe.seed,
            rank=self.accelerator.process_index,
            steps=steps,
            block=recipe.block,
            pool=recipe.pool,
            uses=recipe.uses,
        )
        self._batches = batches(
            self.draws,
            first=self.step,
            ahead=recipe.ahead,
            device=self.accelerator.device,
        )
        if found is None:
            self.untrained = self._scores()

    def _trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.model.parameters() if p.requires_grad]

    def _restore(self, facts: dict[str, Any], tensors: dict[str, dict[str, Tensor]]) -> None:
        if facts["recipe"] != self.recipe.name:
            raise ValueError(
                f"{self.out} holds a run of {facts['recipe']}, not of {self.recipe.name}"
            )
        shapes = StateDictOptions(ignore_frozen_params=True)
        wanted: dict[str, Any] = get_model_state_dict(self.model, options=shapes)
        stored = tensors["model"]
        if {name: v.shape for name, v in wanted.items()} != {n: v.shape for n, v in stored.items()}:
            raise ValueError(
                f"{self.out} holds a run of a model of another shape; if it was begun with --init, "
                "that folder must be named again"
            )
        set_model_state_dict(self.model, dict(stored), options=_LOAD)
        optimisers = [each.optimizer for each in self.optimisers]
        # What is stored are moments; rates and the like are the recipe's own.
        groups = get_optimizer_state_dict(self.model, optimisers)["param_groups"]
        state: Any = {"state": checkpoint.nested(tensors["optimiser"]), "param_groups": groups}
        set_optimizer_state_dict(
            self.model,
            optimisers,
            optim_state_dict=state,
            options=StateDictOptions(full_state_dict=True),
        )
        if self.ema is not None:
            self.ema.optimization_step = facts["step"]
            with self._averaged(swap_back=False):
                set_model_state_dict(self.model, dict(tensors["ema"]), options=_LOAD)
        self.step, self.examples = facts["step"], facts["examples"]
        self.seconds, self.untrained = facts["seconds"], facts["untrained"]
        self.before = facts["before"]

    def _state(self, *, frozen: bool = False) -> dict[str, Tensor]:
        """A copy of the model's whole state on the CPU; what is not trained only if `frozen`."""
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=not frozen
        )
        state: dict[str, Any] = get_model_state_dict(self.model, options=options)
        return {name: value.clone() for name, value in state.items()}

    @contextmanager
    def _averaged(self, *, swap_back: bool = True) -> Iterator[None]:
        """The model holds the averaged weights inside; outside it is as it was.

        Without `swap_back`, what the model holds when it ends becomes the averaged weights.
        """
        if self.ema is None:
            yield
            return
        parameters = self._trained()
        self.ema.store(parameters)
        self.ema.copy_to(parameters)
        yield
        if not swap_back:
            for shadow, parameter in zip(self.ema.shadow_params, parameters, strict=True):
                shadow.data.copy_(parameter.data)
        self.ema.restore(parameters)

    @torch.no_grad()
    def _scores(self) -> dict[str, float]:
        """The averaged model's scores; measured once a step."""
        if self._measured is None or self._measured[0] != self.step:
            self.model.eval()
            with self._averaged():
                self._measured = self.step, self.objective.scores(self.model)
        return self._measured[1]

    def progress(self) -> float:
        """The part of the run that is over: of its steps, or of its minutes since its start."""
        if self.minutes == math.inf:
            return self.step / self.steps
        now = self._now()
        self._began = now if self._began is None else self._began
        return max(self.step / self.steps, (now - self._began) / (60 * self.minutes))

    def _now(self) -> float:
        """The clock of the first process, for all of them: at one step they must have one learning
        rate, and end, store and export together, or each would wait for the others for ever."""
        now = time.monotonic()
        if self.accelerator.num_processes == 1:
            return now
        shared = torch.tensor(now, dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared)

    def _rate(self, progress: float) -> float:
        """The learning rate: warm-up by steps, and a fall to nothing over the run's last part."""
        recipe = self.recipe
        rise = min(1.0, (self.step + 1) / recipe.warmup)
        fall = min(1.0, (1 - progress) / recipe.decay) if recipe.decay else 1.0
        return recipe.learning_rate * rise * fall

    def train_step(self) -> Tensor:
        """One step; returns its loss, still on the device: nobody waits for it."""
        progress = self.progress()
        self.draws.progress = progress
        batch = next(self._batches)
        for group in (group for each in self.optimisers for group in each.param_groups):
            group["lr"] = self._rate(progress)
        self.model.train()
        seed = self.draws.seed_of(self.step)
        loss, count = self.objective.loss(self.model, batch, seed=seed)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad()
        if self.ema is not None:
            self.ema.step(self._trained())
        self.step += 1
        self.examples += count * self.accelerator.num_processes
        return loss.detach()

    def save(self) -> None:
        """Store a checkpoint of this step, and what it is worth in `log.jsonl`."""
        scores = self._scores()
        optimisers = [each.optimizer for each in self.optimisers]
        state: Any = get_optimizer_state_dict(self.model, optimisers, options=_WHOLE)
        tensors = {"model": self._state(), "optimiser": checkpoint.flat(state.get("state", {}))}
        if self.ema is not None:
            with self._averaged():
                tensors["ema"] = self._state()
        if self.accelerator.is_main_process:
            facts = {
                "recipe": self.recipe.name,
                "examples": self.examples,
                "seconds": self.seconds,
                "untrained": self.untrained,
                "before": self.before,
            }
            checkpoint.save(self.out / "checkpoints", step=self.step, tensors=tensors, facts=facts)
            with (self.out / "log.jsonl").open("a") as file:
                record = {"step": self.step, "examples": self.examples}
                record |= {"seconds": round(self.seconds)}
                file.write(json.dumps(record | scores) + "\n")
            told = ", ".join(
                f"{name} {value:.4f} (untrained {self.untrained.get(name, math.nan):.4f})"
                for name, value in scores.items()
            )
            # Below the line that stands on a terminal.
            above = "\n" if sys.stderr.isatty() else ""
            print(
                f"{above}{self.recipe.name} step {self.step}: {told}", file=sys.stderr, flush=True
            )
        self.accelerator.wait_for_everyone()

    def export(self) -> Path:
        """Write the averaged weights as a model folder; `exports/latest` then points to it."""
        folder = self.out / "exports" / f"step-{self.step:09d}"
        facts = {
            "recipe": self.recipe.name,
            "step": self.step,
            "examples": self.examples,
            "training_seconds": round(self.seconds),
            "hardware": _hardware(self.accelerator.device, self.accelerator.num_processes),
            "scores": {name: round(value, 5) for name, value in self._scores().items()},
            "untrained": {name: round(value, 5) for name, value in self.untrained.items()},
            "before": self.before,
        }
        with self._averaged():
            state = self._state(frozen=True)
            if self.accelerator.is_main_process:

                def fill(path: Path) -> None:
                    self.objective.export(state, path, facts)
                    (path / "training.json").write_text(json.dumps(facts, indent=1) + "\n")

                checkpoint.write_folder(folder, fill)
                link = folder.with_name("latest.new")
                link.unlink(missing_ok=True)
                link.symlink_to(folder.name)
                link.replace(folder.with_name("latest"))
                for old in sorted(folder.parent.glob("step-*"))[:-_EXPORTS]:
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        return folder

    def sheet(self) -> None:
        """Draw held-out examples as the averaged model makes them, under the originals; nothing for
        an objective that has none to show."""
        self.model.eval()
        with self._averaged():
            groups = self.objective.films(self.model)
        if groups and self.accelerator.is_main_process:
            sheets.draw(self.out / "sheets" / f"step-{self.step:09d}.png", groups)

    def run(self) -> None:
        """Train until the minutes have passed or the steps are done, then save and export."""
        start = last = told = self._now()
        due = {
            "save": self.recipe.checkpoint_minutes,
            "sheet": self.recipe.sheet_minutes,
            "export": self.recipe.export_minutes,
        }
        next_at = {name: start + 60 * every for name, every in due.items()}
        began = self.examples
        while self.progress() < 1:
            loss = self.train_step()
            now = self._now()
            self.seconds += now - last
            last = now
            if now - told > (1 if sys.stderr.isatty() else 10):
                told = now
                rate = (self.examples - began) / (now - start)
                self._tell(float(loss), rate, left=60 * self.minutes - (now - start))
            for name, every in due.items():
                if now >= next_at[name]:
                    getattr(self, name)()
                    last = self._now()
                    next_at[name] = last + 60 * every
        self._batches.close()
        self.save()
        self.export()
        if self.recipe.sheet_minutes < math.inf:
            self.sheet()

    def _tell(self, loss: float, rate: float, *, left: float) -> None:
        if not self.accelerator.is_main_process:
            return
        line = f"{self.recipe.name}  step {self.step}  loss {loss:.4f}  {rate:.1f} examples/s"
        if left < math.inf:
            line += f"  {max(left, 0) / 60:.1f} min left"
        live = sys.stderr.isatty()
        print(line, end="\r" if live else "\n", file=sys.stderr, flush=True)
