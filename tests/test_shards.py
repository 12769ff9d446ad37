"""Shards of stored clips: what is written is what is read, in an order that a seed determines."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from dreamontage.training.datasets import shards
from dreamontage.training.datasets.shards import Codec, Dataset, Facts, StoredClip, TornShard
from dreamontage.training.synthetic.captions import Action

CODEC = Codec(name="LinearCodec", revision="r", mean=(0.0, 1.0), std=(1.0, 2.0), memoryless=True)


def clip(number: int, latents: int = 3, height: int = 2, width: int = 4) -> StoredClip:
    generator = torch.Generator().manual_seed(number)
    frames = 1 + 4 * (latents - 1)
    return StoredClip(
        facts=Facts(
            key=f"k{number}",
            source=f"walk-{number}.mp4",
            source_digest=f"{number:064x}",
            fps=Fraction(24000, 1001),
            width=8 * width,
            height=8 * height,
            frames=frames,
            latents=latents,
            latent_height=height,
            latent_width=width,
            stills=(0, 3, 4, frames - 1),
            actions=(Action(start=0, stop=3, text="she stands"),),
            scores={"motion": 0.25},
        ),
        mean_ZLHW=torch.randn(2, latents, height, width, generator=generator).half(),
        logvar_ZLHW=torch.randn(2, latents, height, width, generator=generator).bfloat16(),
        stills_KZHW=torch.randn(4, 2, height, width, generator=generator).half(),
    )


def write(folder: Path, *groups: list[StoredClip]) -> Dataset:
    shards.write_index(folder, CODEC, [shards.write_shard(folder, group) for group in groups])
    return Dataset(folder)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    clips = [clip(0), clip(1), clip(2, latents=5)]
    data = write(tmp_path, clips[:2], clips[2:])
    assert len(data) == 3
    assert data.codec == CODEC
    for index, was in enumerate(clips):
        read = data.read(index)
        assert read.facts == was.facts == data.clips[index]
        assert torch.equal(read.mean_ZLHW, was.mean_ZLHW)
        assert torch.equal(read.logvar_ZLHW, was.logvar_ZLHW)
        assert torch.equal(read.stills_KZHW, was.stills_KZHW)
        mean, logvar = data.posterior(index, 1, 3)
        assert torch.equal(mean, was.mean_ZLHW[:, 1:3])
        assert torch.equal(logvar, was.logvar_ZLHW[:, 1:3])
        assert torch.equal(data.still(index, 3), was.stills_KZHW[1])
    assert data.clips[0].boundaries() == [0, 3, 8]


def test_a_variance_that_is_one_number_is_stored_as_one(tmp_path: Path) -> None:
    was = clip(0)
    one = StoredClip(
        facts=was.facts,
        mean_ZLHW=was.mean_ZLHW,
        logvar_ZLHW=torch.full((1, 1, 1, 1), -7.0),
        stills_KZHW=was.stills_KZHW,
    )
    mean, logvar = write(tmp_path, [one]).posterior(0, 0, 2)
    assert logvar.shape == mean.shape
    assert logvar.unique().tolist() == [-7.0]


def test_the_same_clips_give_the_same_file(tmp_path: Path) -> None:
    written = []
    for name in ("a", "b", "c", "d"):
        (tmp_path / name).mkdir()
        written.append(shards.write_shard(tmp_path / name, [clip(0), clip(1)]))
    assert len({shard.sha256 for shard in written}) == 1
    assert {path.name for path in (tmp_path / "a").iterdir()} == {written[0].file}


def test_a_shard_knows_its_clips_without_an_index(tmp_path: Path) -> None:
    shard = shards.write_shard(tmp_path, [clip(0), clip(1)])
    assert shards.clips_of(tmp_path / shard.file) == shard.clips
    assert torch.equal(
        shards.read_clip(tmp_path / shard.file, shard.clips[1], 1).mean_ZLHW, clip(1).mean_ZLHW
    )


@pytest.mark.parametrize("fault", ["a bit", "its end", "the file"])
def test_a_torn_shard_is_refused(tmp_path: Path, fault: str) -> None:
    data = write(tmp_path, [clip(0)], [clip(1)])
    path = tmp_path / data.shards[0].file
    whole = path.read_bytes()
    if fault == "a bit":
        path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    elif fault == "its end":
        path.write_bytes(whole[:-40])
    else:
        path.unlink()
    with pytest.raises(TornShard, match="is missing" if fault == "the file" else "sha256 differs"):
        data.read(0)
    assert data.read(1).facts == data.clips[1], "the others can still be read"
    path.write_bytes(whole)
    assert data.read(0).facts == data.clips[0], "mended"
    path.write_bytes(whole[:20])
    with pytest.raises(TornShard, match="no whole shard"):
        shards.clips_of(path)


def test_an_invalid_data_set_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no index\.json"):
        Dataset(tmp_path)
    for text, why in (
        ("{", "Expecting"),
        ("{}", "format"),
        (json.dumps({"format": "other"}), "its format is 'other'"),
        (json.dumps({"format": shards.FORMAT, "shards": []}), "codec"),
    ):
        (tmp_path / "index.json").write_text(text)
        with pytest.raises(ValueError, match=why):
            Dataset(tmp_path)


def test_windows_are_cut_from_clips_that_are_long_enough(tmp_path: Path) -> None:
    clips = [clip(n, latents=3 + n % 3, width=4 if n % 2 else 6) for n in range(20)]
    data = write(tmp_path, clips[:7], clips[7:])
    found = data.windows(4)
    held = sorted(index for indices in found.values() for index in indices)
    assert held == [index for index, facts in enumerate(data.clips) if facts.latents >= 4]
    for bucket, indices in found.items():
        assert {data.clips[i].bucket._replace(latents=4) for i in indices} == {bucket}
