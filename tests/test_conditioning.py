"""Where a condition is placed on the latent timeline, and the inputs that the model gets of it.

Every test is a rule of INVARIANTS.md.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from dreamontage.sampling.conditioning.clip_vision import ClipVisionInputs
from dreamontage.sampling.conditioning.conditions import MASK_CHANNELS
from dreamontage.sampling.conditioning.interm import IntermTrack
from dreamontage.sampling.conditioning.native import NativeTrack
from dreamontage.sampling.conditioning.pictures import pixels
from dreamontage.timeline import frames_of, latent_of
from tests.support.tiny import Z, tiny_vae

HEIGHT, WIDTH = 16, 24
LATENTS = 7  # of the shot: 25 frames


@functools.cache
def vae() -> Any:
    # In double precision: on some processors the last bit of a convolution depends on how many
    # frames it is asked for at once.
    return tiny_vae().double()


def encode(video_BCTHW: Tensor) -> Tensor:
    return autoencoder.encode(vae(), video_BCTHW)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def still(frame: int, seed: int = 100) -> Keyframe:
    return Keyframe(image=picture(seed), frame=frame)


def clip(frame: int, frames: int) -> Clip:
    return Clip(frames=[picture(seed) for seed in range(frames)], frame=frame)


def encoded(*seeds: int) -> Tensor:
    """The latents of a film of these pictures: (C, L, h, w)."""
    return encode(pixels([picture(seed) for seed in seeds], HEIGHT, WIDTH))[0]


def like(latents: int = LATENTS) -> Tensor:
    return torch.zeros(1, Z, latents, HEIGHT // 8, WIDTH // 8)


def track(*conditions: Keyframe | Clip) -> IntermTrack:
    return IntermTrack(condition.place(encode, HEIGHT, WIDTH) for condition in conditions)


def whole(*conditions: Keyframe | Clip) -> tuple[Tensor, Tensor]:
    """The shot's mask_ML and latents_CLHW, after checking that a frame's mask is one value."""
    window = track(*conditions).window(0, LATENTS, None, like())
    assert window.shape == (1, MASK_CHANNELS + Z, LATENTS, HEIGHT // 8, WIDTH // 8)
    mask = window[0, :MASK_CHANNELS]
    assert torch.equal(mask, mask[:, :, :1, :1].expand_as(mask))
    return mask[:, :, 0, 0], window[0, MASK_CHANNELS:]


def marked(mask_ML: Tensor) -> set[tuple[int, int]]:
    """(slot, channel) of every one in the mask."""
    assert set(mask_ML.unique().tolist()) <= {0.0, 1.0}
    return {(slot, channel) for channel, slot in mask_ML.nonzero().tolist()}


@pytest.mark.parametrize("frame", range(1, 25))
def test_a_still_is_alone_in_its_slot_and_marks_its_own_frame(frame: Any) -> None:
    mask, latents = whole(still(frame))
    slot = latent_of(frame)
    assert marked(mask) == {(slot, frame - frames_of(slot).start)}
    assert torch.equal(latents[:, slot], encoded(100)[:, 0])


def test_frame_0_is_marked_in_all_four_channels() -> None:
    mask, latents = whole(still(0))
    assert marked(mask) == {(0, channel) for channel in range(4)}
    assert torch.equal(latents[:, 0], encoded(100)[:, 0])


def test_a_clips_first_grid_frame_is_encoded_alone_and_the_rest_as_a_film() -> None:
    mask, latents = whole(clip(8, 9))
    assert torch.equal(latents[:, 2:5], encoded(*range(9)))
    assert torch.equal(latents[:, 2], encoded(0)[:, 0])
    assert marked(mask) == {(2, 3), *itertools.product((3, 4), range(4))}


@pytest.mark.parametrize("frame", [5, 6, 7, 8])
def test_what_a_clip_has_before_its_first_grid_frame_is_left_to_the_model(frame: Any) -> None:
    first = 8 - frame
    mask, latents = whole(clip(frame, 9 + first))
    assert torch.equal(latents[:, 2:5], encoded(*range(first, 9 + first)))
    assert marked(mask) == {(2, 3), *itertools.product((3, 4), range(4))}


def test_a_clip_from_the_shots_first_frame_is_a_film_from_there() -> None:
    mask, latents = whole(clip(0, 5))
    assert torch.equal(latents[:, :2], encoded(*range(5)))
    assert marked(mask) == set(itertools.product((0, 1), range(4)))


@pytest.mark.parametrize(("frame", "frames"), [(5, 1), (5, 3), (6, 2), (7, 1)])
def test_a_clip_that_reaches_no_grid_frame_is_a_still_of_its_first(frame: Any, frames: int) -> None:
    short, alone = whole(clip(frame, frames)), whole(still(frame, seed=0))
    assert all(torch.equal(a, b) for a, b in zip(short, alone, strict=True))


@pytest.mark.parametrize("over", [1, 2, 3])
def test_a_clips_partial_slot_repeats_its_last_frame_and_marks_the_clips_frames(over: Any) -> None:
    mask, latents = whole(clip(8, 5 + over))
    last = 4 + over
    assert marked(mask) == {
        (2, 3),
        *((3, channel) for channel in range(4)),
        *((4, channel) for channel in range(over)),
    }
    assert torch.equal(latents[:, 2:5], encoded(*range(last + 1), *[last] * (4 - over)))


def test_outside_every_condition_the_channels_hold_zeros() -> None:
    mask, latents = whole(still(3), clip(12, 6))
    for slot in {0, 2, 6}:
        assert not mask[:, slot].any()
        assert not latents[:, slot].any()
    assert all(latents[:, slot].any() for slot in (1, 3, 4, 5))
    empty_mask, empty = whole()
    assert not empty_mask.any()
    assert not empty.any()


@pytest.mark.parametrize("turned", [False, True])
def test_a_slot_shared_with_a_clips_end_is_the_later_conditions(turned: Any) -> None:
    # The clip ends on frame 13, in the slot of frames 13 to 16, where a still is on frame 16.
    conditions = [clip(8, 6), still(16)]
    mask, latents = whole(*(reversed(conditions) if turned else conditions))
    assert torch.equal(latents[:, 4], encoded(100)[:, 0])
    assert {each for each in marked(mask) if each[0] == 4} == {(4, 3)}
    assert torch.equal(latents[:, 2:4], encoded(*range(5)))


def test_a_window_is_a_slice_of_the_shot_so_overlapping_windows_agree() -> None:
    placed = track(still(0), clip(5, 9), still(24))
    shot = placed.window(0, LATENTS, None, like())
    for start, stop in itertools.combinations(range(LATENTS + 1), 2):
        window = placed.window(start, stop, None, like(stop - start))
        assert torch.equal(window, shot[:, :, start:stop])


@pytest.mark.parametrize("kind", [IntermTrack, NativeTrack])
def test_the_latents_handed_over_win_over_every_condition(kind: Any) -> None:
    conditions: list[Keyframe | Clip] = [still(8), clip(12, 13)]
    tail = torch.randn(1, Z, 3, HEIGHT // 8, WIDTH // 8)
    placed: IntermTrack | NativeTrack = (
        track(*conditions)
        if kind is IntermTrack
        else NativeTrack(conditions, encode, HEIGHT, WIDTH)
    )
    window = placed.window(1, LATENTS, tail, like(LATENTS - 1))
    assert bool((window[:, :MASK_CHANNELS, :3] == 1).all())
    assert torch.equal(window[:, MASK_CHANNELS:, :3], tail)
    untouched = placed.window(1, LATENTS, None, like(LATENTS - 1))
    assert torch.equal(window[:, :, 3:], untouched[:, :, 3:])


def test_native_conditions_are_in_a_grey_film_encoded_as_one() -> None:
    placed = NativeTrack([still(6), clip(9, 3)], encode, HEIGHT, WIDTH)
    window = placed.window(0, LATENTS, None, like())
    film = torch.zeros(1, 3, 25, HEIGHT, WIDTH)  # 0 is mid-grey
    film[:, :, 6] = pixels([picture(100)], HEIGHT, WIDTH)[:, :, 0]
    film[:, :, 9:12] = pixels([picture(seed) for seed in range(3)], HEIGHT, WIDTH)
    assert torch.equal(window[:, MASK_CHANNELS:], encode(film))
    assert marked(window[0, :MASK_CHANNELS, :, 0, 0]) == {(2, 1), (3, 0), (3, 1), (3, 2)}


def test_a_later_native_window_is_a_film_of_its_own() -> None:
    """It begins with the last frame of its first latent, as every film of 1 + 4k frames does."""
    conditions = [still(7), still(12), still(17, seed=101)]
    window = NativeTrack(conditions, encode, HEIGHT, WIDTH).window(3, LATENTS, None, like(4))
    film = torch.zeros(1, 3, 13, HEIGHT, WIDTH)
    film[:, :, 0] = pixels([picture(100)], HEIGHT, WIDTH)[:, :, 0]
    film[:, :, 5] = pixels([picture(101)], HEIGHT, WIDTH)[:, :, 0]
    assert torch.equal(window[:, MASK_CHANNELS:], encode(film))
    assert marked(window[0, :MASK_CHANNELS, :, 0, 0]) == {*((0, c) for c in range(4)), (2, 0)}


def test_clean_latents_fill_every_slot_except_a_clips_partial_one(tiny_ti2v: Path) -> None:
    """Wan 2.2 TI2V: what is given replaces the noise and is in the film to the bit."""
    pipe = DreaMontagePipeline.from_pretrained(tiny_ti2v)
    height, width = 32, 64
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (height, width, 3), dtype=np.uint8) for _ in range(7)]
    # The clip fills latents 2 and 3, and half of latent 4.
    conditions: list[Keyframe | Clip] = [
        Keyframe(image=images[0], frame=2),
        Clip(frames=images, frame=8),
    ]
    latents = pipe(
        "a cat",
        conditions=conditions,
        height=height,
        width=width,
        num_frames=17,
        num_inference_steps=2,
        guidance_scale=1.0,
        max_sequence_length=32,
        output_type="latent",
    ).frames
    alone = autoencoder.encode(pipe.vae, pixels(images[:1], height, width))
    film = autoencoder.encode(pipe.vae, pixels([*images, *images[-1:] * 2], height, width))
    assert torch.equal(latents[:, :, 1:2], alone)
    assert torch.equal(latents[:, :, 2:4], film[:, :, :2])
    assert not torch.equal(latents[:, :, 4:], film[:, :, 2:])
    assert not torch.equal(latents[:, :, :1], alone)


def test_an_image_encoder_sees_what_a_window_opens_and_ends_with() -> None:
    clip_inputs = ClipVisionInputs([still(4, seed=1), clip(9, 3), still(20, seed=5)])
    opening = Image.fromarray(picture(50))

    def seen(start: int, stop: int, opening: Image.Image | None = None) -> list[Image.Image]:
        found = clip_inputs.window(start, stop, opening=opening, both_ends=True)
        assert clip_inputs.window(start, stop, opening=opening, both_ends=False) == found[:1]
        return found

    def images(*seeds: int) -> list[Image.Image]:
        return [Image.fromarray(picture(seed)) for seed in seeds]

    assert seen(0, LATENTS) == images(1, 5)
    assert seen(0, 4) == images(1, 2)  # the clip's last frame
    assert seen(0, 2) == images(1, 1)
    assert seen(2, 4, opening) == images(50, 2)
    assert seen(4, 5, opening) == images(50, 50)
    grey = seen(4, 5)
    assert grey[0] == grey[1]
    assert set(np.asarray(grey[0]).ravel()) == {128}
