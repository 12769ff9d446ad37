"""Files and folders appear whole or not at all, though their writer is killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dreamontage import files
from dreamontage.files import replacing, write_file, write_folder, write_text

KILLED = """
import os, signal, sys
from pathlib import Path
from dreamontage import files
out = Path(sys.argv[2])
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
{then}
def fill(path):
    path.write_text("half")
    {amid}
def fill_folder(folder):
    fill(folder / "x")
getattr(files, sys.argv[1])(out, fill_folder if sys.argv[1] == "write_folder" else fill)
"""
WRITERS = ("write_file", "write_folder")


def killed(writer: str, out: Path, *, then: str = "", amid: str = "") -> None:
    """Write `out` in a process that is killed at some point."""
    code = KILLED.format(then=then, amid=amid)
    ended = subprocess.run([sys.executable, "-c", code, writer, str(out)], check=False)
    assert ended.returncode == -signal.SIGKILL


def content(path: Path) -> str:
    return (path / "x" if path.is_dir() else path).read_text()


def make(writer: str, out: Path, text: str) -> None:
    if writer == "write_folder":
        write_folder(out, lambda folder: write_text(folder / "x", text))
    else:
        write_text(out, text)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    "where",
    [
        {"amid": "die()"},
        {"then": "os.fsync = die"},
        {"then": "Path.replace = die; Path.rename = die"},
    ],
    ids=["amid its bytes", "before they are on the disk", "before the name"],
)
def test_a_killed_writer_leaves_what_was_there(
    writer: str, where: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    killed(writer, out, **where)
    assert not out.exists()
    make(writer, out, "whole")
    killed(writer, out, **where)
    assert content(out) == "whole"
    make(writer, out, "new")
    assert content(out) == "new"
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["out"]


@pytest.mark.parametrize("writer", WRITERS)
def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    writer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, steps = tmp_path / "out", []

    def note_sync(handle: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}")).is_dir(), out.exists()))

    monkeypatch.setattr(files.os, "fsync", note_sync)  # type: ignore[attr-defined]
    # (what, whether it is a folder, whether the name is there)
    make(writer, out, "whole")
    assert ("sync", False, False) in steps
    assert steps[-1] == ("sync", True, True)
    assert all(named or not folder or writer == "write_folder" for _, folder, named in steps[:-1])


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_are_the_usual_ones_or_those_asked_for(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "usual", "a")
        write_text(tmp_path / "secret", "a", mode=0o600)
        (tmp_path / "plain").write_text("a")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"usual": 0o666 & ~umask, "secret": 0o600, "plain": 0o666 & ~umask}


def test_a_path_to_write_to_has_the_suffix_and_goes_when_its_block_fails(tmp_path: Path) -> None:
    out = tmp_path / ("a" * 250 + ".png")  # no room for anything beside it in the name
    with replacing(out) as temporary:
        assert temporary.suffix == ".png"
        temporary.write_text("first")

    def fail() -> None:
        with replacing(out) as temporary:
            temporary.write_text("second")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        fail()
    assert out.read_text() == "first"
    assert list(tmp_path.iterdir()) == [out]


def test_folders_above_a_file_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "größer")
    assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "größer"


def test_a_half_written_folder_never_takes_the_place_of_a_whole_one(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", lambda path: (path / "x").touch())

    def fail(path: Path) -> None:
        (path / "y").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_folder(tmp_path / "a", fail)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x"]


def test_two_processes_may_write_one_file_at_once(tmp_path: Path) -> None:
    """As those of one run do, which all need the embedding of the same prompt."""
    file = tmp_path / "file"

    def first(path: Path) -> None:
        path.write_text("first")
        write_file(file, lambda other: other.write_text("second"))
        assert file.read_text() == "second"

    write_file(file, first)
    assert file.read_text() == "first"
    assert list(tmp_path.iterdir()) == [file]
