"""The models of a render in this process: loaded pipelines, and what a plan needs to know of them.

Shape legend: B batch, S tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dreamontage.models import autoencoder
from dreamontage.pipeline.acceleration import SpeedOptions
from dreamontage.pipeline.coarse import refinable as refinable_by
from dreamontage.pipeline.pipeline import DreaMontagePipeline
from dreamontage.pipeline.upscale import model as upscale_model
from dreamontage.pipeline.upscale.stage import sr_model
from dreamontage.planning.segment_keys import RenderSettings, sampler_to_json
from dreamontage.planning.upscale_settings import Upscaler
from dreamontage.rendering.preflight import upscale_strength_errors
from dreamontage.rendering.record import ModelRecord, model_record
from dreamontage.rendering.take_plan import Stage, StageModel
from dreamontage.storyboard import Sampler, Storyboard
from dreamontage.storyboard.errors import FieldError


@dataclass(frozen=True, kw_only=True)
class LoadedModels:
    """The base model and, for a storyboard with ``upscale``, the super-resolution model."""

    board: Storyboard
    base: DreaMontagePipeline
    sr: DreaMontagePipeline | None

    def upscale_errors(self, sr: DreaMontagePipeline | None) -> list[FieldError]:
        """What keeps the storyboard from being enlarged by ``sr``."""
        if self.board.upscale is None or sr is None:
            return upscale_model.errors(self.board, None, autoencoder="")
        facts = sr_model(sr, "the model given")
        known_by = autoencoder.revision(self.base.vae)
        if errors := upscale_model.errors(self.board, facts, autoencoder=known_by):
            return errors
        strength = facts.upscaler(self.board.upscale).strength
        steps = self.steps(Stage.UPSCALE)
        return upscale_strength_errors(self.board, sr.scheduler, steps, strength)

    def stage(self, stage: Stage) -> StageModel:
        """A stage's model as a plan knows it."""
        upscaler = self.upscaler() if stage is Stage.UPSCALE else None
        geometry = self.pipeline(stage).geometry
        refinable = stage is not Stage.UPSCALE and refinable_by(
            self.base.scheduler, self.steps(stage)
        )
        return StageModel(
            settings=self.settings(stage), geometry=geometry, upscaler=upscaler, refinable=refinable
        )

    def settings(self, stage: Stage) -> RenderSettings:
        pipe = self.pipeline(stage)
        # The super-resolution model has its own sampler's settings.
        asked = Sampler() if stage is Stage.UPSCALE else self.board.sampler
        sampler = pipe.sampler(asked.steps, asked.guidance, image_guidance=asked.image_guidance)
        return RenderSettings(
            revision=pipe.revision,
            machine=self.machine(stage),
            sampler=sampler_to_json(
                steps=sampler.steps,
                guidance=sampler.guidance,
                image_guidance=sampler.image_guidance,
            ),
            negative_prompt=self.board.negative_prompt,
        )

    def steps(self, stage: Stage) -> int:
        return int(self.settings(stage).sampler["steps"])

    def upscaler(self) -> Upscaler:
        assert self.sr is not None
        assert self.board.upscale is not None
        return sr_model(self.sr, "the model given").upscaler(self.board.upscale)

    @property
    def smoke(self) -> bool:
        """Whether barely trained weights have a part in the film."""
        return any(pipe.config.release_stage == "smoke" for pipe in (self.base, self.sr) if pipe)

    def record(self, stage: Stage) -> ModelRecord:
        pipe = self.pipeline(stage)
        options = getattr(pipe, "speed", SpeedOptions())
        folder = Path(pipe.config.get("_name_or_path") or "").name
        return model_record(folder, pipe.revision, self.machine(stage), options)

    # What the engine asks, as `engine.Models` has it.

    def pipeline(self, stage: Stage) -> DreaMontagePipeline:
        found = self.sr if stage is Stage.UPSCALE else self.base
        assert found is not None, "only a film that is enlarged has the upscale stage"
        return found

    def machine(self, stage: Stage) -> str:
        pipe = self.pipeline(stage)
        return f"{pipe.device.type} {str(pipe.dtype).removeprefix('torch.')}"

    def text_revision(self, stage: Stage) -> str:
        return self.pipeline(stage).revision

    @torch.no_grad()
    def encode(self, stage: Stage, prompts: Sequence[str]) -> Iterator[Tensor]:
        pipe = self.pipeline(stage)
        for prompt in prompts:
            embedding_BSD, _ = pipe.encode_prompt(
                prompt,
                do_classifier_free_guidance=False,
                max_sequence_length=pipe.config.max_sequence_length,
                device=pipe._execution_device,
            )
            yield embedding_BSD
