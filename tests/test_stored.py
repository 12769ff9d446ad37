"""Windows drawn from stored latents are those drawn from the video's pixels."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch

from dreamontage.models.codec import LinearCodec
from dreamontage.training.curation.encode import codec_facts, encode_frames
from dreamontage.training.datasets import shards, stored_windows, windows
from dreamontage.training.datasets.shards import Dataset
from dreamontage.training.datasets.stored_windows import Place
from dreamontage.training.datasets.windows import WindowConditions
from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.captions import Action
from tests.support.tiny import tiny_vae

ACTIONS = (
    Action(start=0, stop=18, text="the camera pans left"),
    Action(start=18, stop=33, text="the camera zooms in"),
)
FRAMES, LATENTS = 33, 5


def linear() -> LinearCodec:
    clips_BCTHW = worlds.clips(0, 8, frames=9, height=32, width=32)[0]
    return LinearCodec.fit([clips_BCTHW], z_dim=8)


def certain(vae: Any) -> Any:
    """The same autoencoder with a posterior variance of zero."""
    if isinstance(vae, LinearCodec):
        same = type(vae).from_config(vae.config, noise_logvar=-30.0)
        same.load_state_dict(vae.state_dict())
        return same
    with torch.no_grad():
        vae.quant_conv.weight[vae.config.z_dim :] = 0
        vae.quant_conv.bias[vae.config.z_dim :] = -30
    return vae


def store(folder: Path, vae: Any, *, stills_every: int = 4) -> tuple[Dataset, torch.Tensor]:
    """One stored clip, and its pixels as they were encoded, video_BCTHW."""
    video_BCTHW = worlds.clips(2, 1, frames=FRAMES, height=16, width=24)[0]
    frames_THWC = ((video_BCTHW[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
    clip = encode_frames(
        vae,
        iter(frames_THWC),
        count=FRAMES,
        actions=ACTIONS,
        key="k",
        source="walk.mp4",
        source_digest="0" * 64,
        fps=Fraction(16),
        scores={},
        stills_every=stills_every,
    )
    shards.write_index(folder, codec_facts(vae, "r"), [shards.write_shard(folder, [clip])])
    pixels_BCTHW = torch.from_numpy(frames_THWC).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    return Dataset(folder), pixels_BCTHW


STARTS = [
    WindowConditions(),
    WindowConditions(stills=(0, 8, 16)),
    WindowConditions(stills=(16,), clips=((0, 5),)),
    WindowConditions(stills=(2,), clips=((4, 9),)),
    WindowConditions(clips=((12, 1),)),
]
MIDDLES = [
    WindowConditions(tail=2),
    WindowConditions(tail=1, stills=(8, 12, 20)),
    WindowConditions(tail=1, clips=((8, 9),), stills=(20,)),
    WindowConditions(tail=3, stills=(18,)),
]


@pytest.mark.parametrize("make", [linear, tiny_vae])
@pytest.mark.parametrize("guide", [*STARTS, *MIDDLES], ids=str)
def test_stored_latents_give_the_windows_that_pixels_give(
    make: Any, guide: WindowConditions, tmp_path: Path
) -> None:
    """At the beginning of the clip, where both have the same past. Frames 2 and 18 are stored
    because `stills_every` is 2, and because an action changes there. Latents are stored in half
    precision.
    """
    vae = certain(make())
    data, pixels_BCTHW = store(tmp_path, vae, stills_every=2)
    middle = bool(guide.tail)
    count = 1 + 4 * (LATENTS if middle else LATENTS - 1)
    place = Place(clip=0, start=0, latents=LATENTS, middle=middle)
    assert stored_windows.storable(guide, data.clips[0], place) == guide
    from_pixels = windows.build(
        vae,
        pixels_BCTHW[:, :, :count],
        [guide],
        ["a"],
        middle=middle,
        generator=torch.Generator(),
    )
    from_shard = stored_windows.build(data, [place], [guide], ["a"], generator=torch.Generator())
    assert from_shard.latents_BZLHW.shape == from_pixels.latents_BZLHW.shape
    assert torch.equal(from_shard.condition_BCLHW[:, :4], from_pixels.condition_BCLHW[:, :4])
    near: dict[str, Any] = {"atol": 2e-3, "rtol": 2e-3}
    assert torch.allclose(from_shard.latents_BZLHW, from_pixels.latents_BZLHW, **near)
    assert torch.allclose(from_shard.condition_BCLHW, from_pixels.condition_BCLHW, **near)
    for frame in guide.stills:
        slot = -(-frame // 4) - middle
        clean_ZHW = from_shard.condition_BCLHW[0, 4:, slot]
        is_whole = torch.allclose(clean_ZHW, from_shard.latents_BZLHW[0, :, slot], **near)
        assert is_whole == (frame == 0), "a still alone is not the latent of its place"


@pytest.mark.parametrize("middle", [False, True])
def test_a_codec_without_memory_gives_them_anywhere(middle: bool, tmp_path: Path) -> None:
    vae = certain(linear())
    data, pixels_BCTHW = store(tmp_path, vae)
    guide = (
        WindowConditions(tail=1, stills=(12,))
        if middle
        else WindowConditions(stills=(0, 12), clips=((4, 5),))
    )
    place = Place(clip=0, start=3, latents=LATENTS, middle=middle)
    count = 1 + 4 * (LATENTS if middle else LATENTS - 1)
    from_pixels = windows.build(
        vae,
        pixels_BCTHW[:, :, 12 : 12 + count],
        [guide],
        ["a"],
        middle=middle,
        generator=torch.Generator(),
    )
    from_shard = stored_windows.build(data, [place], [guide], ["a"], generator=torch.Generator())
    assert torch.allclose(from_shard.latents_BZLHW, from_pixels.latents_BZLHW, atol=4e-3)
    assert torch.allclose(from_shard.condition_BCLHW, from_pixels.condition_BCLHW, atol=4e-3)


def test_a_memory_keeps_start_windows_at_the_clips_start(tmp_path: Path) -> None:
    (tmp_path / "linear").mkdir()
    (tmp_path / "wan").mkdir()
    for folder, vae, starts in (
        ("linear", linear(), {0, 1, 2, 3, 4}),
        ("wan", tiny_vae(), {0}),
    ):
        data, _ = store(tmp_path / folder, vae)
        rng = random.Random(0)
        seen = {
            middle: {
                stored_windows.draw_place(rng, data, 0, latents=LATENTS, middle=middle).start
                for _ in range(200)
            }
            for middle in (False, True)
        }
        assert seen == {False: starts, True: {0, 1, 2, 3}}


def test_a_clips_frames_after_its_first_are_drawn_afresh(tmp_path: Path) -> None:
    data, _ = store(tmp_path, linear())
    place = Place(clip=0, start=0, latents=LATENTS, middle=False)
    guide = WindowConditions(clips=((4, 9),), stills=(0,))
    one, two = (
        stored_windows.build(
            data, [place], [guide], ["a"], generator=torch.Generator().manual_seed(seed)
        ).condition_BCLHW[:, 4:]
        for seed in (1, 2)
    )
    assert torch.equal(one[:, :, :2], two[:, :, :2]), "stills are what they are"
    spread = (one - two)[:, :, 2:4].std(dim=(0, 2, 3, 4)) * torch.tensor(data.codec.std)
    _, logvar = data.posterior(0, 2, 4)
    wanted = (0.5 * logvar.float().mean()).exp() * 2**0.5
    assert torch.allclose(spread, wanted.expand_as(spread), rtol=0.5)


def test_guides_that_need_pixels_move_within_their_latent(tmp_path: Path) -> None:
    data, _ = store(tmp_path, linear())
    place = Place(clip=0, start=3, latents=LATENTS, middle=False)
    moved = stored_windows.storable(
        WindowConditions(stills=(0, 6, 7, 13), clips=((8, 4),)), data.clips[0], place
    )
    # 6 is the clip's frame 18, where an action begins.
    assert moved == WindowConditions(stills=(0, 6, 8, 16), clips=((8, 1),))
    assert stored_windows.storable(
        replace(moved, tail=2, clips=((8, 12),)), data.clips[0], place
    ).clips == ((8, 9),)


def test_windows_are_drawn_with_their_prompts_and_by_their_seed(tmp_path: Path) -> None:
    data, _ = store(tmp_path, linear())
    prompts = set()
    for seed in range(60):
        middle = bool(seed % 2)
        drawn = stored_windows.draw(data, [0, 0], latents=LATENTS, middle=middle, tail=2, seed=seed)
        assert drawn.latents_BZLHW.shape == (2, 8, LATENTS, 2, 3)
        assert drawn.condition_BCLHW.shape == (2, 12, LATENTS, 2, 3)
        prompts |= set(drawn.prompts)
        again = stored_windows.draw(data, [0, 0], latents=LATENTS, middle=middle, tail=2, seed=seed)
        assert torch.equal(drawn.condition_BCLHW, again.condition_BCLHW)
        assert drawn.prompts == again.prompts
    assert "" in prompts
    assert "[0, 1.06] the camera pans left; [1.06, 1.25] the camera zooms in" in prompts
