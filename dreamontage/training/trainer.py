"""The training loop: everything that step n draws comes from a seed of n, so a resumed run is the
uninterrupted one, bit for bit (on one machine, with one number of threads).

Shapes: B windows, Z latent channels, L latent frames, H W latent height and width, S tokens,
D width.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamontage.models.text import embed
from dreamontage.seeds import derive
from dreamontage.timeline import TEMPORAL_STRIDE
from dreamontage.training import checkpoint, flow, nano, sheets, windows, worlds
from dreamontage.training.card import model_card


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of batch, drawn with chance proportional to `weight`. Height and width in pixels."""

    weight: float
    latents: int
    height: int
    width: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run, besides how long it goes on."""

    name: str
    shapes: Sequence[Shape]
    heads: int = 4
    layers: int = 5
    ffn: int = 768
    z_dim: int = 48
    codec_batches: int = 20
    learning_rate: float = 1e-3
    warmup: int = 200
    weight_decay: float = 0.01
    ema: float = 0.999
    uniform_times: float = 0.1
    tail: int = 2
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = False
    held_out: int = 6  # windows of each shape
    checkpoint_minutes: float = 5
    sheet_minutes: float = 10
    export_minutes: float = 10
    maturity: str | None = "smoke"


@dataclass(frozen=True, kw_only=True)
class _HeldOut:
    batch: windows.Windows
    prompts_BSD: Tensor
    times_B: Tensor
    noise_BZLHW: Tensor


def _hardware(device: str) -> str:
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return f"{torch.get_num_threads()} thread(s) of a shared CPU"


def draw_batch(
    recipe: Recipe,
    frozen: nano.Frozen,
    shape: Shape,
    *,
    seed: int,
    middle: bool,
    photos: Tensor | None,
) -> windows.Windows:
    """One batch of windows cut from clips that are longer than they are."""
    scenes = worlds.sample(
        derive(seed, "scenes"),
        shape.batch,
        frames=1 + TEMPORAL_STRIDE * (shape.latents + 5),
        height=shape.height,
        width=shape.width,
        device=recipe.device,
        photos_NCHW=photos,
    )
    return windows.draw(
        frozen.vae,
        scenes,
        latents=shape.latents,
        middle=middle,
        tail=recipe.tail,
        seed=derive(seed, "windows"),
    )


class Trainer:
    """A run in a folder: `checkpoints/`, `exports/` with `latest`, `sheets/` and `log.jsonl`.

    Made on a folder that holds a checkpoint, it goes on from there. `photos`, a bank of squares
    (N, 3, H, W) in [0, 1] to use as worlds beside the procedural ones, counts at the run's first
    start only: the run keeps a copy.
    """

    def __init__(self, recipe: Recipe, out: Path, *, photos: Tensor | None = None) -> None:
        self.recipe, self.out = recipe, out
        if not (out / "frozen").exists():
            checkpoint.write_folder(out / "frozen", lambda folder: self._begin(folder, photos))
        self.frozen = nano.load_frozen(out / "frozen").to(recipe.device)
        bank = out / "frozen" / "photos.safetensors"
        self.photos = load_file(bank)["photos"] if bank.exists() else None
        self.model = nano.build_transformer(
            z_dim=recipe.z_dim,
            heads=recipe.heads,
            layers=recipe.layers,
            ffn=recipe.ffn,
            seed=derive(recipe.seed, "model"),
        ).to(recipe.device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.learning_rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
        )
        self.ema = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.step, self.clips, self.seconds = 0, 0, 0.0
        self.held_out = [self._hold_out(i, shape) for i, shape in enumerate(recipe.shapes)]
        found = checkpoint.load_latest(out / "checkpoints")
        if found is None:
            self.untrained = self.held_out_loss()
        else:
            facts, tensors = found
            if facts["recipe"] != recipe.name:
                raise ValueError(f"{out} holds a run of {facts['recipe']}, not of {recipe.name}")
            self.model.load_state_dict(tensors["model"])
            self.ema = {name: value.to(recipe.device) for name, value in tensors["ema"].items()}
            checkpoint.restore_optimiser(self.optimiser, tensors["optimiser"])
            self.step, self.clips, self.seconds = facts["step"], facts["clips"], facts["seconds"]
            self.untrained = facts["untrained"]

    def _begin(self, folder: Path, photos: Tensor | None) -> None:
        """Make the parts that stay as they are. They are read back at every start, so that a
        resumed run has the same ones to the bit."""
        recipe = self.recipe
        made = nano.build_frozen(
            seed=recipe.seed,
            z_dim=recipe.z_dim,
            batches=recipe.codec_batches,
            device=recipe.device,
            photos=photos,
        )
        nano.save_frozen(folder, made)
        if photos is not None:
            save_file({"photos": photos.contiguous()}, folder / "photos.safetensors")

    def _hold_out(self, index: int, shape: Shape) -> _HeldOut:
        """Windows of worlds that no step trains on, with fixed times and noise."""
        recipe, seed = self.recipe, derive(self.recipe.seed, "held out", index)
        shape = Shape(
            weight=1,
            latents=shape.latents,
            height=shape.height,
            width=shape.width,
            batch=recipe.held_out,
        )
        batch = draw_batch(
            recipe, self.frozen, shape, seed=seed, middle=bool(index % 2), photos=self.photos
        )
        generator = torch.Generator(recipe.device).manual_seed(seed)
        return _HeldOut(
            batch=batch,
            prompts_BSD=embed(self.frozen.tokenizer, self.frozen.text_encoder, batch.prompts),
            times_B=torch.linspace(0.05, 0.98, shape.batch, device=recipe.device),
            noise_BZLHW=torch.randn(
                batch.latents_BZLHW.shape, generator=generator, device=recipe.device
            ),
        )

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Loss of the averaged weights on held-out windows, over times spread evenly."""
        live = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema)
        losses = [
            flow.velocity_loss(
                self.model, h.batch, h.prompts_BSD, times_B=h.times_B, noise_BZLHW=h.noise_BZLHW
            ).mean()
            for h in self.held_out
        ]
        self.model.load_state_dict(live)
        return float(torch.stack(losses).mean())

    def train_step(self) -> float:
        """One step; returns its loss."""
        recipe, seed = self.recipe, derive(self.recipe.seed, "step", self.step)
        rng = random.Random(seed)
        shape = rng.choices(recipe.shapes, [shape.weight for shape in recipe.shapes])[0]
        middle = rng.random() < 0.5
        batch = draw_batch(recipe, self.frozen, shape, seed=seed, middle=middle, photos=self.photos)
        prompts_BSD = embed(self.frozen.tokenizer, self.frozen.text_encoder, batch.prompts)
        generator = torch.Generator(recipe.device).manual_seed(derive(seed, "noise"))
        times_B = flow.draw_times(
            shape.batch, shift=nano.FLOW_SHIFT, uniform=recipe.uniform_times, generator=generator
        )
        noise_BZLHW = torch.randn(
            batch.latents_BZLHW.shape, generator=generator, device=recipe.device
        )
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.learning_rate * min(1.0, (self.step + 1) / recipe.warmup)
        self.model.train()
        with torch.autocast(recipe.device, torch.bfloat16, enabled=recipe.bfloat16):
            loss = flow.velocity_loss(
                self.model, batch, prompts_BSD, times_B=times_B, noise_BZLHW=noise_BZLHW
            ).mean()
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.clips += shape.batch
        decay = min(recipe.ema, self.step / (self.step + 10))
        for name, value in self.model.state_dict().items():
            self.ema[name].lerp_(value, 1 - decay)
        return float(loss.detach())

    def save(self) -> None:
        """Store a checkpoint of this step, and what it is worth in `log.jsonl`."""
        held_out = self.held_out_loss()
        with (self.out / "log.jsonl").open("a") as file:
            record = {"step": self.step, "clips": self.clips, "seconds": round(self.seconds)}
            file.write(json.dumps({**record, "held_out": held_out}) + "\n")
        print(f"\nheld-out loss {held_out:.4f}, untrained {self.untrained:.4f}", file=sys.stderr)
        checkpoint.save(
            self.out / "checkpoints",
            step=self.step,
            tensors={
                "model": self.model.state_dict(),
                "ema": self.ema,
                "optimiser": checkpoint.optimiser_tensors(self.optimiser),
            },
            facts={
                "recipe": self.recipe.name,
                "clips": self.clips,
                "seconds": self.seconds,
                "untrained": self.untrained,
            },
        )

    def averaged(self) -> Any:
        """A copy of the model with the averaged weights."""
        model = type(self.model).from_config(self.model.config)
        model.load_state_dict(self.ema)
        return model.eval()

    def export(self) -> Path:
        """Write the averaged weights as a model folder; `exports/latest` then points to it."""
        folder = self.out / "exports" / f"step-{self.step:09d}"
        facts = {
            "recipe": self.recipe.name,
            "step": self.step,
            "clips": self.clips,
            "training_seconds": round(self.seconds),
            "held_out_loss": round(self.held_out_loss(), 5),
            "held_out_loss_untrained": round(self.untrained, 5),
            "photos": "" if self.photos is None else f", and {len(self.photos)} photos moved alike",
            "hardware": _hardware(self.recipe.device),
            "z_dim": self.recipe.z_dim,
        }

        def fill(path: Path) -> None:
            model = self.averaged()
            card = model_card(
                facts,
                maturity=self.recipe.maturity,
                parameters=sum(p.numel() for p in model.parameters()),
            )
            nano.save_folder(path, self.frozen, model, maturity=self.recipe.maturity)
            (path / "README.md").write_text(card)
            (path / "training.json").write_text(json.dumps(facts, indent=1) + "\n")

        checkpoint.write_folder(folder, fill)
        link = folder.with_name("latest.new")
        link.unlink(missing_ok=True)
        link.symlink_to(folder.name)
        link.replace(folder.with_name("latest"))
        return folder

    def sheet(self) -> Path:
        """Draw held-out windows as the averaged model makes them, under the originals."""
        path = self.out / "sheets" / f"step-{self.step:09d}.png"
        sheets.draw(
            path,
            model=self.averaged().to(self.recipe.device),
            frozen=self.frozen,
            batches=[(h.batch, h.prompts_BSD) for h in self.held_out],
        )
        return path

    def run(self, *, minutes: float = math.inf, steps: int | None = None) -> None:
        """Train until `minutes` have passed or `steps` are done in all, then save and export."""
        start = last = time.monotonic()
        due = {"save": self.recipe.checkpoint_minutes, "sheet": self.recipe.sheet_minutes}
        due["export"] = self.recipe.export_minutes
        next_at = {name: start + 60 * every for name, every in due.items()}
        recent: list[float] = []
        told = start
        while time.monotonic() - start < 60 * minutes and (steps is None or self.step < steps):
            recent.append(self.train_step())
            now = time.monotonic()
            self.seconds += now - last
            last = now
            if now - told > (1 if sys.stderr.isatty() else 30):
                told = now
                self._tell(recent[-100:], left=60 * minutes - (now - start))
            for name, every in due.items():
                if now >= next_at[name]:
                    getattr(self, name)()
                    next_at[name] = time.monotonic() + 60 * every
                    last = time.monotonic()
        self.save()
        self.export()
        if self.recipe.sheet_minutes < math.inf:
            self.sheet()

    def _tell(self, losses: Sequence[float], *, left: float) -> None:
        mean = sum(losses) / len(losses)
        rate = self.clips / max(self.seconds, 1e-9)
        line = (
            f"{self.recipe.name}  step {self.step}  loss {mean:.4f}  {rate:.1f} windows/s  "
            f"{max(left, 0) / 60:.0f} min left"
        )
        live = sys.stderr.isatty()
        print(line, end="\r" if live else "\n", file=sys.stderr, flush=True)
