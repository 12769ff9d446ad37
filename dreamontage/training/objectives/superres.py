"""Training of the super-resolution DiT, with and without Shared-RoPE in one run.

An example is a window of a large film, and the same film enlarged: it is made small, encoded, its
last sampling steps are made again by the model that the run starts from, and it is enlarged as
`upscale.enlarge` does. The flow goes from the enlarged film to the large one, and not from noise.
So an untrained model changes nothing, and all that is learnt is what enlarging misses **[ours]**.
In training there is a little noise at the flow's start; in sampling there is none. With noise,
films came out with grain: a token would have to carry its noise through unchanged to remove it.
Half of the batches have the conditions' tokens appended (Shared-RoPE), half do not. So one set of
weights serves both ways, and measures what the tokens are worth **[ours]**.

Shapes: B windows, Z latent channels, C mask and condition channels, L latent frames, N appended
frames, T frames, H W height and width of either, S tokens, D width.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from dreamontage.files import read_json
from dreamontage.models.autoencoder import normalise
from dreamontage.planning.upscale_settings import sr_channels
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.scorer import reference
from dreamontage.storyboard.seeds import derive
from dreamontage.storyboard.types import SCALES
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of
from dreamontage.training.datasets import windows
from dreamontage.training.datasets.windows import WindowConditions
from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching, nano, remaking
from dreamontage.training.objectives.adaptive import Shape, Study, decode, make_frozen, write_model
from dreamontage.training.objectives.remaking import ResamplingSource, noisy

_STEPS = 4
_SPREAD = 0.1  # of the noise at the flow's start in training, in normalised latents
# How many of the sampler's last steps are made again. With more, a film differs from the true one.
_RESAMPLED_STEPS = (1, 2)


@dataclass(frozen=True, kw_only=True)
class EnlargedBatch:
    """A batch: windows of the large film, the enlarged film, all input channels beside the noise,
    and the appended frames."""

    latents_BZLHW: Tensor
    enlarged_BZLHW: Tensor
    beside_BCLHW: Tensor
    shared_BCNHW: Tensor | None
    shared_frames: tuple[int, ...]
    prompts_BSD: Tensor

    def appended(self) -> dict[str, Any]:
        """The model's arguments for Shared-RoPE."""
        if self.shared_BCNHW is None:
            return {}
        return {"shared_states": self.shared_BCNHW, "shared_frames": self.shared_frames}


Degrade = Callable[[Tensor, Tensor], Tensor]
"""A small film, small_BCTHW, and its normalised latents -> latents with a model's errors."""


class SuperresSource(ResamplingSource):
    """Draws windows of large films and the enlarged films.

    The small films' last steps are made again by the model that the run starts from. Where that one
    makes no films, they get noise instead.
    """

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        rng = random.Random(seed)
        shape = self.shape(rng, progress, repeat)
        batch = self.enlarged(
            shape, seed=seed, middle=rng.random() < 0.5, shared=rng.random() < 0.5
        )
        found: Batch = {
            "latents": batch.latents_BZLHW,
            "beside": batch.beside_BCLHW,
            "prompts": batch.prompts_BSD,
            "frames": batch.shared_frames,
        }
        return found if batch.shared_BCNHW is None else found | {"shared": batch.shared_BCNHW}

    def enlarged(self, shape: Shape, *, seed: int, middle: bool, shared: bool) -> EnlargedBatch:
        """A batch whose windows all have the same conditions, as a call's appended frames have the
        same places in all windows."""
        frozen, _ = self.open()
        rng = random.Random(derive(seed, "superres"))
        count = 1 + TEMPORAL_STRIDE * (shape.latents if middle else shape.latents - 1)
        scenes = self.scenes(shape, seed=seed, frames=count)
        video_BCTHW = scenes.render()
        conditions = windows.draw_conditions(
            rng, latents=shape.latents, middle=middle, tail=self.study.tail
        )
        generator = torch.Generator(self.device).manual_seed(derive(seed, "windows"))
        built = windows.build(
            frozen.vae,
            video_BCTHW,
            [conditions] * shape.batch,
            scenes.prompts(int(middle), count - middle),
            middle=middle,
            generator=generator,
        )
        prompts_BSD = self.embed(built)

        def degrade(small_BCTHW: Tensor, latents_BZLHW: Tensor) -> Tensor:
            if self.base_dit is None:
                return noisy(latents_BZLHW, generator)
            small = windows.build(
                frozen.vae,
                small_BCTHW,
                [conditions] * shape.batch,
                built.prompts,
                middle=middle,
                generator=generator,
            )
            made_BZLHW = self.resampled(
                small, prompts_BSD, last=rng.choice(_RESAMPLED_STEPS), generator=generator
            )
            return torch.cat((latents_BZLHW[:, :, : int(middle)], made_BZLHW), 2)

        enlarged_BZLHW = enlarged(
            frozen.vae,
            video_BCTHW,
            scale=rng.choice(scales_of(shape.height, shape.width)),
            middle=middle,
            degrade=degrade,
        )
        places = shared_places(conditions, middle=middle) if shared else []
        return EnlargedBatch(
            latents_BZLHW=built.latents_BZLHW,
            enlarged_BZLHW=enlarged_BZLHW,
            beside_BCLHW=torch.cat((built.condition_BCLHW, enlarged_BZLHW), 1),
            shared_BCNHW=shared_frames_of(built.condition_BCLHW, places) if places else None,
            shared_frames=tuple(places),
            prompts_BSD=prompts_BSD,
        )


