"""Films by models: whole, piece by piece, through the super-resolution stage, and untrained.

Windows go through the DiT one at a time: on CPUs two at once are no faster (EXPERIMENTS.md), and a
film is then stored as soon as it is made.

Shapes: T frames, H W height and width, C = 3 colours (uint8), L latents.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from dreamontage import DreaMontagePipeline
from dreamontage.evaluation import names
from dreamontage.evaluation.material import FPS, Pixels
from dreamontage.evaluation.methods import source_revision
from dreamontage.evaluation.tasks import Task
from dreamontage.models import autoencoder
from dreamontage.models.devices import precision
from dreamontage.models.machine import machine_kind
from dreamontage.pipeline.request import checked_request, placed
from dreamontage.pipeline.upscale.stage import sr_model, upscale
from dreamontage.planning.geometry import Geometry
from dreamontage.planning.segments import plan_shot
from dreamontage.sampling.conditioning.conditions import Clip, Keyframe
from dreamontage.storyboard.seeds import derive

SCALE = 2
"""How much larger super-resolution makes a film."""


class Model:
    """A folder's own pipeline, as a user calls it."""

    def __init__(self, name: str, pipe: DreaMontagePipeline, *, take: int = 0) -> None:
        self.name, self.pipe, self.take = name, pipe, take
        again = f" take {take}" if take else ""
        self.revision = pipe.revision + again

    @classmethod
    def load(cls, name: str, folder: Path, device: str) -> Model:
        """Raises ValueError when it is no model's folder."""
        pipe = DreaMontagePipeline.from_pretrained(folder, dtype=precision(device)).to(device)
        # Another kind of device, or another precision, makes other films.
        pipe.revision += f" {machine_kind(device)}"
        return cls(name, pipe)

    def render(
        self,
        prompt: str,
        conditions: Sequence[Keyframe | Clip],
        *,
        frames: int,
        size: tuple[int, int],
        seed: int,
        latents: bool = False,
    ) -> Any:
        """frames_THWC, or the latents."""
        made: Any = self.pipe(
            prompt,
            conditions=conditions,
            height=size[0],
            width=size[1],
            num_frames=frames,
            fps=FPS,
            seed=derive(seed, "take", self.take) if self.take else seed,
            output_type="latent" if latents else "np",
        )
        return made.frames if latents else np.rint(made.frames[0] * 255).astype(np.uint8)

    def film(self, task: Task) -> Pixels:
        made: Pixels = self.render(
            task.prompt, task.conditions, frames=task.frames, size=task.size, seed=task.seed
        )
        return made


def untrained(pipe: DreaMontagePipeline, name: str = names.UNTRAINED) -> Model:
    """The same model before its first training step: its config's own start, the last layer zero.

    The pipeline is taken over: load one for it.
    """
    before = pipe.transformer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        blank = type(before).from_config(before.config)
    for parameter in (blank.proj_out.weight, blank.proj_out.bias):
        nn.init.zeros_(parameter)
    revision = pipe.revision
    pipe.register_modules(transformer=blank.to(before.device).eval())
    pipe.revision = f"untrained {revision}"
    return Model(name, pipe)


class Concatenation:
    """Each neighbouring pair of given frames as a first-last film of its own, one after the other:
    what one would do with a model that knows no frames in between."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.name = names.PIECES
        self.revision = f"concatenated {source_revision(__file__)} {model.revision}"

    def film(self, task: Task) -> Pixels:
        places, pictures = list(task.pictures), task.pictures
        # What lies outside the outermost stills has one of them at one end only.
        ends = sorted({0, *places, task.frames - 1})
        runs: list[Pixels] = []
        for number, (first, last) in enumerate(pairwise(ends)):
            stills = [
                Keyframe(image=pictures[at], frame=at - first)
                for at in (first, last)
                if at in pictures
            ]
            made_THWC = self.model.render(
                task.truth.prompt(first, last - first + 1),
                stills,
                frames=last - first + 1,
                size=task.size,
                seed=derive(task.seed, "piece", number),
            )
            runs.append(made_THWC if last == ends[-1] else made_THWC[:-1])
        return np.concatenate(runs)


class PixelHandover:
    """A long film whose windows hand over their last frame, decoded, as the next one's first: the
    practice that SAR's latents replace."""

    name = names.PIXELS

    def __init__(self, model: Model) -> None:
        self.model = model
        self.revision = f"pixels {source_revision(__file__)} {model.revision}"

    def _windows(self, task: Task) -> list[tuple[int, int]]:
        step = 4 * (self.model.pipe.geometry.window_latents - 1)
        starts = range(0, task.frames - 1, step)
        return [(first, min(first + step, task.frames - 1)) for first in starts]

    def joins(self, task: Task) -> tuple[int, ...]:
        return tuple(last + 1 for _, last in self._windows(task)[:-1])

    def film(self, task: Task) -> Pixels:
        frames = [task.pictures[0][None]]
        for number, (first, last) in enumerate(self._windows(task)):
            made_THWC = self.model.render(
                task.truth.prompt(first, last - first + 1),
                [Keyframe(image=frames[-1][-1], frame=0)],
                frames=last - first + 1,
                size=task.size,
                seed=derive(task.seed, "window", number),
            )
            frames.append(made_THWC[1:])
        return np.concatenate(frames)


