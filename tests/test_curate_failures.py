"""A run of `curate` is killed, and its files are broken: nothing stops it, all is reported."""

from __future__ import annotations

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

from dreamontage.training.curation.judge import Rule
from dreamontage.training.curation.measured import measure_once
from dreamontage.training.curation.run import curate
from dreamontage.training.curation.videos import Curation
from flows.studio.processes import python
from tests.support import wild
from tests.support.curated import CURATION, ROOT, files, verdicts
from tests.support.wild import h264, pan


def processes(wild_films: Path, out: Path) -> subprocess.Popen[str]:
    arguments = ("curate", str(wild_films), "--out", str(out), "--size", "128x80")
    return subprocess.Popen(
        python("-m", "flows.cli", *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def until(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    """Wait until a running process has written `count` files into a folder."""
    deadline = time.monotonic() + 120
    while len(list(folder.glob("[!.]*"))) < count if folder.is_dir() else True:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_killed_run_continues(wild_films: Path, tmp_path: Path, nano_vae: Any) -> None:
    """Killed while it measures videos, and again while it encodes, by a signal that no code sees.

    Resumed, it ends with the bytes of a run that was never stopped.
    """
    whole, out = tmp_path / "whole", tmp_path / "killed"
    curate(wild_films, whole, CURATION, autoencoder=nano_vae)
    for place, count in (("measured", 2), ("parts", 1)):
        process = processes(wild_films, out)
        until(process, out / place, count)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    stamps = {
        path: path.stat().st_mtime_ns
        for path in [*(out / "measured").glob("[!.]*"), *(out / "parts").glob("[!.]*")]
    }
    assert len(stamps) >= 7
    assert not (out / "index.json").exists()

    curate(wild_films, out, CURATION, autoencoder=nano_vae)
    assert files(out) == files(whole)
    for path, changed in stamps.items():
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


def test_no_file_stops_a_run_and_each_is_reported(
    hostile: Path, tmp_path: Path, nano_vae: Any
) -> None:
    made = curate(hostile, tmp_path / "out", CURATION, autoencoder=nano_vae)
    found = {entry.name: (entry.verdict.rule, entry.verdict.reason) for entry in made.entries}
    assert ".hidden.mp4" not in found
    assert "broken link.mp4" not in found
    unreadable = {name: why for name, (rule, why) in found.items() if rule is Rule.READABLE}
    assert unreadable == {
        "cut short.mp4": "neither an image nor a video that can be read",
        "empty.mp4": "the file is empty",
        "noise.avi": "neither an image nor a video that can be read",
        "picture.gif": "is a still picture",
        "ribbon.mp4": "is 4000x16: too narrow to be a film",
        "sound.m4a": "holds no video",
        "text [red].mp4": "neither an image nor a video that can be read",
        "torn.mkv": "the file is cut short; its header promises more than it holds",
    }
    assert found["one frame.mp4"][0] is Rule.LONG
    assert found["wide.mp4"][0] is None
    assert found["twin.mp4"] == (Rule.NEW, "the same file as good.mp4")
    rule, why = found["good.mp4"]
    assert rule is Rule.CAPTIONED
    assert why == "good.txt: prompts[1]: start = 0.5 lies within the span before it"
    assert made.clips == 1
    assert "[red]" in (tmp_path / "out" / "report.txt").read_text()
    (hostile / "good.txt").unlink()
    assert curate(hostile, tmp_path / "out", CURATION, autoencoder=nano_vae).clips == 2


def test_a_file_that_kills_its_process_is_left_alone(wild_films: Path, tmp_path: Path) -> None:
    """A decoder's crash cannot be caught. The runs after it know about it."""
    folder, measured = tmp_path / "films", tmp_path / "out"
    folder.mkdir()
    measured.mkdir()
    shutil.copy(wild_films / "a.mp4", folder / "a.mp4")
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


def test_a_video_that_changes_during_a_run_is_reported(
    wild_films: Path, tmp_path: Path, nano_vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "films"
    shutil.copytree(wild_films, copy)

    def progress(what: str, done: int, total: int) -> None:
        if what == "encoding a.mp4":
            (copy / "a.mp4").write_bytes(b"something else")

    made = curate(copy, tmp_path / "out", CURATION, autoencoder=nano_vae, progress=progress)
    assert verdicts(made)["a.mp4"] is Rule.READABLE
    assert made.clips == 2


def test_what_failed_once_is_looked_at_again(
    wild_films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason may be a full disk, or a bug in a hook."""
    (tmp_path / "films").mkdir()
    shutil.copy(wild_films / "a.mp4", tmp_path / "films" / "a.mp4")
    sound = False

    def pose(picture: Any) -> float:
        if not sound:
            raise OSError("No space left on device")
        return 1.0

    curation = replace(CURATION, pose=pose)
    found = curate(tmp_path / "films", tmp_path / "out", curation, autoencoder=None)
    assert "No space left on device" in found.entries[0].verdict.reason
    sound = True
    found = curate(tmp_path / "films", tmp_path / "out", curation, autoencoder=None)
    assert found.entries[0].verdict.accepted
    monkeypatch.setenv("DREAMONTAGE_FFMPEG", str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"DREAMONTAGE_FFMPEG = .* is not a program"):
        curate(tmp_path / "films", tmp_path / "out", curation, autoencoder=None)
