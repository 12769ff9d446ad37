"""Windows of the super-resolution stage: their stills, their tails, a loop, and bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from dreamontage import Clip, DreaMontagePipeline, Keyframe
from dreamontage.models import autoencoder
from dreamontage.models.random_weights import tiny_vae
from dreamontage.pipeline.upscale import Upscaler, refine, upscale
from dreamontage.pipeline.upscale.enlarge import enlarge
from tests.support.upscale import (
    HEIGHT,
    STEPS,
    WIDTH,
    Call,
    enlarged,
    linear_codec,
    pictures,
    recorded_calls,
    segments_of,
    smooth_film,
    track_of,
    upscale_film,
)


def test_each_window_and_tile_gets_its_part_of_the_stills_that_begin_in_it(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    still, clip = track_of(sr_pipe).placements
    with recorded_calls(sr_pipe.transformer) as calls:
        upscale_film(
            sr_pipe, base_latents, window=4, tile=(8, 8), overlap=4
        )  # windows [0, 4) and [2, 6), two tiles
    # 5 steps, of which those at noise levels of at most 0.7 run; every step has two tiles.
    (first, later) = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    for window, stills, places in [
        (first, [still, clip], [1, 3]),
        (later, [clip], [1]),
    ]:
        for index, call in enumerate(window):
            columns = slice(0, 8) if index % 2 == 0 else slice(4, 12)
            assert list(call["shared_frames"]) == places
            for n, placement in enumerate(stills):
                got = call["shared_states"][:, :, n]
                expected = placement.latents_BCLHW[:, :, 0, :, columns]
                for channels in (slice(0, 4), slice(8, 12), slice(12, 16)):
                    assert torch.equal(got[:, channels], expected)
                marked = 2 if placement is still else 3  # the frame of its latent
                mask = torch.zeros(4)
                mask[marked] = 1
                assert torch.equal(got[0, 4:8, 0, 0], mask)
    assert len(first) == len(later) > 0


def test_a_clip_that_began_before_the_window_appends_nothing(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    frames = pictures(17)
    with recorded_calls(sr_pipe.transformer) as calls:
        upscale_film(
            sr_pipe, base_latents, window=4, tile=(8, 12), conditions=[Clip(frames=frames, frame=0)]
        )
    first, later = calls[: len(calls) // 2], calls[len(calls) // 2 :]
    assert all(list(call["shared_frames"]) == [0] for call in first)
    assert all("shared_states" not in call for call in later)
    # The clip still guides the window: the mask of latent 4, the window's third, is full.
    assert later[0]["hidden_states"][0, 4:8, 2].min() == 1


def test_a_window_gets_the_tail_of_the_window_before_and_is_blended_over_it(
    sr_pipe: DreaMontagePipeline, base_latents: torch.Tensor
) -> None:
    upscaler = Upscaler(scale=2, tile_latents=(8, 12), overlap_latents=2)
    film = enlarged(sr_pipe, base_latents)
    previous: torch.Tensor | None = None
    windows: list[torch.Tensor] = []
    starts: list[torch.Tensor] = []
    parts = segments_of(4)
    assert [(part.start, part.stop) for part in parts] == [(0, 4), (2, 6)]
    for part in parts:
        states = refine(
            part,
            pipe=sr_pipe,
            upscaler=upscaler,
            enlarged_BZLHW=film[:, :, part.start : part.stop],
            track=track_of(sr_pipe),
            previous_BZLHW=previous,
            sampler=sr_pipe.sampler(STEPS, 1.0),
            seed=5,
        )
        with recorded_calls(sr_pipe.transformer) as calls:
            previous = deque(states, maxlen=1)[0].latents_BCLHW
        windows.append(previous)
        starts.append(calls[0]["hidden_states"])
    first, second = starts
    assert torch.equal(first[:, :4, 2:], second[:, :4, :2]), "the overlap starts from the same"
    assert second[:, 4:8, :2].min() == 1
    assert torch.equal(second[:, 8:12, :2], windows[0][:, :, 2:])
    assert torch.equal(second[:, 12:], film[:, :, 2:]), "the enlarged film stays as it is"
    got = upscale_film(sr_pipe, base_latents, tile=(8, 12))
    assert torch.equal(got[:, :, :2], windows[0][:, :, :2])
    assert torch.equal(got[:, :, 4:], windows[1][:, :, 2:])
    for latent, share in ((2, 1 / 3), (3, 2 / 3)):
        mixed = torch.lerp(windows[0][:, :, latent], windows[1][:, :, latent - 2], share)
        torch.testing.assert_close(got[:, :, latent], mixed)


def test_a_loop_is_enlarged_as_one(sr_pipe: DreaMontagePipeline) -> None:
    """The closing window is given the refined head, beside the enlarged one's whole latents."""
    base = autoencoder.encode(sr_pipe.vae, smooth_film(7, 25, HEIGHT, WIDTH))  # a loop of 24 frames
    parts = segments_of(5, frames=24, loop=True)
    assert [(part.start, part.stop, part.head) for part in parts] == [
        (0, 5, 0),
        (3, 6, 0),
        (4, 9, 3),
    ]
    with recorded_calls(sr_pipe.transformer) as calls:
        runs = upscale(
            base.split(1, dim=2),
            pipe=sr_pipe,
            upscaler=Upscaler(scale=2, tile_latents=(8, 12), overlap_latents=2),
            segments=parts,
            height=HEIGHT,
            width=WIDTH,
            sampler=sr_pipe.sampler(STEPS, 1.0),
        )
        film = torch.cat(list(runs), dim=2)
    assert film.shape[2] == 7, "latents of frames 0 to 24, the last of which is the first again"
    channels = calls[-1]["hidden_states"]
    assert torch.equal(channels[:, 8:12, 2:], film[:, :, :3])
    assert channels[0, 4:8, 2:, 0, 0].tolist() == [[0, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1]]
    large = enlarged(sr_pipe, base)
    assert torch.equal(channels[:, 12:], torch.cat([large[:, :, 4:], large[:, :, 1:3]], dim=2))
    assert list(calls[-1]["shared_frames"]) == [2], "the first frame is a still there"


