"""Data sets of a few tiny clips, to tune Wan weights on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from dreamontage.models.folder import folder_revision
from dreamontage.training.curation.encode import codec_facts, encode_frames, load_autoencoder
from dreamontage.training.datasets import shards
from dreamontage.training.synthetic import worlds
from dreamontage.training.synthetic.captions import Action

FRAMES, SIDE = 21, 32  # of a clip, and pixels of a side


def store_clips(folder: Path, model: Path, *, clips: int = 4, revision: str | None = None) -> Path:
    """A data set of the model's autoencoder's."""
    folder.mkdir()
    vae, _ = load_autoencoder(model)
    made = []
    for number in range(clips):
        video_BCTHW = worlds.clips(number, 1, frames=FRAMES, height=SIDE, width=SIDE)[0]
        frames_THWC = ((video_BCTHW[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()
        clip = encode_frames(
            vae,
            iter(frames_THWC),
            count=FRAMES,
            actions=[Action(start=0, stop=FRAMES, text="the camera pans left")],
            key=f"k{number}",
            source=f"{number}.mp4",
            source_digest="0" * 64,
            fps=Fraction(16),
            scores={},
            stills_every=4,
        )
        made.append(clip)
    revision = revision or folder_revision(model / "vae")
    shards.write_index(folder, codec_facts(vae, revision), [shards.write_shard(folder, made)])
    return folder


@pytest.fixture(scope="session")
def tiny_clips(tiny_i2v: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store_clips(tmp_path_factory.mktemp("data") / "set", tiny_i2v)
