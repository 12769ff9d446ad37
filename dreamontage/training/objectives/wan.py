"""Tuning of full-size Wan weights on curated videos: LoRA or all weights, one process or many.

Conditions are drawn from stored latents as the paper does (`stored_windows`). A text-to-video DiT
gets the condition channels first. Of a model with two experts (Wan 2.2 A14B) a run trains one, on
that expert's times.

Shapes: B windows, Z latent channels, L latent frames, H W latent height and width, S tokens,
D width.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline
from diffusers.training_utils import cast_training_params
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from dreamontage.files import read_json
from dreamontage.models import autoencoder
from dreamontage.models.folder import folder_revision, read_index
from dreamontage.models.loading import autoencoder_of
from dreamontage.models.transformer import DreaMontageTransformer3DModel
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.storyboard.seeds import derive
from dreamontage.training.datasets import stored_windows, windows
from dreamontage.training.datasets.prompt_cache import PromptCache
from dreamontage.training.datasets.shards import Bucket, Dataset
from dreamontage.training.datasets.windows import ConditionMix
from dreamontage.training.loop.prefetch import Batch
from dreamontage.training.loop.recipe import Setting
from dreamontage.training.objectives import flow_matching, nano

# Attention, feed-forward, and the input layer, because its condition channels have a new meaning.
_LORA_TARGETS = (
    *("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"),
    "patch_embedding",
)
_HELD_EVERY = 50  # every n-th clip of a shape is held out, at least one
_SHEET_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class WanStudy:
    """What a run trains, and on what windows.

    Args:
        rank: of the LoRA; 0 trains all weights.
        expert: "transformer", or "transformer_2" for the low-noise expert of two.
        latents: of a window; Wan's own training films have 21.
        batch: windows per step and process.
        length: tokens of a prompt.
    """

    rank: int
    expert: str = "transformer"
    latents: int = 21
    tail: int = 2
    batch: int = 1
    length: int = 512
    condition_mix: ConditionMix = windows.ADAPTIVE
    uniform_times: float = 0.1
    checkpointing: bool = True


class StoredSource:
    """Draws windows of stored clips; all windows of a batch have one shape."""

    def __init__(self, data: Dataset, prompts: PromptCache, study: WanStudy) -> None:
        self.data, self.prompts, self.study = data, prompts, study
        self.train: dict[Bucket, list[int]] = {}
        self.held: dict[Bucket, list[int]] = {}
        for bucket, clips in data.windows(study.latents).items():
            if len(clips) < 2:
                continue  # one clip cannot be both trained on and held out
            self.held[bucket] = clips[::_HELD_EVERY]
            self.train[bucket] = [clip for n, clip in enumerate(clips) if n % _HELD_EVERY]
        if not self.train:
            raise ValueError(
                f"data = {data.folder}: no two clips of one size have {study.latents} latents, "
                f"{4 * study.latents - 3} frames"
            )

    def draw(self, seed: int, progress: float, repeat: int) -> Batch:
        rng = random.Random(seed)
        buckets = list(self.train)
        (bucket,) = rng.choices(buckets, [len(self.train[each]) for each in buckets])
        clips = rng.choices(self.train[bucket], k=self.study.batch * repeat)
        return self.batch(clips, seed=seed, middle=rng.random() < 0.5)

    def batch(self, clips: Sequence[int], *, seed: int, middle: bool) -> Batch:
        """A window of each clip: start windows if one clip is too short for a middle one."""
        shortest = min(self.data.clips[clip].latents for clip in clips)
        drawn = stored_windows.draw(
            self.data,
            clips,
            latents=self.study.latents,
            middle=middle and shortest > self.study.latents,
            tail=self.study.tail,
            seed=derive(seed, "windows"),
            condition_mix=self.study.condition_mix,
        )
        return {
            "latents": drawn.latents_BZLHW,
            "condition": drawn.condition_BCLHW,
            "prompts": self.prompts(drawn.prompts).float(),
        }


class StoredObjective:
    """See the module. `setting.init` is the model folder, `setting.data` a data set of `curate`.

    Raises:
        ValueError: when either is missing, or the data was encoded by another autoencoder.
    """

    def __init__(self, setting: Setting, study: WanStudy) -> None:
        if setting.init is None or setting.data is None:
            raise ValueError("init and data: this recipe needs a model folder and a data set")
        self.study, self.setting, self.folder = study, setting, setting.init
        data = Dataset(setting.data)
        if data.codec.revision != folder_revision(self.folder / "vae"):
            raise ValueError(
                f"data = {setting.data}: was encoded by another autoencoder than that of "
                f"{self.folder}"
            )
        self.between, self.shift = read_schedule(self.folder, study.expert)
        prompts = PromptCache(
            setting.data / "prompts",
            model=self.folder,
            length=study.length,
            device=setting.device,
            dtype=torch.bfloat16 if setting.bfloat16 else torch.float32,
        )
        self.source = StoredSource(data, prompts, study)
        self.model = (lora_model if study.rank else whole_model)(
            self.folder,
            study,
            channels=len(data.codec.mean),
            bfloat16=setting.bfloat16,
            seed=derive(setting.seed, "model"),
        )
        self.held_out = [
            self.source.batch(clips[:1], seed=derive(setting.seed, "held out"), middle=False)
            for clips in self.source.held.values()
        ]

    def loss(self, model: Any, batch: Batch, *, seed: int) -> tuple[Tensor, int]:
        generator = torch.Generator(self.setting.device).manual_seed(derive(seed, "noise"))
        count = len(batch["latents"])
        times_B = flow_matching.draw_times(
            count,
            shift=self.shift,
            uniform=self.study.uniform_times,
            generator=generator,
            between=self.between,
        )
        return self._errors(model, batch, times_B, generator).mean(), count

    def _errors(
        self, model: Any, batch: Batch, times_B: Tensor, generator: torch.Generator
    ) -> Tensor:
        on = {name: value.to(self.setting.device) for name, value in batch.items()}
        clean = on["latents"]
        noise_BZLHW = torch.randn(clean.shape, generator=generator, device=generator.device)
        return flow_matching.velocity_errors(
            model,
            clean,
            on["condition"],
            on["prompts"],
            times_B=times_B,
            noise_BZLHW=noise_BZLHW,
        )

    @torch.no_grad()
    def scores(self, model: Any) -> dict[str, float]:
        """The loss on held-out clips, at times spread over those of the expert."""
        generator = torch.Generator(self.setting.device)
        low, high = self.between
        errors = [
            self._errors(
                model,
                batch,
                torch.full((1,), low + (high - low) * share, device=self.setting.device),
                generator.manual_seed(index),
            )
            for batch in self.held_out
            for index, share in enumerate((0.1, 0.4, 0.7, 0.95))
        ]
        return {"loss": float(torch.cat(errors).mean())}

    @torch.no_grad()
    def films(self, model: Any) -> Sequence[Sequence[Tensor]]:
        """Held-out clips: the true one, its conditions, and the one that the model makes.

        One expert of two makes the whole schedule here, so its films look worse than the model's.
        """
        vae = autoencoder_of(self.folder / "vae").to(self.setting.device)
        groups = []
        for batch in self.held_out[:2]:
            on = {name: value.to(self.setting.device) for name, value in batch.items()}
            generator = torch.Generator(self.setting.device).manual_seed(0)
            shape = on["latents"].shape
            made = flow_matching.sample(
                model,
                on["condition"],
                on["prompts"],
                noise_BZLHW=torch.randn(shape, generator=generator, device=generator.device),
                steps=_SHEET_STEPS,
                shift=self.shift,
            )
            films = (on["latents"], on["condition"][:, MASK_CHANNELS:], made)
            groups.append([torch.cat(list(autoencoder.decode(vae, [f])), 2)[0] for f in films])
        return groups

    def export(self, state: Mapping[str, Tensor], folder: Path, facts: Mapping[str, Any]) -> None:
        export_weights(self.model, state, folder, init=self.folder, study=self.study)


def read_schedule(folder: Path, expert: str) -> tuple[tuple[float, float], float]:
    """The times of an expert, from and to, and the model's shift of them.

    Raises:
        ValueError: when the folder holds no such expert, or one that takes pictures in another way
            than by channels beside the noise: films would have inputs that it was not trained on.
    """
    if not (folder / expert).is_dir():
        raise ValueError(f"init = {folder}: holds no {expert}")
    index = read_json(folder / "model_index.json")
    other = None
    if index.get("expand_timesteps"):
        other = "as clean latents in place of the noise"
    if read_json(folder / expert / "config.json").get("image_dim") is not None:
        other = "by an image encoder too"
    if other is not None:
        raise ValueError(
            f"init = {folder}: takes pictures {other}, which this recipe does not train; "
            "start from Wan 2.2's A14B, or from text-to-video weights"
        )
    boundary = index.get("boundary_ratio")
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    shift = float(scheduler.get("flow_shift", scheduler.get("shift", nano.FLOW_SHIFT)))
    if boundary is None:
        return (0.0, 1.0), shift
    return ((0.0, boundary) if expert == "transformer_2" else (boundary, 1.0)), shift


def whole_model(
    folder: Path, study: WanStudy, *, channels: int, bfloat16: bool, seed: int
) -> DreaMontageTransformer3DModel:
    """The DiT with channels for conditions; all of it is trained, in float32."""
    return _grown(folder, study, channels, torch.float32)


def lora_model(
    folder: Path, study: WanStudy, *, channels: int, bfloat16: bool, seed: int
) -> DreaMontageTransformer3DModel:
    """The DiT with a LoRA to train.

    The LoRA is in float32: steps as small as ours would mostly be rounded away in bfloat16. The
    DiT's own weights are frozen, in the precision that the run computes in.
    """
    model = _grown(folder, study, channels, torch.bfloat16 if bfloat16 else torch.float32)
    model.requires_grad_(False)
    config = LoraConfig(r=study.rank, lora_alpha=study.rank, target_modules=list(_LORA_TARGETS))
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # every process and every restart begins with the same weights
        model.add_adapter(config)
    cast_training_params(model, torch.float32)
    return model


def _grown(
    folder: Path, study: WanStudy, channels: int, dtype: torch.dtype
) -> DreaMontageTransformer3DModel:
    model = DreaMontageTransformer3DModel.from_pretrained(folder / study.expert, torch_dtype=dtype)
    wanted = 2 * channels + MASK_CHANNELS
    if model.config.in_channels < wanted:
        model.grow_input(wanted)
    if study.checkpointing:
        model.enable_gradient_checkpointing()
    return model


def export_weights(
    model: DreaMontageTransformer3DModel,
    state: Mapping[str, Tensor],
    folder: Path,
    *,
    init: Path,
    study: WanStudy,
) -> None:
    """Write what was trained.

    LoRA: a file for `load_lora_weights`; for a second expert with `load_into_transformer_2`. All
    weights: a model folder, whose other files are links to those of `init`.
    """
    if study.rank:
        layers = get_peft_model_state_dict(model, state_dict=dict(state))
        WanPipeline.save_lora_weights(folder, transformer_lora_layers=layers)
        return
    for file in init.glob("*/**/*"):
        place = file.relative_to(init)
        if file.is_file() and place.parts[0] != study.expert:
            # Links to files and not to folders: a folder's revision does not follow the latter.
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).symlink_to(file.resolve())
    nano.copy_of(model, state).to(torch.bfloat16).save_pretrained(folder / study.expert)
    index = read_index(init) | {
        "conditioning": "interm",
        "window_latents": study.latents,
        "tail_latents": study.tail,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
