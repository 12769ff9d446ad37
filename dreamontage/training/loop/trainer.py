"""The training loop.

All random draws of step n come from a seed of n. So a resumed run gives the same bits as an
uninterrupted one: on one machine, with one number of threads, run by steps and not by the clock.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamontage.files import write_folder
from dreamontage.training.loop import checkpoint, sheets
from dreamontage.training.loop.prefetch import Draws, batches
from dreamontage.training.loop.recipe import Recipe, Setting
from dreamontage.training.loop.setup import hardware_name, make_accelerator, prepare
from dreamontage.training.loop.state import TrainingState

_EXPORTS = 2  # how many stay on disk
_HISTORY = ("recipe", "step", "examples", "training_seconds", "hardware")


def _history(init: Path | None) -> list[dict[str, Any]]:
    """The runs behind the folder to start from, in order, as far as its `training.json` says."""
    path = init / "training.json" if init is not None else None
    if path is None or not path.is_file():
        return []
    facts = json.loads(path.read_text())
    return [*facts.get("before", []), {name: facts[name] for name in _HISTORY if name in facts}]


class Trainer:
    """A run in a folder: `checkpoints/`, `exports/` with `latest`, `sheets/` and `log.jsonl`.

    On a folder that holds a checkpoint, the run continues from it. Under `torchrun` every process
    makes a trainer. They share the batch. Each writes its own part of a checkpoint, and the first
    one writes everything else.

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
        self.accelerator = make_accelerator(recipe)
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
        self.model, optimisers = prepare(recipe, setting, self.objective.model, self.accelerator)
        self.state = TrainingState(self.model, optimisers, ema=recipe.ema)
        self.step, self.examples, self.seconds = 0, 0, 0.0
        self.before = _history(init)
        self._began: float | None = None
        self._measured: tuple[int, dict[str, float]] | None = None
        stored = checkpoint.find_latest(out / "checkpoints")
        if stored is not None:
            self._restore(stored)
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
            prefetch=recipe.prefetch,
            device=self.accelerator.device,
        )
        if stored is None:
            self.untrained = self.scores()

    def _restore(self, stored: checkpoint.Stored) -> None:
        facts = stored.facts
        if facts["recipe"] != self.recipe.name:
            raise ValueError(
                f"{self.out} holds a run of {facts['recipe']}, not of {self.recipe.name}"
            )
        if not self.state.fits(stored):
            raise ValueError(
                f"{self.out} holds a run of a model of another shape; if it was begun with --init, "
                "that folder must be named again"
            )
        self.state.load(stored)
        self.step, self.examples = facts["step"], facts["examples"]
        self.seconds, self.untrained = facts["seconds"], facts["untrained"]
        self.before = facts["before"]

    @torch.no_grad()
    def scores(self) -> dict[str, float]:
        """The averaged model's scores; measured once a step."""
        if self._measured is None or self._measured[0] != self.step:
            self.model.eval()
            with self.state.averaged():
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
        """The clock of the first process, for all of them.

        At one step all processes must have one learning rate, and must end, store and export
        together. Otherwise each would wait for the others for ever.
        """
        now = time.monotonic()
        if self.accelerator.num_processes == 1:
            return now
        shared = torch.tensor(now, dtype=torch.float64, device=self.accelerator.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared)

    def learning_rate(self, progress: float) -> float:
        """Warm-up by steps, and a fall to zero over the last part of the run."""
        recipe = self.recipe
        rise = min(1.0, (self.step + 1) / recipe.warmup)
        fall = min(1.0, (1 - progress) / recipe.decay) if recipe.decay else 1.0
        return recipe.learning_rate * rise * fall

    def train_step(self) -> Tensor:
        """One step. Returns its loss, still on the device, so that nothing waits for it."""
        progress = self.progress()
        self.draws.progress = progress
        batch = next(self._batches)
        self.state.set_rate(self.learning_rate(progress))
        self.model.train()
        seed = self.draws.seed_of(self.step)
        loss, count = self.objective.loss(self.model, batch, seed=seed)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        self.state.update()
        self.step += 1
        self.examples += count * self.accelerator.num_processes
        return loss.detach()

    def save(self) -> None:
        """Store a checkpoint of this step, and its scores in `log.jsonl`."""
        scores = self.scores()
        facts = {
            "recipe": self.recipe.name,
            "examples": self.examples,
            "seconds": self.seconds,
            "untrained": self.untrained,
            "before": self.before,
        }
        self.state.save(self.out / "checkpoints", step=self.step, facts=facts)
        if self.accelerator.is_main_process:
            record = {"step": self.step, "examples": self.examples, "seconds": round(self.seconds)}
            with (self.out / "log.jsonl").open("a") as file:
                file.write(json.dumps(record | scores) + "\n")
            shown = ", ".join(
                f"{name} {value:.4f} (untrained {self.untrained.get(name, math.nan):.4f})"
                for name, value in scores.items()
            )
            # On a terminal, the progress line must not be overwritten.
            above = "\n" if sys.stderr.isatty() else ""
            print(
                f"{above}{self.recipe.name} step {self.step}: {shown}", file=sys.stderr, flush=True
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
            "hardware": hardware_name(self.accelerator.device, self.accelerator.num_processes),
            "scores": {name: round(value, 5) for name, value in self.scores().items()},
            "untrained": {name: round(value, 5) for name, value in self.untrained.items()},
            "before": self.before,
        }
        with self.state.averaged():
            weights = self.state.whole()
            if self.accelerator.is_main_process:

                def fill(path: Path) -> None:
                    self.objective.export(weights, path, facts)
                    (path / "training.json").write_text(json.dumps(facts, indent=1) + "\n")

                write_folder(folder, fill)
                link = folder.with_name("latest.new")
                link.unlink(missing_ok=True)
                link.symlink_to(folder.name)
                link.replace(folder.with_name("latest"))
                for old in sorted(folder.parent.glob("step-*"))[:-_EXPORTS]:
                    shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        return folder

    def sheet(self) -> None:
        """Draw held-out examples as the averaged model makes them, under the originals.

        Nothing is drawn for an objective that has no films to show.
        """
        self.model.eval()
        with self.state.averaged():
            groups = self.objective.films(self.model)
        if groups and self.accelerator.is_main_process:
            sheets.draw(self.out / "sheets" / f"step-{self.step:09d}.png", groups)

    def run(self) -> None:
        """Train until the minutes have passed or the steps are done, then save and export."""
        start = last = shown = self._now()
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
            if now - shown > (1 if sys.stderr.isatty() else 10):
                shown = now
                rate = (self.examples - began) / (now - start)
                self._print_progress(float(loss), rate, left=60 * self.minutes - (now - start))
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

    def _print_progress(self, loss: float, rate: float, *, left: float) -> None:
        if not self.accelerator.is_main_process:
            return
        line = f"{self.recipe.name}  step {self.step}  loss {loss:.4f}  {rate:.1f} examples/s"
        if left < math.inf:
            line += f"  {max(left, 0) / 60:.1f} min left"
        live = sys.stderr.isatty()
        print(line, end="\r" if live else "\n", file=sys.stderr, flush=True)
