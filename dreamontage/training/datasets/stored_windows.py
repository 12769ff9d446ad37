"""Training windows drawn from stored latents, as `windows` draws them from pixels.

Conditions and condition channels are the same. A still is its stored latent of one frame. Of a
clip, the first latent is the first frame's still, and the rest is drawn again from the stored
posterior. A middle window is cut from the latents of the whole clip. Two conditions need pixels and
are moved **[ours]**: a still at a frame that is not stored moves to the frame that ends its latent,
and a clip ends with a latent.

A start window begins at the clip's first frame. With a causal autoencoder, only there are the
latents the same as in a shot. With a codec without memory they are the same anywhere, so a start
window begins at any latent, and its first latent is that frame's still.

Shapes as in `windows`; N latents of a clip.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS, mark
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of
from dreamontage.training.datasets.shards import Dataset, Facts, in_model_units
from dreamontage.training.datasets.windows import (
    ADAPTIVE,
    ConditionMix,
    WindowConditions,
    Windows,
    draw_conditions,
)
from dreamontage.training.synthetic.captions import prompt_for


@dataclass(frozen=True, kw_only=True)
class Place:
    """A window's place in a stored clip.

    clip: its number in the data set. start: the latent whose last frame is the window's frame 0. It
    is the first latent of a start window, or the one before the first of a middle window.
    """

    clip: int
    start: int
    latents: int
    middle: bool

    @property
    def frame(self) -> int:
        """The clip's frame that is the window's frame 0."""
        return TEMPORAL_STRIDE * self.start

    @property
    def first(self) -> int:
        """The clip's first latent within the window."""
        return self.start + self.middle


def draw_place(
    rng: random.Random, data: Dataset, clip: int, *, latents: int, middle: bool
) -> Place:
    """A random window of a clip.

    The clip must have `latents` latents, and one more for a middle window.
    """
    last = data.clips[clip].latents - latents - middle
    assert last >= 0, "the clip is too short for the window"
    anywhere = middle or data.codec.memoryless
    return Place(
        clip=clip, start=rng.randint(0, last) if anywhere else 0, latents=latents, middle=middle
    )


def storable(drawn_conditions: WindowConditions, facts: Facts, place: Place) -> WindowConditions:
    """The guides with stills and clips moved to stored frames, each within its own latent."""
    stored = {frame - place.frame for frame in facts.stills}
    stills = tuple(
        frame if frame in stored else TEMPORAL_STRIDE * latent_of(frame)
        for frame in drawn_conditions.stills
    )
    clips = tuple(
        (start, 1 + (frames - 1) // TEMPORAL_STRIDE * TEMPORAL_STRIDE)
        for start, frames in drawn_conditions.clips
    )
    return replace(drawn_conditions, stills=stills, clips=clips)


def build(
    data: Dataset,
    places: Sequence[Place],
    drawn_conditions: Sequence[WindowConditions],
    prompts: list[str],
    *,
    generator: torch.Generator,
) -> Windows:
    """Read a batch of windows and fill their condition channels; on the CPU, in float32.

    Args:
        guides: one for each place, `storable` there. Places differ in clip and start only.
        generator: draws the posterior's noise, on the CPU.
    """
    whole, conditions = [], []
    for place, window_conditions in zip(places, drawn_conditions, strict=True):
        whole_ZLHW, drawn_ZLHW = _latents(data, place, generator)
        whole.append(whole_ZLHW)
        conditions.append(_condition(data, place, window_conditions, whole_ZLHW, drawn_ZLHW))
    return Windows(
        latents_BZLHW=torch.stack(whole), condition_BCLHW=torch.stack(conditions), prompts=prompts
    )


def _latents(data: Dataset, place: Place, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The window's latents, which are the posterior's means, and a sample of the posterior."""
    mean_ZLHW, logvar_ZLHW = data.posterior(place.clip, place.first, place.first + place.latents)
    mean_ZLHW = mean_ZLHW.float()
    if not place.middle and place.start:
        mean_ZLHW[:, 0] = data.still(place.clip, place.frame).float()
    noise_ZLHW = torch.randn(mean_ZLHW.shape, generator=generator)
    drawn_ZLHW = mean_ZLHW + torch.exp(0.5 * logvar_ZLHW.float()) * noise_ZLHW
    return in_model_units(data.codec, mean_ZLHW, 0), in_model_units(data.codec, drawn_ZLHW, 0)


def _condition(
    data: Dataset,
    place: Place,
    window_conditions: WindowConditions,
    whole_ZLHW: Tensor,
    drawn_ZLHW: Tensor,
) -> Tensor:
    skip = int(place.middle)
    _, length, height, width = whole_ZLHW.shape
    mask_ML = torch.zeros(MASK_CHANNELS, length)
    given_ZLHW = torch.zeros_like(whole_ZLHW)
    given_ZLHW[:, : window_conditions.tail] = whole_ZLHW[:, : window_conditions.tail]
    mask_ML[:, : window_conditions.tail] = 1
    alone = list(window_conditions.stills)
    for start, frames in window_conditions.clips:
        alone.append(start)
        inside = slice(latent_of(start) + 1 - skip, latent_of(start + frames - 1) + 1 - skip)
        given_ZLHW[:, inside] = drawn_ZLHW[:, inside]
        mask_ML[:, inside] = 1
    for frame in alone:
        slot = latent_of(frame) - skip
        still_ZHW = data.still(place.clip, place.frame + frame)
        given_ZLHW[:, slot] = in_model_units(data.codec, still_ZHW, 0)
        mark(mask_ML, slot, frame)
    mask_MLHW = mask_ML[..., None, None].expand(-1, -1, height, width)
    return torch.cat((mask_MLHW, given_ZLHW))


def draw(
    data: Dataset,
    clips: Sequence[int],
    *,
    latents: int,
    middle: bool,
    tail: int,
    seed: int,
    condition_mix: ConditionMix = ADAPTIVE,
    prompt_dropout: float = 0.1,
) -> Windows:
    """Cut one window from a random place of each clip; the clips must be of one latent size."""
    rng = random.Random(seed)
    places, drawn_conditions, prompts = [], [], []
    for clip in clips:
        facts = data.clips[clip]
        place = draw_place(rng, data, clip, latents=latents, middle=middle)
        drawn = draw_conditions(
            rng,
            latents=latents,
            middle=middle,
            tail=tail,
            boundaries=[frame - place.frame for frame in facts.boundaries()],
            condition_mix=condition_mix,
        )
        count = 1 + TEMPORAL_STRIDE * (latents if middle else latents - 1)
        prompt = prompt_for(
            facts.actions, first=place.frame + middle, count=count - middle, fps=float(facts.fps)
        )
        places.append(place)
        drawn_conditions.append(storable(drawn, facts, place))
        prompts.append(prompt if rng.random() >= prompt_dropout else "")
    generator = torch.Generator().manual_seed(seed)
    return build(data, places, drawn_conditions, prompts, generator=generator)
