"""Base, adaptive and expression training: the velocity of windows with the conditions of inference.

The stages differ in what they are given (`windows.ConditionMix`), what they see (`worlds.Mixture`)
and in where they start; the target is the same.

Shapes: B windows, Z latent channels, L latent frames, T frames, H W height and width of either,
S tokens, D width.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreamontage.files import write_folder
from dreamontage.models.autoencoder import denormalise
from dreamontage.models.text import embed
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.scorer import reference
from dreamontage.storyboard.seeds import derive
from dreamontage.timeline import TEMPORAL_STRIDE
from dreamontage.training.datasets import windows
from dreamontage.training.datasets.windows import ConditionMix, Windows
from dreamontage.training.loop.model_card import CardFacts, model_card
from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching, nano
from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.scenes import Scenes
from dreamontage.training.synthetic.worlds import Mixture

_SHEET_ROWS = 3  # windows of each held-out batch
_SCORED = 8  # held-out windows of each batch that are rendered and scored


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One kind of batch; height and width in pixels.

    It is drawn with a probability proportional to `weight` while the progress is in
    [opens, closes).
    """

    weight: float
    latents: int
    height: int
    width: int
    batch: int
    opens: float = 0.0
    closes: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a stage learns from."""

    shapes: Sequence[Shape]
    condition_mix: ConditionMix = windows.ADAPTIVE
    mixture: Mixture = field(default_factory=Mixture)
    size: nano.Size = field(default_factory=nano.Size)
    tail: int = 2
    uniform_times: float = 0.1
    held_out: int = 6  # windows of each shape
    sampling: bool = True  # whether held-out windows are rendered and scored
    codec_batches: int = 20
    release_stage: str | None = "smoke"


@dataclass(frozen=True, kw_only=True)
class _HeldOut:
    batch: Windows
    middle: bool
    prompts_BSD: Tensor
    times_B: Tensor
    noise_BZLHW: Tensor


def make_frozen(setting: Setting, study: Study) -> Path:
    """The folder of the parts that are not trained, and of the run's photos.

    They are made at a run's first start, or copied from the folder that it starts from. They are
    read back at every start, so that a resumed run has the same ones to the bit.
    """
    folder = setting.folder / "frozen"

    def begin(path: Path) -> None:
        if setting.init is not None:
            made = nano.load_frozen(setting.init)
        else:
            made = nano.build_frozen(
                seed=setting.seed,
                z_dim=study.size.z_dim,
                batches=study.codec_batches,
                device=setting.device,
                photos=setting.photos_NCHW,
            )
        nano.save_frozen(path, made)
        if setting.photos_NCHW is not None:
            held = (setting.photos_NCHW * 255).round().byte().contiguous()
            save_file({"photos": held}, path / "photos.safetensors")

    if not folder.exists():
        write_folder(folder, begin)
    return folder


class WindowSource:
    """Draws windows of procedural worlds. Codec and text encoder are opened on first use."""

    def __init__(self, folder: Path, device: torch.device, study: Study) -> None:
        self.folder, self.device, self.study = folder, device, study
        self._opened: tuple[nano.Frozen, Tensor | None] | None = None

    def open(self) -> tuple[nano.Frozen, Tensor | None]:
        """The frozen parts, and the run's photos."""
        if self._opened is None:
            bank = self.folder / "photos.safetensors"
            photos = load_file(bank)["photos"].to(self.device) / 255 if bank.exists() else None
            self._opened = nano.load_frozen(self.folder).to(self.device), photos
        return self._opened

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        """Windows cut from clips that are longer than they are."""
        rng = random.Random(seed)
        shape = self.shape(rng, progress, repeat)
        batch = self.windows(shape, seed=seed, middle=rng.random() < 0.5)
        return {
            "latents": batch.latents_BZLHW,
            "condition": batch.condition_BCLHW,
            "prompts": self.embed(batch),
        }

    def shape(self, rng: random.Random, progress: float, repeat: int) -> Shape:
        """One of the study's shapes that may be drawn at this progress, for `repeat` batches."""
        shapes = [s for s in self.study.shapes if s.opens <= progress < s.closes]
        shape = rng.choices(shapes, [shape.weight for shape in shapes])[0]
        return replace(shape, batch=shape.batch * repeat)

    def scenes(self, shape: Shape, *, seed: int, frames: int) -> Scenes:
        """A batch of the study's worlds, at the shape's size."""
        _, photos = self.open()
        return worlds.sample(
            derive(seed, "scenes"),
            shape.batch,
            frames=frames,
            height=shape.height,
            width=shape.width,
            device=self.device,
            photos_NCHW=photos,
            mixture=self.study.mixture,
        )

    def windows(self, shape: Shape, *, seed: int, middle: bool) -> Windows:
        """A batch of windows with their conditions."""
        frozen, _ = self.open()
        frames = 1 + TEMPORAL_STRIDE * (shape.latents + 5)
        scenes = self.scenes(shape, seed=seed, frames=frames)
        return windows.draw(
            frozen.vae,
            scenes,
            latents=shape.latents,
            middle=middle,
            tail=self.study.tail,
            seed=derive(seed, "windows"),
            condition_mix=self.study.condition_mix,
        )

    def embed(self, batch: Windows) -> Tensor:
        """The prompts' embeddings, prompts_BSD."""
        frozen, _ = self.open()
        return embed(frozen.tokenizer, frozen.text_encoder, batch.prompts)


