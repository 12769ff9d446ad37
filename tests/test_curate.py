"""A folder of videos becomes a data set, and nothing is done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dreamontage import media
from dreamontage.digests import file_digest
from dreamontage.training.curation.encode import load_autoencoder
from dreamontage.training.curation.judge import Limits, Rule
from dreamontage.training.curation.run import curate
from dreamontage.training.curation.videos import Curation, find_videos
from dreamontage.training.datasets import stored_windows
from dreamontage.training.datasets.shards import Dataset
from dreamontage.training.synthetic.captions import Action
from tests.support import wild
from tests.support.curated import CURATION, TARGET, files, verdicts
from tests.support.tiny import tiny_vae
from tests.support.wild import h264, pan


def test_a_folder_becomes_a_data_set(wild_films: Path, tmp_path: Path, nano_vae: Any) -> None:
    steps: list[tuple[str, int, int]] = []
    made = curate(
        wild_films,
        tmp_path,
        CURATION,
        autoencoder=nano_vae,
        progress=lambda *step: steps.append(step),
    )
    assert verdicts(made) == {
        "a.mp4": None,
        "b.mkv": None,
        "cut.mp4": Rule.ONE_SHOT,
        "dissolve.mp4": Rule.ONE_SHOT,
        "more/c.mp4": None,
        "still.mp4": Rule.GOES_SOMEWHERE,
    }
    assert ("looking at b.mkv", 1, 6) in steps
    assert steps[-1] == ("encoded all clips", 3, 3)

    data = Dataset(tmp_path)
    assert made.clips == len(data) == 3
    assert [facts.source for facts in data.clips] == ["a.mp4", "b.mkv", "more/c.mp4"]
    facts = data.clips[1]
    assert facts.source_digest == file_digest(wild_films / "b.mkv")
    assert (facts.frames, facts.latents, facts.width, facts.height) == (49, 13, 128, 80)
    assert facts.actions == (Action(start=0, stop=49, text="the camera pans right"),)
    assert set(facts.stills) == set(range(0, 49, 4))
    assert facts.scores["motion"] > 0.1
    drawn = stored_windows.draw(data, [0, 1, 2], latents=5, middle=True, tail=2, seed=0)
    assert drawn.latents_BZLHW.shape == (3, 48, 5, 10, 16)
    assert drawn.latents_BZLHW.std() == pytest.approx(1, abs=0.6)

    report = json.loads((tmp_path / "report.json").read_text())
    assert report["counts"] == {
        "videos": 6,
        "kept": 3,
        "more than one shot": 2,
        "ends as it begins": 1,
    }
    reasons = {video["name"]: video["reason"] for video in report["videos"]}
    assert reasons["cut.mp4"] == "2 shots: cut at 1.25 s"
    assert reasons["dissolve.mp4"].startswith("2 shots: dissolve at 1.")
    text = (tmp_path / "report.txt").read_text()
    assert "more than one shot: 2 shots: cut at 1.25 s" in text
    for name, rows in (("kept.png", 3), ("dropped.png", 3)):
        with Image.open(tmp_path / name) as sheet:
            assert sheet.height > 96 * rows
            colours = sheet.convert("RGB").getcolors(1 << 24)
            assert colours is not None
            assert len(colours) > 500, "there are pictures on it"


def test_what_is_done_is_not_done_again(
    wild_films: Path, tmp_path: Path, nano_vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, out = tmp_path / "films", tmp_path / "out"
    shutil.copytree(wild_films, copy)
    curate(copy, out, CURATION, autoencoder=nano_vae)
    before = files(out)

    package = "dreamontage.training.curation"
    with monkeypatch.context() as patch:

        def never(*arguments: Any) -> None:
            raise AssertionError("done already")

        patch.setattr(f"{package}.measured.measure", never)
        patch.setattr(f"{package}.run.encode_video", never)
        curate(copy, out, CURATION, autoencoder=nano_vae)
        assert files(out) == before
        # Other limits only change the verdicts, and what is dropped leaves the data set.
        strict = Curation(target=TARGET, limits=Limits(least_motion=0.25))
        assert curate(copy, out, strict, autoencoder=nano_vae).clips == 2
        assert [facts.source for facts in Dataset(out).clips] == ["b.mkv", "more/c.mp4"]

    h264(pan(3), copy / "d.mp4")
    (copy / "b.mkv").unlink()
    h264(pan(4), copy / "more" / "c.mp4")
    (copy / "a.txt").write_text("a bird's view")
    made = curate(copy, out, CURATION, autoencoder=nano_vae)
    data = Dataset(out)
    assert made.clips == 3
    assert sorted(facts.source for facts in data.clips) == ["a.mp4", "d.mp4", "more/c.mp4"]
    by_name = {facts.source: index for index, facts in enumerate(data.clips)}
    assert data.clips[by_name["a.mp4"]].actions[0].text.startswith("a bird's view, the camera ")
    assert data.clips[by_name["more/c.mp4"]].source_digest == file_digest(copy / "more" / "c.mp4")
    assert {path.name for path in out.glob("*.safetensors")} == {s.file for s in data.shards}


def test_a_torn_shard_is_made_again(wild_films: Path, tmp_path: Path, nano_vae: Any) -> None:
    curate(wild_films, tmp_path, CURATION, autoencoder=nano_vae, shard_bytes=1)
    data = Dataset(tmp_path)
    assert len(data.shards) == 3
    before = files(tmp_path)
    torn = tmp_path / data.shards[1].file
    torn.write_bytes(torn.read_bytes()[:-1000])
    curate(wild_films, tmp_path, CURATION, autoencoder=nano_vae, shard_bytes=1)
    assert torn.stat().st_size == data.shards[1].bytes
    again = Dataset(tmp_path)
    assert sorted(facts.source for facts in again.clips) == ["a.mp4", "b.mkv", "more/c.mp4"]
    assert {again.read(index).facts.source for index in range(3)}
    changed = {name for name, digest in files(tmp_path).items() if before.get(name) != digest}
    assert changed <= {"index.json"}


def test_latents_of_two_autoencoders_are_not_mixed(
    wild_films: Path, tmp_path: Path, nano_vae: Any
) -> None:
    curate(wild_films, tmp_path / "out", CURATION, autoencoder=nano_vae)
    tiny_vae().save_pretrained(tmp_path / "wan")
    wan = load_autoencoder(tmp_path / "wan")
    assert wan[1].name == "AutoencoderKLWan"
    assert not wan[1].memoryless
    with pytest.raises(ValueError, match="latents of another autoencoder"):
        curate(wild_films, tmp_path / "out", CURATION, autoencoder=wan)
    made = curate(wild_films, tmp_path / "other", CURATION, autoencoder=wan)
    assert made.clips == 3
    _, logvar = Dataset(tmp_path / "other").posterior(0, 0, 3)
    assert len(logvar.unique()) > 100, "a variance of its own for every number"
    (tmp_path / "wan" / "config.json").write_text('{"_class_name": "Nothing"}')
    with pytest.raises(ValueError, match="holds no autoencoder; its config names 'Nothing'"):
        load_autoencoder(tmp_path / "wan")


def test_only_so_many_seconds_are_looked_at(tmp_path: Path, nano_vae: Any) -> None:
    (tmp_path / "films").mkdir()
    film = h264(wild.cut(pan(0, 96), pan(5, 96), 60), tmp_path / "films" / "a.mp4")
    assert media.probe(film).frames == 96
    whole = curate(tmp_path / "films", tmp_path / "out", CURATION, autoencoder=nano_vae)
    assert verdicts(whole)["a.mp4"] is Rule.ONE_SHOT
    short = Curation(target=TARGET, longest=3)
    assert curate(tmp_path / "films", tmp_path / "out", short, autoencoder=nano_vae).clips == 1
    (facts,) = Dataset(tmp_path / "out").clips
    assert facts.frames == 45, "48 frames, less what does not fill a latent"
    assert facts.actions[-1].stop == 45


def test_what_a_run_writes_is_not_looked_at(wild_films: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(wild_films / "a.mp4", tmp_path / "a.mp4")
    shutil.copy(wild_films / "a.mp4", tmp_path / "out" / "b.mp4")
    assert find_videos(tmp_path, but=tmp_path / "out") == ["a.mp4"]
