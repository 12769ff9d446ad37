"""Training windows with their conditions, drawn as they are at inference (adaptive tuning).

A window is either a shot's start (latent 0 is one frame) or cut from its middle (every latent is
four frames, and the first latents are given, like the tail of SAR). Stills are encoded alone. A
clip's first frame is encoded alone, and the rest is drawn again from the posterior (DreaMontage,
"Adaptive Tuning"). `conditioning.IntermTrack` builds the same for one shot; here it is built for a
whole batch. A test compares the two.

Shapes: B windows, C colour channels, Z latent channels, M mask channels, T frames, L latent frames,
H W height and width of either, N stills.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dreamontage.models.autoencoder import normalise
from dreamontage.models.devices import ship
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of, offset_in_latent
from dreamontage.training.synthetic.scenes import Scenes


@dataclass(frozen=True, kw_only=True)
class WindowConditions:
    """The conditions of one window.

    Frames are counted from frame 0, which is latent 0 of a start window, or the frame before the
    first latent of a middle window.
    """

    stills: tuple[int, ...] = ()
    clips: tuple[tuple[int, int], ...] = ()  # first frame (a multiple of 4), and frames
    tail: int = 0  # latents given whole at the window's head


@dataclass(frozen=True, kw_only=True)
class ConditionMix:
    """Weights of the kinds of conditions, in a start window and in a middle one."""

    start: Mapping[str, float]
    middle: Mapping[str, float]


FIRST_FRAME = ConditionMix(start={"none": 30, "first": 70}, middle={"none": 100})
"""The conditions of stock image-to-video weights: a text, and sometimes a first frame."""

ADAPTIVE = ConditionMix(
    start={
        "none": 8,
        "first": 17,
        "last": 8,
        "first_last": 20,
        "several": 27,
        "clip": 12,
        "clips": 8,
    },
    middle={"none": 20, "last": 20, "several": 35, "clip": 17, "clips": 8},
)
"""Stills and clips anywhere, as in the studio's storyboards."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A batch to train on: normalised latents, condition channels, and prompts."""

    latents_BZLHW: Tensor
    condition_BCLHW: Tensor  # C = M + Z
    prompts: list[str] = field(repr=False)


