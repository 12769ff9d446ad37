"""The linear codec: quality, causality, streaming, behind AutoencoderKLWan's interface."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dreamontage.models.autoencoder import StreamingDecoder, encode, normalise
from dreamontage.models.codec import LinearCodec
from dreamontage.training.synthetic import worlds


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    return LinearCodec.fit(
        [worlds.clips(seed, 8, frames=9, height=48, width=48)[0] for seed in range(6)], z_dim=32
    )


@pytest.fixture(scope="module")
def clips() -> Tensor:
    """Clips that the codec was not fitted to."""
    return worlds.clips(999, 4, frames=9, height=48, width=64)[0]


def psnr(a: Tensor, b: Tensor) -> float:
    return 10 * math.log10(4 / float((a - b).square().mean()))


def test_round_trip_is_close_on_clips_it_never_saw(codec: LinearCodec, clips: Tensor) -> None:
    latents = codec.encode(clips).latent_dist.mode()
    assert latents.shape == (4, 32, 3, 6, 8)
    back_BCTHW = codec.decode(latents).sample
    assert back_BCTHW.shape == clips.shape
    assert back_BCTHW.abs().max() <= 1
    flat = clips.unflatten(3, (6, 8)).unflatten(5, (8, 8)).mean((4, 6), keepdim=True)
    blocks = flat.expand(-1, -1, -1, -1, 8, -1, 8).flatten(5, 6).flatten(3, 4)
    assert psnr(back_BCTHW, clips) > 25
    assert psnr(back_BCTHW, clips) > psnr(blocks, clips) + 3


@pytest.fixture(scope="module")
def finished(codec: LinearCodec) -> LinearCodec:
    """With a finish of some weights or other."""
    made = codec.with_finish(8)
    assert made.finish is not None
    torch.manual_seed(0)
    torch.nn.init.normal_(made.finish.leave.weight, std=0.1)
    return made


@pytest.mark.parametrize("kind", ["codec", "finished"])
def test_streaming_decode_is_the_whole_decode_to_the_bit(
    kind: str, clips: Tensor, request: pytest.FixtureRequest
) -> None:
    codec: LinearCodec = request.getfixturevalue(kind)
    raw = codec.encode(clips).latent_dist.mode()
    stream = StreamingDecoder(codec)
    pieces = [stream(piece) for piece in encode(codec, clips).split(1, dim=2)]
    assert [piece.shape[2] for piece in pieces] == [1, 4, 4]
    first, second, third = raw.split(1, dim=2)
    by_hand = [
        codec.decode_latent(first, True),
        codec.decode_latent(second, False, first),
        codec.decode_latent(third, False, second),
    ]
    assert torch.equal(torch.cat(by_hand, 2), codec.decode(raw).sample)
    assert torch.allclose(torch.cat(pieces, 2), codec.decode(raw).sample, atol=1e-5)


def test_a_finish_changes_frames_and_no_latents(
    codec: LinearCodec, finished: LinearCodec, clips: Tensor, tmp_path: Path
) -> None:
    raw = codec.encode(clips).latent_dist.mode()
    assert torch.equal(finished.encode(clips).latent_dist.mode(), raw)
    plain, changed = codec.decode(raw).sample, finished.decode(raw).sample
    assert torch.equal(codec.with_finish(8).decode(raw).sample, plain), "untrained it does nothing"
    assert torch.equal(changed[:, :, :1], plain[:, :, :1]), "a lone frame has no finish"
    assert not torch.allclose(changed[:, :, 1:], plain[:, :, 1:], atol=1e-2)
    assert torch.equal(finished.with_finish(8).decode(raw).sample, changed)
    assert torch.equal(finished.with_finish(0).decode(raw).sample, plain)
    finished.save_pretrained(tmp_path)
    assert torch.equal(LinearCodec.from_pretrained(tmp_path).decode(raw).sample, changed)


def test_a_finish_sees_the_latent_before(finished: LinearCodec, clips: Tensor) -> None:
    raw = finished.encode(clips).latent_dist.mode()
    first, second, _ = raw.split(1, dim=2)
    known = finished.decode_latent(second, False, first)
    assert not torch.equal(known, finished.decode_latent(second, False))
    assert torch.equal(
        finished.decode_latent(second, False, second), finished.decode_latent(second, False)
    )


def test_encoding_is_causal(codec: LinearCodec, clips: Tensor) -> None:
    whole = codec.encode(clips).latent_dist.mode()
    assert torch.equal(codec.encode(clips[:, :, :5]).latent_dist.mode(), whole[:, :, :2])
    assert torch.equal(codec.encode(clips[:, :, :1]).latent_dist.mode(), whole[:, :, :1])


def test_a_still_looks_like_a_frozen_whole_latent(codec: LinearCodec, clips: Tensor) -> None:
    still_BCTHW = clips[:, :, :1]
    frozen = codec.encode(still_BCTHW.expand(-1, -1, 5, -1, -1)).latent_dist.mode()
    assert torch.allclose(frozen[:, :, 0], frozen[:, :, 1], atol=1e-5)


def test_latents_have_unit_scale_and_the_posterior_the_codecs_own_error(
    codec: LinearCodec, clips: Tensor
) -> None:
    posterior = codec.encode(clips).latent_dist
    assert 0.3 < normalise(codec, posterior.mode()).square().mean() < 3
    error = (codec.decode(posterior.mode()).sample - clips).square().mean()
    assert posterior.var.mean() == pytest.approx(float(error), rel=0.6)
    drawn = posterior.sample(torch.Generator().manual_seed(0)) - posterior.mode()
    assert drawn.std() == pytest.approx(float(posterior.std.mean()), rel=0.05)


def test_saved_and_loaded_it_gives_the_same_bits(
    codec: LinearCodec, clips: Tensor, tmp_path: Path
) -> None:
    codec.save_pretrained(tmp_path)
    loaded = LinearCodec.from_pretrained(tmp_path)
    assert loaded.dtype == torch.float32
    latents = encode(codec, clips)
    assert torch.equal(encode(loaded, clips), latents)
    assert torch.equal(loaded.decode(latents).sample, codec.decode(latents).sample)


@pytest.mark.parametrize(
    ("shape", "field"), [((1, 3, 4, 16, 16), "frames = 4"), ((1, 3, 5, 16, 20), "20x16")]
)
def test_sizes_it_cannot_hold_are_refused(
    codec: LinearCodec, shape: tuple[int, ...], field: str
) -> None:
    with pytest.raises(ValueError, match=field):
        codec.encode(torch.zeros(shape))
