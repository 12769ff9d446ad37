"""Training windows with their conditions, drawn as inference will have them (adaptive tuning).

A window is either a shot's start (latent 0 is one frame) or cut from its middle (every latent is
four frames, and the first ones are given whole, as the tail that SAR hands over). Stills are
encoded alone; a clip's first frame is encoded alone and the rest drawn afresh from the posterior
(DreaMontage, "Adaptive Tuning"). What `conditioning.IntermTrack` builds one shot at a time is
built here for a whole batch; a test holds the two equal.

Shapes: B windows, C colour channels, Z latent channels, M mask channels, T frames, L latent frames,
H W height and width of either, N stills.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dreamontage.conditioning import MASK_CHANNELS
from dreamontage.models.autoencoder import normalise
from dreamontage.timeline import TEMPORAL_STRIDE, latent_of, offset_in_latent
from dreamontage.training.worlds import Scenes


@dataclass(frozen=True, kw_only=True)
class Guides:
    """What is given in one window. Frames count on a timeline whose frame 0 is latent 0 of a start
    window, or the frame before the first latent of a middle one."""

    stills: tuple[int, ...] = ()
    clip: tuple[int, int] | None = None  # first frame (a multiple of 4), and frames
    tail: int = 0  # latents given whole at the window's head


@dataclass(frozen=True, kw_only=True)
class Windows:
    """A batch to train on: normalised latents, what the DiT is told of them, and the prompts."""

    latents_BZLHW: Tensor
    condition_BCLHW: Tensor  # C = M + Z
    prompts: list[str] = field(repr=False)


# How often each kind of guidance is drawn, in a start window and in a middle one.
_START_KINDS = {"none": 10, "first": 20, "last": 10, "first_last": 20, "several": 25, "clip": 15}
_MIDDLE_KINDS = {"none": 25, "last": 20, "several": 30, "clip": 25}


def draw_guides(
    rng: random.Random, *, latents: int, middle: bool, tail: int, boundaries: Sequence[int] = ()
) -> Guides:
    """Draw one window's guides. `boundaries`: frames where an action begins or ends, taken as
    stills half of the time, as the paper takes them; other stills stand anywhere."""
    if middle:
        # Now and then a longer one: a clip that began before the window gives whole latents too.
        usual, chance = tail, rng.random()
        tail = usual if chance < 0.8 else 1 if chance < 0.9 else rng.randint(usual, latents - 1)
        base = TEMPORAL_STRIDE * tail + 1  # the first frame after the tail
        last = TEMPORAL_STRIDE * latents
    else:
        tail, base, last = 0, 0, TEMPORAL_STRIDE * (latents - 1)
    kinds = _MIDDLE_KINDS if middle else _START_KINDS
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    stills: list[int] = []
    clip = None
    if kind in ("first", "first_last"):
        stills.append(base)
    if kind in ("last", "first_last"):
        stills.append(last)
    if kind == "several":
        marks = [frame for frame in boundaries if base <= frame <= last]
        for _ in range(rng.randint(1, 4)):
            by_mark = bool(marks) and rng.random() < 0.5
            stills.append(rng.choice(marks) if by_mark else rng.randint(base, last))
    if kind == "clip":
        starts = range(-(-base // TEMPORAL_STRIDE), last // TEMPORAL_STRIDE + 1)
        start = TEMPORAL_STRIDE * rng.choice(starts)
        if not middle and rng.random() < 0.4:
            start = 0  # an extension, the commonest use of a clip
        clip = (start, min(rng.randint(2, 25), last - start + 1))
        if rng.random() < 0.3:
            stills.append(last)
    taken = set(range(latent_of(clip[0]), latent_of(sum(clip) - 1) + 1)) if clip else set()
    apart = {latent_of(frame): frame for frame in stills if latent_of(frame) not in taken}
    return Guides(stills=tuple(sorted(apart.values())), clip=clip, tail=tail)


def _encode_alone(vae: Any, video_NCTHW: Tensor) -> Tensor:
    return normalise(vae, vae.encode(video_NCTHW.to(vae.device)).latent_dist.mode())


def build(
    vae: Any,
    video_BCTHW: Tensor,
    guides: Sequence[Guides],
    prompts: list[str],
    *,
    middle: bool,
    generator: torch.Generator,
) -> Windows:
    """Encode a batch of windows and fill their condition channels.

    Args:
        video_BCTHW: 1 + 4 L frames of a middle window (the first is only the encoder's past), or
            1 + 4 (L - 1) of a start window.
        generator: draws the posterior's noise, on the video's device.
    """
    device = video_BCTHW.device
    posterior = vae.encode(video_BCTHW).latent_dist
    skip = 1 if middle else 0
    whole_BZLHW = normalise(vae, posterior.mode())[:, :, skip:]
    drawn_BZLHW = normalise(vae, posterior.sample(generator))[:, :, skip:]
    batch, _, length, height, width = whole_BZLHW.shape
    mask_BML = torch.zeros(batch, MASK_CHANNELS, length)
    given_BZLHW = torch.zeros_like(whole_BZLHW)

    alone: list[tuple[int, int]] = []  # window and frame of every picture that is encoded alone
    partial: list[tuple[int, int, int]] = []  # window, first frame and frames of a cut-off latent
    for b, guide in enumerate(guides):
        given_BZLHW[b, :, : guide.tail] = whole_BZLHW[b, :, : guide.tail]
        mask_BML[b, :, : guide.tail] = 1
        for frame in guide.stills:
            alone.append((b, frame))
        if guide.clip is not None:
            start, frames = guide.clip
            alone.append((b, start))
            for slot in range(start // TEMPORAL_STRIDE + 1, latent_of(start + frames - 1) + 1):
                first = TEMPORAL_STRIDE * (slot - 1) + 1
                here = min(TEMPORAL_STRIDE, start + frames - first)
                if here < TEMPORAL_STRIDE:
                    partial.append((b, first, here))
                else:
                    given_BZLHW[b, :, slot - skip] = drawn_BZLHW[b, :, slot - skip]
                mask_BML[b, :here, slot - skip] = 1
    for b, frame in alone:
        channels = slice(None) if frame == 0 else offset_in_latent(frame)
        mask_BML[b, channels, latent_of(frame) - skip] = 1
    if alone:
        rows, frames_N = torch.tensor(alone, device=device).unbind(1)
        slots_N = torch.tensor([latent_of(f) - skip for _, f in alone], device=device)
        stills_NZ1HW = _encode_alone(vae, video_BCTHW[rows, :, frames_N][:, :, None])
        given_BZLHW[rows, :, slots_N] = stills_NZ1HW[:, :, 0]
    if partial:
        # The last frame is repeated to fill the latent; one frame before it is the encoder's past.
        runs = [
            [first - 1, *(min(first + i, first + n - 1) for i in range(4))]
            for _, first, n in partial
        ]
        rows = torch.tensor([b for b, _, _ in partial], device=device)
        video_NCTHW = video_BCTHW[rows[:, None], :, torch.tensor(runs, device=device)].transpose(
            1, 2
        )
        slots_N = torch.tensor([latent_of(f) - skip for _, f, _ in partial], device=device)
        given_BZLHW[rows, :, slots_N] = _encode_alone(vae, video_NCTHW)[:, :, 1]
    mask_BMLHW = mask_BML.to(device)[..., None, None].expand(-1, -1, -1, height, width)
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
    prompt_dropout: float = 0.1,
) -> Windows:
    """Cut one window from a random place of each scene (one place for the whole batch).

    The scenes must have at least 1 + 4 `latents` frames.
    """
    rng = random.Random(seed)
    count = 1 + TEMPORAL_STRIDE * (latents if middle else latents - 1)
    first = rng.randint(0, scenes.frames - count)
    video_BCTHW = scenes.render(first, count)
    guides = [
        draw_guides(
            rng,
            latents=latents,
            middle=middle,
            tail=tail,
            boundaries=[frame - first for frame in scenes.boundaries(b)],
        )
        for b in range(len(video_BCTHW))
    ]
    shown = scenes.prompts(first + middle, count - middle)
    prompts = [prompt if rng.random() >= prompt_dropout else "" for prompt in shown]
    generator = torch.Generator(video_BCTHW.device).manual_seed(seed)
    return build(vae, video_BCTHW, guides, prompts, middle=middle, generator=generator)