def draw_conditions(
    rng: random.Random,
    *,
    latents: int,
    middle: bool,
    tail: int,
    boundaries: Sequence[int] = (),
    condition_mix: ConditionMix = ADAPTIVE,
) -> WindowConditions:
    """Draw one window's conditions.

    `boundaries`: frames where an action begins or ends. Half of the stills are drawn from them, as
    in the paper; the others from all frames.
    """
    if middle:
        # Some tails are longer: a clip that began before the window gives whole latents too.
        usual, chance = tail, rng.random()
        tail = usual if chance < 0.8 else 1 if chance < 0.9 else rng.randint(usual, latents - 1)
        base = TEMPORAL_STRIDE * tail + 1  # the first frame after the tail
        last = TEMPORAL_STRIDE * latents
    else:
        tail, base, last = 0, 0, TEMPORAL_STRIDE * (latents - 1)
    kinds = condition_mix.middle if middle else condition_mix.start
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    stills: list[int] = []
    clips: list[tuple[int, int]] = []
    if kind in ("first", "first_last"):
        stills.append(base)
    if kind in ("last", "first_last"):
        stills.append(last)
    if kind == "several":
        marks = [frame for frame in boundaries if base <= frame <= last]
        for _ in range(rng.randint(1, 4)):
            by_mark = bool(marks) and rng.random() < 0.5
            stills.append(rng.choice(marks) if by_mark else rng.randint(base, last))
    starts = range(-(-base // TEMPORAL_STRIDE), last // TEMPORAL_STRIDE + 1)
    if kind == "clip":
        start = TEMPORAL_STRIDE * rng.choice(starts)
        if not middle and rng.random() < 0.4:
            start = 0  # an extension, the most frequent use of a clip
        clips.append((start, min(rng.randint(2, 25), last - start + 1)))
        if rng.random() < 0.3:
            stills.append(last)
    if kind == "clips":
        # One near the beginning, and one that ends with the window, as in a transition.
        first = TEMPORAL_STRIDE * starts[0]
        clips.append((first, rng.randint(2, max(2, (last - first) // 2 - TEMPORAL_STRIDE))))
        # The second clip must not use the latent in which the first one ends.
        free = TEMPORAL_STRIDE * latent_of(sum(clips[0]) - 1) + 1
        later = [TEMPORAL_STRIDE * each for each in starts if TEMPORAL_STRIDE * each >= free]
        if later:
            start = rng.choice(later)
            clips.append((start, last - start + 1))
        if rng.random() < 0.3:
            stills.append(rng.randint(base, last))
    clips = [clip for clip in clips if sum(clip) - 1 <= last]
    taken = {
        latent
        for start, frames in clips
        for latent in range(latent_of(start), latent_of(start + frames - 1) + 1)
    }
    apart = {latent_of(frame): frame for frame in stills if latent_of(frame) not in taken}
    return WindowConditions(stills=tuple(sorted(apart.values())), clips=tuple(clips), tail=tail)


def _encode_alone(vae: Any, video_NCTHW: Tensor) -> Tensor:
    return normalise(vae, vae.encode(video_NCTHW.to(vae.device)).latent_dist.mode())


def build(
    vae: Any,
    video_BCTHW: Tensor,
    conditions: Sequence[WindowConditions],
    prompts: list[str],
    *,
    middle: bool,
    generator: torch.Generator,
) -> Windows:
    """Encode a batch of windows and fill their condition channels.

    Args:
        video_BCTHW: 1 + 4 L frames of a middle window (the first is only the encoder's past), or
            1 + 4 (L - 1) frames of a start window.
        generator: draws the posterior's noise, on the video's device.
    """
    device = video_BCTHW.device
    posterior = vae.encode(video_BCTHW).latent_dist
    skip = 1 if middle else 0
    whole_BZLHW = normalise(vae, posterior.mode())[:, :, skip:]
    drawn_BZLHW = normalise(vae, posterior.sample(generator))[:, :, skip:]
    batch, _, length, height, width = whole_BZLHW.shape

    # All places are listed first and filled at once: single writes would be thousands a second.
    mask_BML = np.zeros((batch, MASK_CHANNELS, length), np.float32)
    alone: list[tuple[int, int, int]] = []  # window, slot and frame of every picture encoded alone
    later: list[tuple[int, int]] = []  # window and slot of a clip's later latents
    partial: list[tuple[int, int, int, int]] = []  # window, slot, first frame, frames of it
    for b, window_conditions in enumerate(conditions):
        mask_BML[b, :, : window_conditions.tail] = 1
        stills = list(window_conditions.stills)
        for start, frames in window_conditions.clips:
            stills.append(start)
            for slot in range(start // TEMPORAL_STRIDE + 1, latent_of(start + frames - 1) + 1):
                first = TEMPORAL_STRIDE * (slot - 1) + 1
                here = min(TEMPORAL_STRIDE, start + frames - first)
                if here < TEMPORAL_STRIDE:
                    partial.append((b, slot - skip, first, here))
                else:
                    later.append((b, slot - skip))
                mask_BML[b, :here, slot - skip] = 1
        for frame in stills:
            alone.append((b, latent_of(frame) - skip, frame))
            channels = slice(None) if frame == 0 else offset_in_latent(frame)
            mask_BML[b, channels, latent_of(frame) - skip] = 1

    tails_B = ship(
        torch.tensor([window_conditions.tail for window_conditions in conditions]), device
    )
    in_tail_BL = torch.arange(length, device=device) < tails_B[:, None]
    given_BZLHW = whole_BZLHW * in_tail_BL[:, None, :, None, None]
    if later:
        rows, slots = ship(torch.tensor(later), device).unbind(1)
        given_BZLHW[rows, :, slots] = drawn_BZLHW[rows, :, slots]
    if alone:
        rows, slots, frames_N = ship(torch.tensor(alone), device).unbind(1)
        stills_NZ1HW = _encode_alone(vae, video_BCTHW[rows, :, frames_N][:, :, None])
        given_BZLHW[rows, :, slots] = stills_NZ1HW[:, :, 0]
    if partial:
        # The last frame is repeated to fill the latent. The frame before is the encoder's past.
        runs = [
            [first - 1, *(min(first + i, first + n - 1) for i in range(TEMPORAL_STRIDE))]
            for _, _, first, n in partial
        ]
        rows, slots = ship(torch.tensor([each[:2] for each in partial]), device).unbind(1)
        video_NTCHW = video_BCTHW[rows[:, None], :, ship(torch.tensor(runs), device)]
        given_BZLHW[rows, :, slots] = _encode_alone(vae, video_NTCHW.transpose(1, 2))[:, :, 1]
    mask_BML11 = ship(torch.from_numpy(mask_BML), device)[..., None, None]
    mask_BMLHW = mask_BML11.expand(-1, -1, -1, height, width)
    condition_BCLHW = torch.cat((mask_BMLHW, given_BZLHW), 1)
    return Windows(latents_BZLHW=whole_BZLHW, condition_BCLHW=condition_BCLHW, prompts=prompts)


def draw(
    vae: Any,
    scenes: Scenes,
    *,
    latents: int,
    middle: bool,
    tail: int,
    seed: int,
    condition_mix: ConditionMix = ADAPTIVE,
    prompt_dropout: float = 0.1,
) -> Windows:
    """Cut one window from each scene, at one random place for the whole batch.

    The scenes must have at least 1 + 4 `latents` frames.
    """
    rng = random.Random(seed)
    count = 1 + TEMPORAL_STRIDE * (latents if middle else latents - 1)
    first = rng.randint(0, scenes.frames - count)
    video_BCTHW = scenes.render(first, count)
    conditions = [
        draw_conditions(
            rng,
            latents=latents,
            middle=middle,
            tail=tail,
            boundaries=[frame - first for frame in scenes.boundaries(b)],
            condition_mix=condition_mix,
        )
        for b in range(len(video_BCTHW))
    ]
    shown = scenes.prompts(first + middle, count - middle)
    prompts = [prompt if rng.random() >= prompt_dropout else "" for prompt in shown]
    generator = torch.Generator(video_BCTHW.device).manual_seed(seed)
    return build(vae, video_BCTHW, conditions, prompts, middle=middle, generator=generator)