class SmallFilms:
    """A model's films at half a task's size, as latents: what the super-resolution stage is given.
    The last one is cached, for it is made large in several ways."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._last: tuple[str, Tensor] | None = None

    def latents(self, task: Task) -> Tensor:
        """(1, C, L, H, W)."""
        if self._last is None or self._last[0] != task.key:
            height, width = task.size
            made_BCLHW = self.model.render(
                task.prompt,
                [_halved(condition) for condition in task.conditions],
                frames=task.frames,
                size=(height // SCALE, width // SCALE),
                seed=task.seed,
                latents=True,
            )
            self._last = task.key, made_BCLHW
        return self._last[1]


class Bicubic:
    """The small film made larger by interpolation: what super-resolution has to beat."""

    name = names.BICUBIC

    def __init__(self, small: SmallFilms) -> None:
        self.small = small
        self.revision = f"bicubic {small.model.revision}"

    def film(self, task: Task) -> Pixels:
        runs = autoencoder.decode(self.small.model.pipe.vae, [self.small.latents(task)])
        frames = [frame for run in runs for frame in autoencoder.to_uint8(run)][: task.frames]
        size = (task.size[1], task.size[0])
        return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_CUBIC) for f in frames])


class Refined:
    """The small film through the super-resolution stage, with Shared-RoPE or without; all else is
    as the model has it.

    Raises ValueError for a model that cannot enlarge such films.
    """

    def __init__(self, small: SmallFilms, sr: DreaMontagePipeline, *, shared_rope: bool) -> None:
        self.small, self.sr = small, sr
        sr_facts = sr_model(sr, "the model for --sr")
        if sr_facts.autoencoder != autoencoder.revision(small.model.pipe.vae):
            raise ValueError(f"{sr_facts.name} is for another autoencoder than {small.model.name}")
        self.upscaler = replace(sr_facts.upscaler(float(SCALE)), shared_rope=shared_rope)
        self.name = names.SHARED if shared_rope else names.ALONE
        self.revision = f"{self.upscaler.to_json()} {sr.revision} of {small.model.revision}"

    def film(self, task: Task) -> Pixels:
        height, width = task.size
        plan = checked_request(
            prompt=task.prompt,
            conditions=task.conditions,
            frames=task.frames,
            fps=FPS,
            seed=task.seed,
            height=height,
            width=width,
            geometry=self.sr.geometry,
        ).plan(self.sr.geometry)
        large = upscale(
            [self.small.latents(task)],
            pipe=self.sr,
            upscaler=self.upscaler,
            segments=plan.segments,
            height=height // SCALE,
            width=width // SCALE,
            conditions=task.conditions,
            seed=task.seed,
        )
        runs = autoencoder.decode(self.sr.vae, large)
        film_THWC = np.concatenate([autoencoder.to_uint8(run) for run in runs])
        return film_THWC[: task.frames, :height, :width]  # the model's grid may be coarser


def _halved(condition: Keyframe | Clip) -> Keyframe | Clip:
    assert isinstance(condition, Keyframe)
    picture_HWC = np.asarray(condition.image)
    height, width = picture_HWC.shape[0] // SCALE, picture_HWC.shape[1] // SCALE
    cells = picture_HWC.reshape(height, SCALE, width, SCALE, 3).mean((1, 3))
    return Keyframe(image=np.rint(cells).astype(np.uint8), frame=condition.frame)


def joins_of(task: Task, geometry: Geometry) -> tuple[int, ...]:
    """Where a model of this geometry joins the segments of a task's film."""
    return plan_shot(
        frames=task.frames,
        fps=Fraction(FPS),
        prompts=(),
        conditions=placed(task.conditions),
        seed=task.seed,
        geometry=geometry,
    ).joins


def described(folder: Path) -> dict[str, Any]:
    """What a folder's training left written of itself; empty where it left nothing."""
    path = folder / "training.json"
    return dict(json.loads(path.read_text())) if path.is_file() else {}
