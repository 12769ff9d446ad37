"""Guidance: which calls of the model a step makes, and how their predictions become one.

Each guider is a small object. It names the one branch that it needs beside the conditional one, and
moves the prediction away from it. Guiders work one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from torch import Tensor


class Branch(StrEnum):
    """A call of the model. The value names the context in which step caches keep its history."""

    CONDITIONAL = "cond"  # the prompt and the conditions
    PROMPT_UNCONDITIONAL = "uncond"  # the negative prompt and the conditions
    IMAGE_UNCONDITIONAL = "image_uncond"  # the prompt, without the shot's conditions


Predictions = Mapping[Branch, Tensor]


class Guider(Protocol):
    """Moves a prediction away from that of another branch."""

    @property
    def branch(self) -> Branch:
        """The call that it needs beside the conditional one."""
        ...

    def __call__(self, guided: Tensor, predictions: Predictions) -> Tensor:
        """The prediction after this guider.

        Args:
            guided: the prediction after the guiders before it; at first the conditional one.
            predictions: that of every branch that was called.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PromptGuidance:
    """Classifier-free guidance (Ho and Salimans, 2022). It has to be the first guider: it starts
    from the negative prompt's prediction, as diffusers does it, so that bits agree.
    """

    scale: float
    branch: Branch = Branch.PROMPT_UNCONDITIONAL

    def __call__(self, guided: Tensor, predictions: Predictions) -> Tensor:
        uncond = predictions[self.branch]
        return uncond + self.scale * (guided - uncond)


@dataclass(frozen=True, kw_only=True)
class ImageGuidance:
    """Guidance by the conditions, as by the picture in Brooks et al., "InstructPix2Pix", 2023.

    The image-unconditional branch has no condition of the shot, only what the film itself hands
    over (and what a CLIP encoder sees, of all of them). The conditions then move the prediction
    ``scale`` times as far away from that branch's as they do by themselves.
    """

    scale: float
    branch: Branch = Branch.IMAGE_UNCONDITIONAL

    def __call__(self, guided: Tensor, predictions: Predictions) -> Tensor:
        cond, uncond = predictions[Branch.CONDITIONAL], predictions[self.branch]
        return guided + (self.scale - 1) * (cond - uncond)


def guide(guiders: Sequence[Guider], predict: Callable[[Sequence[Branch]], Predictions]) -> Tensor:
    """The guided prediction of one step.

    Args:
        predict: calls the model for some branches: one after the other, or as one batch.
    """
    predictions = predict([Branch.CONDITIONAL, *(guider.branch for guider in guiders)])
    guided = predictions[Branch.CONDITIONAL]
    for guider in guiders:
        guided = guider(guided, predictions)
    return guided