class WindowsObjective:
    """See the module.

    Raises:
        ValueError: for an `init` that is no nano model, or a nano model with other inputs.
    """

    def __init__(self, setting: Setting, study: Study) -> None:
        self.study, self.device = study, setting.device
        self.source = WindowSource(make_frozen(setting, study), setting.device, study)
        self.frozen, _ = self.source.open()
        if setting.init is None:
            self.model = nano.build_transformer(study.size, seed=derive(setting.seed, "model"))
        else:
            self.model = nano.load_transformer(setting.init)
            self._check(setting.init)
        self.held_out = [
            self._hold_out(setting.seed, index, shape) for index, shape in enumerate(study.shapes)
        ]

    def _check(self, init: Path) -> None:
        found, wanted = self.model.config.in_channels, nano.channels(self.frozen.vae.config.z_dim)
        if found != wanted:
            raise ValueError(
                f"init = {init}: its model takes {found} channels and not {wanted}, so it is "
                "not for windows with their conditions"
            )

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        clean = batch["latents"]
        generator = torch.Generator(self.device).manual_seed(derive(seed, "noise"))
        times_B = flow_matching.draw_times(
            len(clean),
            shift=nano.FLOW_SHIFT,
            uniform=self.study.uniform_times,
            generator=generator,
        )
        errors_B = flow_matching.velocity_errors(
            model,
            clean,
            batch["condition"],
            batch["prompts"],
            times_B=times_B,
            noise_BZLHW=torch.randn(clean.shape, generator=generator, device=self.device),
        )
        return errors_B.mean(), len(clean)

    def _hold_out(self, seed: int, index: int, shape: Shape) -> _HeldOut:
        """Windows of worlds that no step trains on, with fixed times and noise."""
        seed = derive(seed, "held out", index)
        middle = bool(index % 2)
        fewer = replace(shape, batch=self.study.held_out)
        batch = self.source.windows(fewer, seed=seed, middle=middle)
        generator = torch.Generator(self.device).manual_seed(seed)
        noise_BZLHW = torch.randn(
            batch.latents_BZLHW.shape, generator=generator, device=self.device
        )
        return _HeldOut(
            batch=batch,
            middle=middle,
            prompts_BSD=self.source.embed(batch),
            times_B=torch.linspace(0.05, 0.98, len(batch.prompts), device=self.device),
            noise_BZLHW=noise_BZLHW,
        )

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """The loss at evenly spread times, and `reference`'s scores of rendered windows."""
        losses = [
            flow_matching.velocity_errors(
                model,
                h.batch.latents_BZLHW,
                h.batch.condition_BCLHW,
                h.prompts_BSD,
                times_B=h.times_B,
                noise_BZLHW=h.noise_BZLHW,
            ).mean()
            for h in self.held_out
        ]
        found = {"loss": float(torch.stack(losses).mean())}
        if not self.study.sampling:
            return found
        measured: dict[str, list[Tensor]] = {}
        for h in self.held_out:
            made, true, given_BT = self._films(model, h, _SCORED)
            for name, value_B in reference.scores(made, true, given_BT=given_BT).items():
                measured.setdefault(name, []).append(value_B)
        return found | {name: float(torch.cat(v).mean()) for name, v in measured.items()}

    def _films(self, model: Any, held: _HeldOut, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Held-out windows: as the model makes them, the true ones through the codec, and which
        frames are conditions."""
        condition = held.batch.condition_BCLHW[:count]
        made_BZLHW = flow_matching.sample(
            model,
            condition,
            held.prompts_BSD[:count],
            noise_BZLHW=held.noise_BZLHW[:count],
            steps=nano.STEPS,
            shift=nano.FLOW_SHIFT,
        )
        given_BMLHW = condition[:, :MASK_CHANNELS, :, :1, :1] > 0
        given_BT = given_BMLHW[..., 0, 0].transpose(1, 2).flatten(1)
        if not held.middle:
            given_BT = given_BT[:, MASK_CHANNELS - 1 :]
        true_BZLHW = held.batch.latents_BZLHW[:count]
        return (
            decode(self.frozen.vae, made_BZLHW, middle=held.middle),
            decode(self.frozen.vae, true_BZLHW, middle=held.middle),
            given_BT,
        )

    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """Each window: the true one, its conditions, and the one that the model makes."""
        groups: list[Sequence[Tensor]] = []
        for h in self.held_out:
            made, true, _ = self._films(model, h, _SHEET_ROWS)
            given_BZLHW = h.batch.condition_BCLHW[:_SHEET_ROWS, MASK_CHANNELS:]
            groups += list(
                zip(true, decode(self.frozen.vae, given_BZLHW, middle=h.middle), made, strict=True)
            )
        return groups

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        model = nano.copy_of(self.model, state)
        write_model(folder, model, facts, source=self.source)


def write_model(
    folder: Path,
    model: Any,
    facts: Mapping[str, Any],
    *,
    source: WindowSource,
    frozen: nano.Frozen | None = None,
    settings: Mapping[str, Any] = nano.FILM_SETTINGS,
) -> None:
    """Write a model folder: the DiT, the codec and text encoder of its training, and a card.

    `frozen`: another codec and text encoder. `facts`: what the card says.
    """
    learnt_with, photos = source.open()
    frozen = frozen or learnt_with
    release_stage = source.study.release_stage
    about = CardFacts(
        release_stage=release_stage,
        parameters=sum(p.numel() for p in model.parameters()),
        photos=0 if photos is None else len(photos),
        z_dim=frozen.vae.config.z_dim,
        finished=frozen.vae.finish is not None,
    )
    nano.save_folder(folder, frozen, model, release_stage=release_stage, settings=settings)
    model_card(facts, about).save(folder / "README.md")


def decode(vae: Any, latents_BZLHW: Tensor, *, middle: bool) -> Tensor:
    """Frames of windows from normalised latents, video_BCTHW.

    The first latent of a middle window is four frames, not one.
    """
    latents = denormalise(vae, latents_BZLHW.float()).split(1, dim=2)
    parts = [vae.decode_latent(latents[0], not middle)]
    parts += [vae.decode_latent(here, False, before) for before, here in pairwise(latents)]
    return torch.cat(parts, 2)