class SuperresObjective:
    """See the module. `setting.init` gives the codec.

    If it is a super-resolution model, its weights are trained further. Otherwise it makes the small
    films.
    """

    def __init__(self, setting: Setting, study: Study) -> None:
        self.study, self.device = study, setting.device
        folder = make_frozen(setting, study)
        remaking.save_base_dit(setting, folder)
        self.source = SuperresSource(folder, setting, study)
        self.frozen, _ = self.source.open()
        size = replace(study.size, z_dim=self.frozen.vae.config.z_dim)
        self.model = _start(setting, size)
        self.held_out = [
            self.source.enlarged(
                replace(shape, batch=study.held_out),
                seed=derive(setting.seed, "held out", index),
                middle=False,
                shared=True,
            )
            for index, shape in enumerate(study.shapes)
        ]

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        generator = torch.Generator(self.device).manual_seed(derive(seed, "noise"))
        drawn = EnlargedBatch(
            latents_BZLHW=batch["latents"],
            enlarged_BZLHW=batch["beside"][:, -batch["latents"].shape[1] :],
            beside_BCLHW=batch["beside"],
            shared_BCNHW=batch.get("shared"),
            shared_frames=tuple(batch["frames"]),
            prompts_BSD=batch["prompts"],
        )
        count = len(drawn.latents_BZLHW)
        times_B = torch.rand(count, generator=generator, device=self.device)
        return self._errors(model, drawn, times_B, generator).mean(), count

    def _errors(
        self, model: Any, batch: EnlargedBatch, times_B: Tensor, generator: torch.Generator
    ) -> Tensor:
        like = batch.enlarged_BZLHW
        noise_BZLHW = torch.randn(like.shape, generator=generator, device=like.device)
        return flow_matching.velocity_errors(
            model,
            batch.latents_BZLHW,
            batch.beside_BCLHW,
            batch.prompts_BSD,
            times_B=times_B,
            noise_BZLHW=like + _SPREAD * noise_BZLHW,
            **batch.appended(),
        )

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """The loss with and without appended tokens, and `reference`'s scores of the rendered film
        and of the enlarged one."""
        generator = torch.Generator(self.device)
        found: dict[str, list[Tensor]] = {"loss": [], "loss_plain": []}
        for batch in self.held_out:
            times_B = torch.linspace(0.05, 1, self.study.held_out, device=self.device)
            plain = replace(batch, shared_BCNHW=None)
            for name, each in (("loss", batch), ("loss_plain", plain)):
                found[name].append(self._errors(model, each, times_B, generator.manual_seed(0)))
            made, enlarged_, true = self._films(model, batch)
            for prefix, film in (("", made), ("enlarged_", enlarged_)):
                for name, value_B in reference.scores(film, true).items():
                    if name in ("psnr", "sharpness", "flicker"):
                        found.setdefault(prefix + name, []).append(value_B)
        return {name: float(torch.cat(values).mean()) for name, values in found.items()}

    def _films(self, model: Any, batch: EnlargedBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The refined film, the enlarged one, and the true one through the codec."""
        made_BZLHW = flow_matching.sample(
            model,
            batch.beside_BCLHW,
            batch.prompts_BSD,
            noise_BZLHW=batch.enlarged_BZLHW,
            steps=_STEPS,
            shift=nano.FLOW_SHIFT,
            **batch.appended(),
        )
        films = (made_BZLHW, batch.enlarged_BZLHW, batch.latents_BZLHW)
        made, enlarged_, true = (decode(self.frozen.vae, film, middle=False) for film in films)
        return made, enlarged_, true

    @torch.no_grad()
    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """Each window: the true one, enlarged, and refined."""
        groups: list[Sequence[Tensor]] = []
        for batch in self.held_out:
            made, enlarged_, true = self._films(model, batch)
            groups += list(zip(true[:3], enlarged_[:3], made[:3], strict=True))
        return groups

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        model = nano.copy_of(self.model, state)
        # A tile is not larger than the training's windows. Neighbours share a quarter of it.
        tile = tuple(
            max(side) // self.frozen.vae.config.scale_factor_spatial
            for side in zip(*((each.height, each.width) for each in self.study.shapes), strict=True)
        )
        patch = max(model.config.patch_size[1:])
        settings = nano.PIPELINE_SETTINGS | {
            "window_latents": max(shape.latents for shape in self.study.shapes),
            "default_steps": _STEPS,
            "superres": {
                "tile_latents": tile,
                "overlap_latents": min(tile) // 4 // patch * patch,
                "strength": 1.0,
                "spread": 0.0,
            },
        }
        write_model(folder, model, facts, source=self.source, settings=settings)


def _start(setting: Setting, size: nano.Size) -> Any:
    """The model to train: that of `setting.init` if it is for super-resolution, else a new one."""
    channels = sr_channels(size.z_dim)
    if setting.init is not None:
        config = read_json(setting.init / "transformer" / "config.json")
        if config["in_channels"] == channels:
            return nano.load_transformer(setting.init)
    return nano.build_transformer(size, in_channels=channels, seed=derive(setting.seed, "model"))


def scales_of(height: int, width: int) -> list[float]:
    """The scales by which a film on the codec's grid is enlarged to this size."""
    return [
        scale
        for scale in SCALES
        if all((side / scale) % 8 == 0 and side % scale == 0 for side in (height, width))
    ]


def enlarged(
    vae: Any, video_BCTHW: Tensor, *, scale: float, middle: bool, degrade: Degrade | None = None
) -> Tensor:
    """Normalised latents of a film that was made small, degraded there, and enlarged again."""
    batch, _, frames, height, width = video_BCTHW.shape
    small = (frames, round(height / scale), round(width / scale))
    pictures_NCHW = video_BCTHW.transpose(1, 2).flatten(0, 1)
    small_NCHW = F.interpolate(pictures_NCHW, small[1:], mode="bilinear", antialias=True)
    small_BCTHW = small_NCHW.unflatten(0, (batch, frames)).transpose(1, 2)
    latents_BZLHW = normalise(vae, vae.encode(small_BCTHW).latent_dist.mode())
    if degrade is not None:
        latents_BZLHW = degrade(small_BCTHW, latents_BZLHW)
    # The first latent of a middle window's video is only its past. It is decoded as one frame.
    film_BCTHW = decode(vae, latents_BZLHW, middle=False)
    large_NCHW = F.interpolate(
        film_BCTHW.transpose(1, 2).flatten(0, 1), (height, width), mode="bicubic"
    )
    large_BCTHW = large_NCHW.unflatten(0, (batch, frames)).transpose(1, 2).clamp(-1, 1)
    return normalise(vae, vae.encode(large_BCTHW).latent_dist.mode())[:, :, int(middle) :]


def shared_places(conditions: WindowConditions, *, middle: bool) -> list[int]:
    """The window's latents with a still or with the first frame of a clip."""
    frames = [*conditions.stills, *(start for start, _ in conditions.clips)]
    return sorted(latent_of(frame) - middle for frame in frames)


def shared_frames_of(condition_BCLHW: Tensor, places: Sequence[int]) -> Tensor:
    """The frames of `upscale.appended_frames`, for a batch: (B, Z + C + Z, N, H, W)."""
    slots_BCNHW = torch.stack([condition_BCLHW[:, :, place] for place in places], 2)
    stills_BZNHW = slots_BCNHW[:, MASK_CHANNELS:]
    return torch.cat((stills_BZNHW, slots_BCNHW, stills_BZNHW), 1)
