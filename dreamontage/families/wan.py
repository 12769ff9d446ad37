"""What the tasks of all Wan families have in common: the DiT or its two experts, called and guided.

Shape legend: B batch, C channels, L latent frames, H W latent height and width, S tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dreamontage.planning.segments import Segment
from dreamontage.sampling.conditioning.model_inputs import ShotConditions
from dreamontage.sampling.guiders import Branch, Guider, Predictions, guide
from dreamontage.sampling.schedulers import scheduler_step


@dataclass(frozen=True, kw_only=True)
class WanInputs:
    """The inputs of one call of the DiT that depend on the step.

    ``times``: (B,), or (B, S) for a time for every token.
    ``appended``: what our DiT takes beside diffusers' inputs (Shared-RoPE).
    """

    hidden_BCLHW: Tensor
    times: Tensor
    appended: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WanModel:
    """The DiT with everything that stays the same over a segment.

    Two experts (Wan 2.2 A14B): ``experts[0]`` from high noise down to the timestep ``boundary``,
    ``experts[1]`` below it.

    ``guiders``: those of each expert.
    ``prompts``: the text embeddings, (1, S, D), of every branch that the guiders need.
    ``image_BSD``: tokens of a CLIP vision encoder, Wan 2.1 image-to-video only.
    ``batched``: make the calls of a step in one batch. That is faster where a single call leaves
        the device idle, and takes more memory. It may round differently, so bits may change.
    """

    experts: Sequence[Any]
    guiders: Sequence[Sequence[Guider]]
    prompts: Mapping[Branch, Tensor]
    image_BSD: Tensor | None = None
    boundary: float | None = None
    batched: bool = False

    def velocity(
        self, t: Tensor, inputs: Callable[[Branch], WanInputs], context: str = ""
    ) -> Tensor:
        """The guided velocity at timestep ``t``, (B, C, L, H, W).

        Args:
            inputs: those of a branch's call.
            context: keeps the step caches of these calls apart from others of the same step.
        """
        low_noise = self.boundary is not None and bool(t < self.boundary)
        model = self.experts[low_noise]

        def predict(branches: Sequence[Branch]) -> Predictions:
            calls = [inputs(branch) for branch in branches]
            texts = [self.prompts[branch] for branch in branches]
            if self.batched and _one_shape(calls) and len({text.shape for text in texts}) == 1:
                name = "+".join(branches) + context
                sample = self._call(model, name, _batch(calls), torch.cat(texts), len(calls))
                return dict(zip(branches, sample.chunk(len(calls)), strict=True))
            return {
                branch: self._call(model, branch + context, call, text)
                for branch, call, text in zip(branches, calls, texts, strict=True)
            }

        return guide(self.guiders[low_noise], predict)

    def _call(
        self, model: Any, context: str, call: WanInputs, prompt_BSD: Tensor, repeats: int = 1
    ) -> Tensor:
        image_BSD = self.image_BSD
        if image_BSD is not None and repeats > 1:
            image_BSD = image_BSD.repeat(repeats, 1, 1)
        with model.cache_context(context):
            (sample_BCLHW,) = model(
                hidden_states=call.hidden_BCLHW.to(model.dtype),
                timestep=call.times,
                encoder_hidden_states=prompt_BSD,
                encoder_hidden_states_image=image_BSD,
                return_dict=False,
                **call.appended,
            )
        velocity_BCLHW: Tensor = sample_BCLHW
        return velocity_BCLHW


def _one_shape(calls: Sequence[WanInputs]) -> bool:
    return len({(call.hidden_BCLHW.shape, call.times.shape) for call in calls}) == 1


def _batch(calls: Sequence[WanInputs]) -> WanInputs:
    """Calls of one shape as one call. What is appended is the same in all branches of a step."""
    appended = {
        name: value.repeat(len(calls), *[1] * (value.ndim - 1))
        if isinstance(value, Tensor)
        else value
        for name, value in calls[0].appended.items()
    }
    return WanInputs(
        hidden_BCLHW=torch.cat([call.hidden_BCLHW for call in calls]),
        times=torch.cat([call.times for call in calls]),
        appended=appended,
    )


@dataclass(frozen=True, kw_only=True)
class Window:
    """A segment with all that a family makes its task of.

    ``conditions``: the shot's; those of a loop's closing segment hold the loop's head.
    ``unconditional``: the same for the image-unconditional branch; None if it is not called.
    ``noise_BCLHW``: where the loop starts.
    ``tail_BCLHW``: the latents that the segment before hands over; None for the first.
    ``scheduler``: the task's own, its timesteps set.
    ``generator``: the noise's, from which a scheduler may go on drawing.
    """

    segment: Segment
    conditions: ShotConditions
    unconditional: ShotConditions | None
    noise_BCLHW: Tensor
    tail_BCLHW: Tensor | None
    scheduler: Any
    generator: torch.Generator | None

    @property
    def branches(self) -> dict[Branch, ShotConditions]:
        """The conditions of each branch's calls."""
        branches = {
            Branch.CONDITIONAL: self.conditions,
            Branch.PROMPT_UNCONDITIONAL: self.conditions,
        }
        if self.unconditional is not None:
            branches[Branch.IMAGE_UNCONDITIONAL] = self.unconditional
        return branches


@dataclass(frozen=True, kw_only=True)
class WanTask(ABC):
    """A window of video, denoised by a Wan DiT. A :class:`dreamontage.sampling.task.Task`."""

    model: WanModel
    latents: Tensor
    scheduler: Any
    generator: torch.Generator | None

    @abstractmethod
    def inputs(self, latents_BCLHW: Tensor, t: Tensor, branch: Branch) -> WanInputs:
        """The inputs of a branch's call."""

    def velocity(self, latents_BCLHW: Tensor, t: Tensor) -> Tensor:
        return self.model.velocity(t, lambda branch: self.inputs(latents_BCLHW, t, branch))

    def step(self, latents: Tensor, t: Tensor) -> Tensor:
        velocity_BCLHW = self.velocity(latents, t)
        return scheduler_step(self.scheduler, velocity_BCLHW, t, latents, self.generator)

    def finish(self, latents: Tensor) -> Tensor:
        return latents
