"""Training of a codec's `Finish`: what a film should look like whose latents a model has made.

The linear decoder paints every latent by itself, so where a model's latents do not quite agree the
film shows steps between patches, and a pulse from latent to latent. The finish learns to mend them
on windows whose last steps the run's own model made anew, with noise on them (`remaking`), beside
the true frames. The loss counts the picture, and its steps across and in time as much: what it is
for are steps **[ours]**.

Shapes: B windows, N latents of a batch, Z latent channels, L latent frames, T frames, H W height
and width of either, h w of latents, C = 3 colours.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamontage.evaluation import quick
from dreamontage.models.autoencoder import denormalise
from dreamontage.models.codec import LinearCodec, frames_of
from dreamontage.seeds import derive
from dreamontage.timeline import TEMPORAL_STRIDE
from dreamontage.training import nano, remaking, windows
from dreamontage.training.adaptive import Shape, Study, decode, make_frozen, write_model
from dreamontage.training.feed import Batch
from dreamontage.training.recipe import Setting
from dreamontage.training.remaking import RemakingSource, noisy

_LAST = (0, 1, 1, 2, 2, 3)  # of the sampler's steps made anew, as often as they stand here
_HELD_OUT_LAST = 2
_SHOWN = ("psnr", "flicker", "sharpness", "blocks")


@dataclass(frozen=True, kw_only=True)
class _Films:
    """Windows from their shots' starts, and what a model made of them."""

    video_BCTHW: Tensor
    latents_BZLHW: Tensor


class DecoderSource(RemakingSource):
    """Draws windows with their frames."""

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        rng = random.Random(seed)
        shape = self.shape(rng, progress, repeat)
        films = self.made(shape, seed=seed, last=rng.choice(_LAST))
        # Bytes, for whole films of many steps lie in memory.
        frames = (films.video_BCTHW * 127.5 + 127.5).round().to(torch.uint8)
        return {"frames": frames, "latents": films.latents_BZLHW}

    def made(self, shape: Shape, *, seed: int, last: int) -> _Films:
        """A batch whose sampler's `last` steps are made anew."""
        frozen, _ = self.open()
        rng = random.Random(derive(seed, "decoder"))
        frames = 1 + TEMPORAL_STRIDE * (shape.latents - 1)
        scenes = self.scenes(shape, seed=seed, frames=frames)
        video_BCTHW = scenes.render()
        guides = [
            windows.draw_guides(rng, latents=shape.latents, middle=False, tail=self.study.tail)
            for _ in range(shape.batch)
        ]
        generator = torch.Generator(self.device).manual_seed(derive(seed, "windows"))
        built = windows.build(
            frozen.vae,
            video_BCTHW,
            guides,
            scenes.prompts(0, frames),
            middle=False,
            generator=generator,
        )
        made_BZLHW = self.remade(built, self.embed(built), last=last, generator=generator)
        return _Films(video_BCTHW=video_BCTHW, latents_BZLHW=noisy(made_BZLHW, generator))


class DecoderObjective:
    """See the module. The latents stay as they are, so nothing else has to be trained again.

    Raises:
        ValueError: without a model to start from that makes films.
    """

    def __init__(self, setting: Setting, study: Study, width: int) -> None:
        if setting.init is None or not remaking.films(setting.init):
            raise ValueError("init: a decoder is finished on films of a model, and there is none")
        self.study, self.device = study, setting.device
        folder = make_frozen(setting, study)
        remaking.keep_filmer(setting, folder)
        self.source = DecoderSource(folder, setting, study)
        self.frozen, _ = self.source.open()
        self.linear: LinearCodec = self.frozen.vae.with_finish(0)
        self.codec = self.frozen.vae.with_finish(width)
        assert self.codec.finish is not None
        self.model = self.codec.finish.requires_grad_(True)
        self.held_out = [
            self.source.made(
                replace(shape, batch=study.held_out),
                seed=derive(setting.seed, "held out", index),
                last=_HELD_OUT_LAST,
            )
            for index, shape in enumerate(study.shapes)
        ]

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        del seed  # nothing is drawn
        true_BCTHW = batch["frames"] / 127.5 - 1
        return self._errors(model, batch["latents"], true_BCTHW), len(true_BCTHW)

    def _errors(self, model: Any, latents_BZLHW: Tensor, true_BCTHW: Tensor) -> Tensor:
        """Squared errors of the frames behind the first, and of their steps in space and time."""
        made_BCTHW, true_BCTHW = self._painted(model, latents_BZLHW), true_BCTHW[:, :, 1:]
        error_BCTHW = made_BCTHW - true_BCTHW
        steps = [error_BCTHW.diff(dim=dim).square().mean() for dim in (2, 3, 4)]
        return error_BCTHW.square().mean() + torch.stack(steps).sum()

    def _painted(self, model: Any, latents_BZLHW: Tensor) -> Tensor:
        """The frames of all whole latents, by the linear decoder and the model."""
        raw_BZLHW = denormalise(self.linear, latents_BZLHW)
        plain_NPhw = self.linear.paint(*_followed(raw_BZLHW))
        values_NPhw = plain_NPhw + model(*_followed(latents_BZLHW))
        runs_BLCTHW = frames_of(values_NPhw).unflatten(0, (len(latents_BZLHW), -1))
        return runs_BLCTHW.transpose(1, 2).flatten(2, 3)

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """The loss, and `quick`'s scores of held-out films that a model made the end of."""
        found: dict[str, list[Tensor]] = {"loss": []}
        for films in self.held_out:
            found["loss"].append(self._errors(model, films.latents_BZLHW, films.video_BCTHW))
            made_BCTHW = self._painted(model, films.latents_BZLHW).clamp(-1, 1)
            shown = quick.scores(made_BCTHW, films.video_BCTHW[:, :, 1:])
            for name in _SHOWN:
                found.setdefault(name, []).append(shown[name].mean())
        return {name: float(torch.stack(values).mean()) for name, values in found.items()}

    @torch.no_grad()
    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """Each window as it was, by the linear decoder alone, and finished."""
        groups: list[Sequence[Tensor]] = []
        for films in self.held_out:
            latents_BZLHW = films.latents_BZLHW[:3]
            plain = decode(self.linear, latents_BZLHW, middle=False)[:, :, 1:]
            made = self._painted(model, latents_BZLHW).clamp(-1, 1)
            groups += list(zip(films.video_BCTHW[:3, :, 1:], plain, made, strict=True))
        return groups

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        """The model that the run started from, with the finished codec."""
        codec, filmer = self.codec.with_finish(self.codec.config.finish_width), self.source.filmer
        assert codec.finish is not None
        assert filmer is not None
        codec.finish.load_state_dict(dict(state))
        model = nano.copy_of(filmer, filmer.state_dict())
        frozen = replace(self.frozen, vae=codec)
        write_model(folder, model, facts, source=self.source, frozen=frozen)


def _followed(latents_BZLHW: Tensor) -> tuple[Tensor, Tensor]:
    """All latents but the first, one by one, (N, Z, h, w), and those before them."""
    each_BLZHW = latents_BZLHW.transpose(1, 2)
    return each_BLZHW[:, 1:].flatten(0, 1), each_BLZHW[:, :-1].flatten(0, 1)
