"""Training of a codec's `Finish`, which repairs the decoded films of latents that a model made.

The linear decoder decodes every latent alone. Where a model's latents do not quite agree, the film
has steps between patches, and a pulse from latent to latent. The finish learns to remove them. It
is trained on windows whose last sampling steps the run's own model made again, with noise on them
(`remaking`); the target is the true frames. The loss is the error of the picture, and as much of
its steps in space and time, because the finish is there for the steps **[ours]**.

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

from dreamontage.models.autoencoder import denormalise
from dreamontage.models.codec import LinearCodec, frames_of
from dreamontage.scorer import reference
from dreamontage.storyboard.seeds import derive
from dreamontage.timeline import TEMPORAL_STRIDE
from dreamontage.training.datasets import windows
from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import nano, remaking
from dreamontage.training.objectives.adaptive import Shape, Study, decode, make_frozen, write_model
from dreamontage.training.objectives.remaking import ResamplingSource, noisy

_LAST = (0, 1, 1, 2, 2, 3)  # how many last sampling steps are made again; drawn from this list
_HELD_OUT_LAST = 2
_SHOWN = ("psnr", "flicker", "sharpness", "blocks")


@dataclass(frozen=True, kw_only=True)
class _Films:
    """Windows from the starts of shots, and the latents that a model made of them."""

    video_BCTHW: Tensor
    latents_BZLHW: Tensor


class DecoderSource(ResamplingSource):
    """Draws windows with their frames."""

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        rng = random.Random(seed)
        shape = self.shape(rng, progress, repeat)
        films = self.made(shape, seed=seed, last=rng.choice(_LAST))
        # As bytes, because whole films of many steps are in memory.
        frames = (films.video_BCTHW * 127.5 + 127.5).round().to(torch.uint8)
        return {"frames": frames, "latents": films.latents_BZLHW}

    def made(self, shape: Shape, *, seed: int, last: int) -> _Films:
        """A batch whose `last` sampling steps are made again."""
        frozen, _ = self.open()
        rng = random.Random(derive(seed, "decoder"))
        frames = 1 + TEMPORAL_STRIDE * (shape.latents - 1)
        scenes = self.scenes(shape, seed=seed, frames=frames)
        video_BCTHW = scenes.render()
        conditions = [
            windows.draw_conditions(rng, latents=shape.latents, middle=False, tail=self.study.tail)
            for _ in range(shape.batch)
        ]
        generator = torch.Generator(self.device).manual_seed(derive(seed, "windows"))
        built = windows.build(
            frozen.vae,
            video_BCTHW,
            conditions,
            scenes.prompts(0, frames),
            middle=False,
            generator=generator,
        )
        made_BZLHW = self.resampled(built, self.embed(built), last=last, generator=generator)
        return _Films(video_BCTHW=video_BCTHW, latents_BZLHW=noisy(made_BZLHW, generator))


class DecoderObjective:
    """See the module. Latents do not change, so nothing else has to be trained again.

    Raises:
        ValueError: without an `init` that makes films.
    """

    def __init__(self, setting: Setting, study: Study, width: int) -> None:
        if setting.init is None or not remaking.predicts_windows(setting.init):
            raise ValueError("init is missing: the finish is trained on films of a model")
        self.study, self.device = study, setting.device
        folder = make_frozen(setting, study)
        remaking.save_base_dit(setting, folder)
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
        del seed  # there is nothing to draw
        true_BCTHW = batch["frames"] / 127.5 - 1
        return self._errors(model, batch["latents"], true_BCTHW), len(true_BCTHW)

    def _errors(self, model: Any, latents_BZLHW: Tensor, true_BCTHW: Tensor) -> Tensor:
        """Squared errors of all frames but the first, and of their steps in space and time."""
        made_BCTHW, true_BCTHW = self.decoded(model, latents_BZLHW), true_BCTHW[:, :, 1:]
        error_BCTHW = made_BCTHW - true_BCTHW
        steps = [error_BCTHW.diff(dim=dim).square().mean() for dim in (2, 3, 4)]
        return error_BCTHW.square().mean() + torch.stack(steps).sum()

    def decoded(self, model: Any, latents_BZLHW: Tensor) -> Tensor:
        """The frames of all latents of four frames, by the linear decoder and the model."""
        raw_BZLHW = denormalise(self.linear, latents_BZLHW)
        plain_NPhw = self.linear.paint(*_followed(raw_BZLHW))
        values_NPhw = plain_NPhw + model(*_followed(latents_BZLHW))
        runs_BLCTHW = frames_of(values_NPhw).unflatten(0, (len(latents_BZLHW), -1))
        return runs_BLCTHW.transpose(1, 2).flatten(2, 3)

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """The loss, and `reference`'s scores of held-out films whose last steps a model made."""
        found: dict[str, list[Tensor]] = {"loss": []}
        for films in self.held_out:
            found["loss"].append(self._errors(model, films.latents_BZLHW, films.video_BCTHW))
            made_BCTHW = self.decoded(model, films.latents_BZLHW).clamp(-1, 1)
            shown = reference.scores(made_BCTHW, films.video_BCTHW[:, :, 1:])
            for name in _SHOWN:
                found.setdefault(name, []).append(shown[name].mean())
        return {name: float(torch.stack(values).mean()) for name, values in found.items()}

    @torch.no_grad()
    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """Each window: the true one, by the linear decoder alone, and with the finish."""
        groups: list[Sequence[Tensor]] = []
        for films in self.held_out:
            latents_BZLHW = films.latents_BZLHW[:3]
            plain = decode(self.linear, latents_BZLHW, middle=False)[:, :, 1:]
            made = self.decoded(model, latents_BZLHW).clamp(-1, 1)
            groups += list(zip(films.video_BCTHW[:3, :, 1:], plain, made, strict=True))
        return groups

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        """The model that the run started from, with the finished codec."""
        codec, base_dit = (
            self.codec.with_finish(self.codec.config.finish_width),
            self.source.base_dit,
        )
        assert codec.finish is not None
        assert base_dit is not None
        codec.finish.load_state_dict(dict(state))
        model = nano.copy_of(base_dit, base_dit.state_dict())
        frozen = replace(self.frozen, vae=codec)
        write_model(folder, model, facts, source=self.source, frozen=frozen)


def _followed(latents_BZLHW: Tensor) -> tuple[Tensor, Tensor]:
    """All latents but the first, each alone, (N, Z, h, w), and the latents before them."""
    each_BLZHW = latents_BZLHW.transpose(1, 2)
    return each_BLZHW[:, 1:].flatten(0, 1), each_BLZHW[:, :-1].flatten(0, 1)
