"""A folder of videos becomes a data set: resumable, told in full, and stopped by no file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from dreamontage import media
from dreamontage.cli import app
from dreamontage.intake import file_digest
from dreamontage.training import stored
from dreamontage.training.captions import Action
from dreamontage.training.curation import sidecar
from dreamontage.training.curation.encode import load_autoencoder
from dreamontage.training.curation.judge import Limits, Rule
from dreamontage.training.curation.measured import measure_once
from dreamontage.training.curation.run import Curated, curate
from dreamontage.training.curation.target import Target
from dreamontage.training.curation.videos import Curation, find_videos
from dreamontage.training.shards import Dataset
from flows.processes import python
from tests.fixtures import wild
from tests.fixtures.tiny import tiny_vae
from tests.fixtures.wild import h264, pan, shot

ROOT = Path(__file__).parents[1]
NANO = ROOT / "weights" / "nano"
TARGET = Target(width=128, height=80)
CURATION = Curation(target=TARGET)


@pytest.fixture(scope="module")
def nano() -> Any:
    return load_autoencoder(NANO)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good films, two of more than one shot, one that stands still."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "more").mkdir()
    h264(shot(0), folder / "a.mp4")
    h264(pan(1), folder / "b.mkv")
    h264(pan(2), folder / "more" / "c.mp4")
    h264(wild.cut(shot(0), shot(1), 20), folder / "cut.mp4")
    h264(wild.dissolved(shot(2), shot(4), 12, 16), folder / "dissolve.mp4")
    h264(pan(0)[:1].repeat(49, 0), folder / "still.mp4")
    return folder


def verdicts(made: Curated) -> dict[str, Rule | None]:
    return {entry.name: entry.verdict.rule for entry in made.entries}


def files(folder: Path) -> dict[str, str]:
    """What a run leaves that another run must leave too."""
    return {
        path.name: file_digest(path)
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".")
    }


def test_a_folder_becomes_a_data_set(films: Path, tmp_path: Path, nano: Any) -> None:
    told: list[tuple[str, int, int]] = []
    made = curate(
        films, tmp_path, CURATION, autoencoder=nano, progress=lambda *step: told.append(step)
    )
    assert verdicts(made) == {
        "a.mp4": None,
        "b.mkv": None,
        "cut.mp4": Rule.ONE_SHOT,
        "dissolve.mp4": Rule.ONE_SHOT,
        "more/c.mp4": None,
        "still.mp4": Rule.GOES_SOMEWHERE,
    }
    assert ("looking at b.mkv", 1, 6) in told
    assert told[-1] == ("encoded all clips", 3, 3)

    data = Dataset(tmp_path)
    assert made.clips == len(data) == 3
    assert [facts.source for facts in data.clips] == ["a.mp4", "b.mkv", "more/c.mp4"]
    facts = data.clips[1]
    assert facts.source_digest == file_digest(films / "b.mkv")
    assert (facts.frames, facts.latents, facts.width, facts.height) == (49, 13, 128, 80)
    assert facts.actions == (Action(start=0, stop=49, text="the camera pans right"),)
    assert set(facts.stills) == set(range(0, 49, 4))
    assert facts.scores["motion"] > 0.1
    drawn = stored.draw(data, [0, 1, 2], latents=5, middle=True, tail=2, seed=0)
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
            assert len(sheet.convert("RGB").getcolors(1 << 24)) > 500, "there are pictures on it"


def test_what_is_done_is_not_done_again(
    films: Path, tmp_path: Path, nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, out = tmp_path / "films", tmp_path / "out"
    shutil.copytree(films, copy)
    curate(copy, out, CURATION, autoencoder=nano)
    before = files(out)

    package = "dreamontage.training.curation"
    with monkeypatch.context() as patch:

        def never(*arguments: Any) -> None:
            raise AssertionError("done already")

        patch.setattr(f"{package}.measured.measure", never)
        patch.setattr(f"{package}.run.encode_video", never)
        curate(copy, out, CURATION, autoencoder=nano)
        assert files(out) == before
        # Other limits only change the verdicts, and what is dropped leaves the data set.
        strict = Curation(target=TARGET, limits=Limits(least_motion=0.25))
        assert curate(copy, out, strict, autoencoder=nano).clips == 2
        assert [facts.source for facts in Dataset(out).clips] == ["b.mkv", "more/c.mp4"]

    h264(pan(3), copy / "d.mp4")
    (copy / "b.mkv").unlink()
    h264(pan(4), copy / "more" / "c.mp4")
    (copy / "a.txt").write_text("a bird's view")
    made = curate(copy, out, CURATION, autoencoder=nano)
    data = Dataset(out)
    assert made.clips == 3
    assert sorted(facts.source for facts in data.clips) == ["a.mp4", "d.mp4", "more/c.mp4"]
    by_name = {facts.source: index for index, facts in enumerate(data.clips)}
    assert data.clips[by_name["a.mp4"]].actions[0].text.startswith("a bird's view, the camera ")
    assert data.clips[by_name["more/c.mp4"]].source_digest == file_digest(copy / "more" / "c.mp4")
    assert {path.name for path in out.glob("*.safetensors")} == {s.file for s in data.shards}


def test_a_torn_shard_is_made_again(films: Path, tmp_path: Path, nano: Any) -> None:
    curate(films, tmp_path, CURATION, autoencoder=nano, shard_bytes=1)
    data = Dataset(tmp_path)
    assert len(data.shards) == 3
    before = files(tmp_path)
    torn = tmp_path / data.shards[1].file
    torn.write_bytes(torn.read_bytes()[:-1000])
    curate(films, tmp_path, CURATION, autoencoder=nano, shard_bytes=1)
    assert torn.stat().st_size == data.shards[1].bytes
    again = Dataset(tmp_path)
    assert sorted(facts.source for facts in again.clips) == ["a.mp4", "b.mkv", "more/c.mp4"]
    assert {again.read(index).facts.source for index in range(3)}
    changed = {name for name, digest in files(tmp_path).items() if before.get(name) != digest}
    assert changed <= {"index.json"}


def test_latents_of_two_autoencoders_are_not_mixed(films: Path, tmp_path: Path, nano: Any) -> None:
    curate(films, tmp_path / "out", CURATION, autoencoder=nano)
    tiny_vae().save_pretrained(tmp_path / "wan")
    wan = load_autoencoder(tmp_path / "wan")
    assert wan[1].name == "AutoencoderKLWan"
    assert not wan[1].memoryless
    with pytest.raises(ValueError, match="latents of another autoencoder"):
        curate(films, tmp_path / "out", CURATION, autoencoder=wan)
    made = curate(films, tmp_path / "other", CURATION, autoencoder=wan)
    assert made.clips == 3
    _, logvar = Dataset(tmp_path / "other").posterior(0, 0, 3)
    assert len(logvar.unique()) > 100, "a variance of its own for every number"
    (tmp_path / "wan" / "config.json").write_text('{"_class_name": "Nothing"}')
    with pytest.raises(ValueError, match="holds no autoencoder; its config names 'Nothing'"):
        load_autoencoder(tmp_path / "wan")


def processes(films: Path, out: Path) -> subprocess.Popen[str]:
    arguments = ("curate", str(films), "--out", str(out), "--size", "128x80")
    return subprocess.Popen(
        python("-m", "flows.cli", *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    """Wait until a running process has left so many files in a folder."""
    deadline = time.monotonic() + 120
    while len(list(folder.glob("[!.]*"))) < count if folder.is_dir() else True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_run_goes_on_where_it_was(films: Path, tmp_path: Path, nano: Any) -> None:
    """Killed while it looks at videos, and again while it encodes, by a signal that no code sees;
    then it ends with the bytes of a run that was never stopped."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    curate(films, whole, CURATION, autoencoder=nano)
    for place, count in (("measured", 2), ("parts", 1)):
        process = processes(films, out)
        until(process, out / place, count)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    kept = {
        path: path.stat().st_mtime_ns
        for path in [*(out / "measured").glob("[!.]*"), *(out / "parts").glob("[!.]*")]
    }
    assert len(kept) >= 7
    assert not (out / "index.json").exists()

    curate(films, out, CURATION, autoencoder=nano)
    assert files(out) == files(whole)
    for path, changed in kept.items():
        if path.parent.name == "measured":
            assert path.stat().st_mtime_ns == changed, "measured once"
    assert not list((out / "parts").iterdir())


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "hostile"
    folder.mkdir()
    good = h264(pan(0), folder / "good.mp4")
    whole = good.read_bytes()
    (folder / "cut short.mp4").write_bytes(whole[: len(whole) * 2 // 3])  # the index is at its end
    h264(pan(1), folder / "torn.mkv")
    torn = (folder / "torn.mkv").read_bytes()
    (folder / "torn.mkv").write_bytes(torn[: len(torn) // 2])
    (folder / "empty.mp4").touch()
    (folder / "text [red].mp4").write_text("not a video")
    (folder / "noise.avi").write_bytes(os.urandom(5000))
    wild.sound_only(folder / "sound.m4a")
    shutil.copy(good, folder / "twin.mp4")
    h264(pan(2)[:1], folder / "one frame.mp4")
    h264(pan(2, 17), folder / "ribbon.mp4", "-vf", "scale=4000:16")
    h264(pan(2, 49), folder / "wide.mp4", "-vf", "scale=1120:160")
    Image.new("RGB", (20, 20)).save(folder / "picture.gif")
    (folder / "broken link.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / ".hidden.mp4").write_bytes(whole)
    (folder / "good.txt").write_text("[0, 1] the camera goes; [0.5, 2] and goes on")
    return folder


def test_no_file_stops_a_run_and_each_is_told(hostile: Path, tmp_path: Path, nano: Any) -> None:
    made = curate(hostile, tmp_path / "out", CURATION, autoencoder=nano)
    told = {entry.name: (entry.verdict.rule, entry.verdict.reason) for entry in made.entries}
    assert ".hidden.mp4" not in told
    assert "broken link.mp4" not in told
    unreadable = {name: why for name, (rule, why) in told.items() if rule is Rule.READABLE}
    assert unreadable == {
        "cut short.mp4": "neither an image nor a video that can be read",
        "empty.mp4": "the file is empty",
        "noise.avi": "neither an image nor a video that can be read",
        "picture.gif": "is a still picture",
        "ribbon.mp4": "is 4000x16: nobody films in that shape",
        "sound.m4a": "holds no video",
        "text [red].mp4": "neither an image nor a video that can be read",
        "torn.mkv": "the file is cut short; its header promises more than it holds",
    }
    assert told["one frame.mp4"][0] is Rule.LONG
    assert told["wide.mp4"][0] is None
    assert told["twin.mp4"] == (Rule.NEW, "the same file as good.mp4")
    rule, why = told["good.mp4"]
    assert rule is Rule.CAPTIONED
    assert why == "good.txt: prompts[1]: start = 0.5 lies within the span before it"
    assert made.clips == 1
    assert "[red]" in (tmp_path / "out" / "report.txt").read_text()
    (hostile / "good.txt").unlink()
    assert curate(hostile, tmp_path / "out", CURATION, autoencoder=nano).clips == 2


def test_a_file_that_kills_its_process_is_left_alone(films: Path, tmp_path: Path) -> None:
    """A decoder's crash cannot be caught; the runs after it know of it."""
    folder, measured = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    measured.mkdir()
    shutil.copy(films / "a.mp4", folder / "a.mp4")
    dies = (
        "import os, signal; from pathlib import Path\n"
        "from dreamontage.training.curation import measured\n"
        "measured.measure = lambda *arguments: os.kill(os.getpid(), signal.SIGSEGV)\n"
        "from dreamontage.training.curation.videos import Curation\n"
        f"folder, out = Path({str(folder)!r}), Path({str(measured)!r})\n"
        "measured.measure_once(folder, 'a.mp4', out, Curation())"
    )
    for _ in range(3):
        assert subprocess.run(python("-c", dies), cwd=ROOT).returncode == -signal.SIGSEGV
    found = measure_once(folder, "a.mp4", measured, Curation())
    assert found.fault == "3 processes died while looking at it"
    h264(pan(1), folder / "a.mp4")
    assert measure_once(folder, "a.mp4", measured, Curation()).fault is None, "another file"


def test_a_video_that_changes_under_a_run_is_told(
    films: Path, tmp_path: Path, nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "films"
    shutil.copytree(films, copy)

    def progress(what: str, done: int, total: int) -> None:
        if what == "encoding a.mp4":
            (copy / "a.mp4").write_bytes(b"something else")

    made = curate(copy, tmp_path / "out", CURATION, autoencoder=nano, progress=progress)
    assert verdicts(made)["a.mp4"] is Rule.READABLE
    assert made.clips == 2


def test_only_so_many_seconds_are_looked_at(tmp_path: Path, nano: Any) -> None:
    (tmp_path / "films").mkdir()
    film = h264(wild.cut(pan(0, 96), pan(5, 96), 60), tmp_path / "films" / "a.mp4")
    assert media.probe(film).frames == 96
    whole = curate(tmp_path / "films", tmp_path / "out", CURATION, autoencoder=nano)
    assert verdicts(whole)["a.mp4"] is Rule.ONE_SHOT
    short = Curation(target=TARGET, longest=3)
    assert curate(tmp_path / "films", tmp_path / "out", short, autoencoder=nano).clips == 1
    (facts,) = Dataset(tmp_path / "out").clips
    assert facts.frames == 45, "48 frames, less what does not fill a latent"
    assert facts.actions[-1].stop == 45


CAPTIONS = [
    ("a.txt", "she walks ", "she walks"),
    ("a.mp4.txt", "she walks", "she walks"),
    ("a.json", '{"prompts": "she walks"}', "she walks"),
    (
        "a.txt",
        "[0, 1] she stands; [1, 2.5] she walks",
        [(0, 1, "she stands"), (1, 2.5, "she walks")],
    ),
    (
        "a.json",
        '[{"start": 0, "end": 0.1, "text": "a"}, {"start": 1, "end": 2, "text": "b"}]',
        [(0, "1/10", "a"), (1, 2, "b")],
    ),
]


@pytest.mark.parametrize(("name", "text", "wanted"), CAPTIONS)
def test_captions_are_read_from_beside_the_video(
    name: str, text: str, wanted: Any, tmp_path: Path
) -> None:
    from fractions import Fraction

    (tmp_path / name).write_text(text)
    file = sidecar.find(tmp_path / "a.mp4")
    assert file == tmp_path / name
    spans = sidecar.read(file)
    if isinstance(wanted, str):
        assert spans == wanted
    else:
        assert spans == [(Fraction(a), Fraction(b), words) for a, b, words in wanted]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.txt", "", "says nothing"),
        ("a.txt", "[0, 1]", "says nothing"),
        ("a.txt", "[2, 1] a", r"prompts\[0\]: end = 1 must lie after start = 2"),
        ("a.json", "{", "is no JSON"),
        ("a.json", "{}", 'needs "prompts"'),
        ("a.json", "[]", "holds no spans"),
        ("a.json", '[{"start": "now", "end": 1, "text": "a"}]', "needs start and end"),
        ("a.json", '[{"start": 0, "end": 1, "text": 7}]', "says nothing"),
        ("a.json", "[3]", "needs start and end"),
    ],
)
def test_captions_that_cannot_be_used_are_told(
    name: str, text: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=why):
        sidecar.read(tmp_path / name)


def test_time_stamped_captions_are_the_actions(films: Path, tmp_path: Path, nano: Any) -> None:
    shutil.copy(films / "b.mkv", tmp_path / "b.mkv")
    (tmp_path / "b.txt").write_text("[0, 1.4] over the hill; [2, 9] and down")
    curate(tmp_path, tmp_path / "out", CURATION, autoencoder=nano)
    (facts,) = Dataset(tmp_path / "out").clips
    assert facts.actions == (
        Action(start=0, stop=22, text="over the hill"),
        Action(start=32, stop=49, text="and down"),
    )
    assert {22, 32} <= set(facts.stills), "borders of actions are stored alone"
    assert facts.boundaries() == [0, 22, 32, 48]


def test_the_command_tells_what_cannot_be(films: Path, tmp_path: Path) -> None:
    def told(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["curate", *arguments, "--out", str(tmp_path / "out")])
        assert done.exit_code
        return f"{done.exception}{done.output}"

    assert "there is no such folder" in told(str(tmp_path / "none"))
    (tmp_path / "none").mkdir()
    assert "holds no videos" in told(str(tmp_path / "none"))
    folder = str(films)
    assert "--size = '12' must read WIDTHxHEIGHT" in told(folder, "--size", "12")
    assert "--size = 8x8 must be at least 16 each way" in told(folder, "--size", "8x8")
    assert "--fps = 'many' must be a number" in told(folder, "--fps", "many")
    assert "--pose = 'no_such:thing' must name MODULE:FUNCTION" in told(
        folder, "--pose", "no_such:thing"
    )
    assert "--stills-every = 3 must be 1, 2 or 4" in told(folder, "--stills-every", "3")
    assert "holds no CLIP model" in told(folder, "--clip", str(tmp_path))


def test_the_command_only_reports_when_asked_to(films: Path, tmp_path: Path) -> None:
    arguments = ["curate", str(films), "-o", str(tmp_path), "--size", "128x80", "--report-only"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "dropped: more than one shot" in done.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "measured",
        "report.json",
        "report.txt",
        "kept.png",
        "dropped.png",
    }


def test_what_a_run_writes_is_not_looked_at(films: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    shutil.copy(films / "a.mp4", tmp_path / "a.mp4")
    shutil.copy(films / "a.mp4", tmp_path / "out" / "b.mp4")
    assert find_videos(tmp_path, but=tmp_path / "out") == ["a.mp4"]


def test_what_failed_once_is_looked_at_again(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full, a hook with a bug: the videos are not blamed for ever."""
    (tmp_path / "films").mkdir()
    shutil.copy(films / "a.mp4", tmp_path / "films" / "a.mp4")
    sound = False

    def pose(picture: Any) -> float:
        if not sound:
            raise OSError("No space left on device")
        return 1.0

    curation = replace(CURATION, pose=pose)
    told = curate(tmp_path / "films", tmp_path / "out", curation, autoencoder=None)
    assert "No space left on device" in told.entries[0].verdict.reason
    sound = True
    told = curate(tmp_path / "films", tmp_path / "out", curation, autoencoder=None)
    assert told.entries[0].verdict.kept
    monkeypatch.setenv("DREAMONTAGE_FFMPEG", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"DREAMONTAGE_FFMPEG = .* is not a program"):
        curate(tmp_path / "films", tmp_path / "out", curation, autoencoder=None)