def most_tokens(calls: list[Call]) -> int:
    """The most tokens that one call of the DiT was given."""
    counts: list[int] = []
    for call in calls:
        frames, height, width = call["hidden_states"].shape[2:]
        counts.append((frames + len(call.get("shared_frames", ()))) * (height // 2) * (width // 2))
    return max(counts)


@pytest.mark.parametrize(("frames", "side"), [(21, 32), (61, 32), (21, 64)])
def test_a_call_is_no_larger_than_a_tile_of_a_window(
    sr_pipe: DreaMontagePipeline, frames: int, side: int
) -> None:
    """Whatever the film's length and size: a window's latents and the stills that begin in it."""
    still = smooth_film(4, 1, 2 * side, 2 * side)[0, :, 0]
    with recorded_calls(sr_pipe.transformer) as calls:
        runs = upscale(
            [autoencoder.encode(sr_pipe.vae, smooth_film(1, frames, side, side))],
            pipe=sr_pipe,
            upscaler=Upscaler(scale=2, tile_latents=(4, 6), overlap_latents=2),
            segments=segments_of(4, frames=frames),
            height=side,
            width=side,
            conditions=[Keyframe(image=still, frame=8)],
        )
        deque(runs, maxlen=0)
    assert most_tokens(calls) == (4 + 1) * 2 * 3


def test_the_film_streams_through(sr_pipe: DreaMontagePipeline) -> None:
    """Latents come out before the base film has been read to its end."""
    film = autoencoder.encode(sr_pipe.vae, smooth_film(1, 81, HEIGHT, WIDTH))
    read: list[int] = []

    def base() -> Iterator[torch.Tensor]:
        for index, latent in enumerate(film.split(1, dim=2)):
            read.append(index)
            yield latent

    runs = upscale(
        base(),
        pipe=sr_pipe,
        upscaler=Upscaler(scale=2, tile_latents=(8, 12), overlap_latents=2),
        segments=segments_of(4, frames=81),
        height=HEIGHT,
        width=WIDTH,
    )
    assert read == []
    ahead = []
    done = 0
    for latents in runs:
        done += latents.shape[2]
        ahead.append(len(read) - done)
    assert done == 21
    assert max(ahead) <= 4, "never more than a window ahead"


@pytest.mark.parametrize("make", [tiny_vae, linear_codec])
@torch.no_grad()
def test_enlarging_latent_by_latent_equals_enlarging_the_whole_film(
    make: Callable[[], Any],
) -> None:
    vae = make()
    latents = autoencoder.encode(vae, smooth_film(2, 13, 32, 48))
    frames = vae.decode(autoencoder.denormalise(vae, latents)).sample[0].transpose(0, 1)
    large = torch.nn.functional.interpolate(frames, (64, 96), mode="bicubic").clamp(-1, 1)
    expected = autoencoder.encode(vae, large.transpose(0, 1)[None])
    got = list(enlarge(vae, latents.split([1, 3], dim=2), (64, 96), (64, 96)))
    assert torch.equal(torch.cat(got, dim=2), expected)
