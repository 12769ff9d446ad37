"""Ways to make a film without a model: the controls that a model has to beat.

Shapes: T frames, H W height and width, C = 3 colours (uint8). Flow is in pixels (x, y).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dreamontage.evaluation import names
from dreamontage.evaluation.material import Pixels
from dreamontage.evaluation.tasks import Task
from dreamontage.media.optical_flow import DenseFlow, gray, warp
from dreamontage.models import autoencoder

SOFTNESS = 2.0
"""Standard deviation, in pixels, of the blurred cross-fade's blur."""


class Method(Protocol):
    """Makes the film that a task asks for."""

    @property
    def name(self) -> str:
        """As tables show it."""
        ...

    @property
    def revision(self) -> str:
        """A digest of everything, beside the task, that determines its films."""
        ...

    def film(self, task: Task) -> Pixels:
        """frames_THWC, as many as the task has."""
        ...


def source_revision(*files: str | Path) -> str:
    """A digest of code, so that films and scores made by other code are not taken for today's."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


class Truth:
    """The film that was asked for: what a perfect film scores."""

    name = names.TRUTH
    revision = "truth"

    def film(self, task: Task) -> Pixels:
        return task.truth.frames_THWC


class _Interpolation:
    """Between two given frames something of both; before the first and after the last, those."""

    name: str

    @property
    def revision(self) -> str:
        return f"{self.name} {source_revision(__file__)}"

    def between(self, before_HWC: Pixels, after_HWC: Pixels, shares: list[float]) -> list[Pixels]:
        """A picture for each share of the way from one to the other."""
        raise NotImplementedError

    def film(self, task: Task) -> Pixels:
        places, pictures = list(task.pictures), task.pictures
        frames: list[Pixels] = [pictures[places[0]]] * places[0]
        for first, last in zip(places, [*places[1:], task.frames], strict=True):
            frames.append(pictures[first])
            if last == task.frames:
                frames += [pictures[first]] * (last - first - 1)
            elif last - first > 1:
                shares = [(frame - first) / (last - first) for frame in range(first + 1, last)]
                frames += self.between(pictures[first], pictures[last], shares)
        return np.stack(frames)


class CrossFade(_Interpolation):
    """The pictures dissolve into each other."""

    name = names.FADE

    def between(self, before_HWC: Pixels, after_HWC: Pixels, shares: list[float]) -> list[Pixels]:
        return [
            _uint8(before_HWC * (1.0 - share) + after_HWC * np.float64(share)) for share in shares
        ]


class BlurredCrossFade(CrossFade):
    """The same, out of focus where nothing is given: what a model that hedges would show."""

    name = names.SOFT_FADE

    def between(self, before_HWC: Pixels, after_HWC: Pixels, shares: list[float]) -> list[Pixels]:
        fades = super().between(before_HWC, after_HWC, shares)
        return [np.asarray(cv2.GaussianBlur(fade, (0, 0), SOFTNESS), np.uint8) for fade in fades]


class OpticalFlow(_Interpolation):
    """DIS optical flow both ways, both pictures warped to where they meet, and blended.

    Flow at a time between is put together as Super SloMo does it (Jiang et al. 2018, eq. 4).
    """

    name = names.FLOW

    def between(self, before_HWC: Pixels, after_HWC: Pixels, shares: list[float]) -> list[Pixels]:
        before_HW, after_HW = gray(before_HWC), gray(after_HWC)
        flow = DenseFlow("medium")
        there_HW2, back_HW2 = flow(before_HW, after_HW), flow(after_HW, before_HW)
        made = []
        for t in shares:
            to_before = -(1 - t) * t * there_HW2 + t * t * back_HW2
            to_after = (1 - t) ** 2 * there_HW2 - t * (1 - t) * back_HW2
            made.append(
                _uint8((1 - t) * warp(before_HWC, to_before) + t * warp(after_HWC, to_after))
            )
        return made


class CodecRoundTrip:
    """Another method's film, encoded and decoded: ours comes out of the codec, too."""

    def __init__(self, name: str, method: Method, vae: Any, revision: str) -> None:
        self.name, self.inner, self.vae = name, method, vae
        self.revision = f"codec {revision} of {method.revision}"

    def film(self, task: Task) -> Pixels:
        frames_THWC = self.inner.film(task)
        missing = -(len(frames_THWC) - 1) % int(self.vae.config.scale_factor_temporal)
        padded_THWC = np.concatenate([frames_THWC, *[frames_THWC[-1:]] * missing])
        video_BCTHW = torch.from_numpy(padded_THWC).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        latents_BCLHW = autoencoder.encode(self.vae, video_BCTHW)
        runs = autoencoder.decode(self.vae, [latents_BCLHW])
        return np.concatenate([autoencoder.to_uint8(run) for run in runs])[: task.frames]


def _uint8(picture_HWC: NDArray[Any]) -> Pixels:
    return np.asarray(np.rint(picture_HWC).clip(0, 255), np.uint8)
