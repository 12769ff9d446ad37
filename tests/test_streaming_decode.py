"""One latent at a time gives the film that decoding it whole gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dreamontage.models import autoencoder
from tests.support.tiny import Z, residual_vae, tiny_vae


@pytest.mark.parametrize("make", [tiny_vae, residual_vae])
@torch.no_grad()
def test_streaming_decode_equals_the_whole(make: Any) -> None:
    # In double precision: on some processors the last bit of a convolution depends on how many
    # frames it is asked for at once.
    vae = make().double()
    latents = torch.randn(1, Z, 5, 4, 6, generator=torch.Generator().manual_seed(1))
    whole = vae.decode(autoencoder.denormalise(vae, latents.double())).sample.float()
    runs = list(autoencoder.decode(vae, [latents[:, :, :2], latents[:, :, 2:]]))
    assert [run.shape[2] for run in runs] == [1, 4, 4, 4, 4]
    assert torch.equal(torch.cat(runs, dim=2), whole)


@torch.no_grad()
def test_two_films_may_be_decoded_in_turns() -> None:
    vae = tiny_vae()
    first, second = torch.randn(2, 1, Z, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    one, two = autoencoder.StreamingDecoder(vae), autoencoder.StreamingDecoder(vae)
    turns = [(one(a), two(b)) for a, b in zip(first.split(1, 2), second.split(1, 2), strict=True)]
    assert torch.equal(
        torch.cat([turn[0] for turn in turns], 2),
        torch.cat(list(autoencoder.decode(vae, [first])), 2),
    )
    assert torch.equal(
        torch.cat([turn[1] for turn in turns], 2),
        torch.cat(list(autoencoder.decode(vae, [second])), 2),
    )


@pytest.mark.parametrize("make", [tiny_vae, residual_vae])
@torch.no_grad()
def test_streaming_encode_equals_the_whole(make: Any) -> None:
    vae = make().double()
    video = torch.rand(1, 3, 13, 32, 48, generator=torch.Generator().manual_seed(3)) * 2 - 1
    whole = vae.encode(video.double()).latent_dist
    encoder = autoencoder.StreamingEncoder(vae)
    runs = [encoder(run) for run in (video[:, :, :1], *video[:, :, 1:].split(4, dim=2))]
    for name in ("mean", "logvar"):
        got = torch.cat([getattr(run, name) for run in runs], 2)
        assert torch.equal(got.float(), getattr(whole, name).float())


def test_encode_refuses_frames_that_the_autoencoder_would_drop() -> None:
    with pytest.raises(AssertionError, match="1 \\+ 4k"):
        autoencoder.encode(tiny_vae(), torch.zeros(1, 3, 6, 16, 16))
