"""Writers that are killed half-way: each is a process of its own, and dies at a chosen point."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from storage import FolderStore
from storage.address import address_of
from storage.content import Content
from tests.support.s3 import S3Server

MIB = 1 << 20
SIZE = 24 * MIB

FOLDER = """
import os, signal, sys
from pathlib import Path
from storage import FolderStore
store = FolderStore(Path(sys.argv[1]))
{then}
store.put("latents", Path(sys.argv[2]))
"""
BEFORE_THE_NAME = "os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)"
AMID_THE_BYTES = "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)"

S3 = """
import os, signal, sys
from pathlib import Path
from minio import Minio
from storage import S3Store
store = S3Store(endpoint=sys.argv[1], bucket=sys.argv[2], access_key=sys.argv[3],
                secret_key=sys.argv[4], secure=False)
Minio._complete_multipart_upload = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
store.put("latents", Path(sys.argv[5]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "latents.bin"
    path.write_bytes(os.urandom(MIB) * (SIZE // MIB))
    return path


def _files_end_at_half() -> None:
    """In the child: writing past half of the file is as if the disk were full there."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, SIZE // 2))


def _folder_child(then: str, *args: object, half: bool) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FOLDER.format(then=then), *map(str, args)],
        preexec_fn=_files_end_at_half if half else None,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("then", "half", "dies_of"),
    [
        pytest.param(BEFORE_THE_NAME, False, signal.SIGKILL, id="all bytes but no name"),
        pytest.param(AMID_THE_BYTES, True, signal.SIGXFSZ, id="half of the bytes"),
    ],
)
def test_a_killed_writer_leaves_nothing_to_read(
    tmp_path: Path, source: Path, then: str, half: bool, dies_of: signal.Signals
) -> None:
    root = tmp_path / "store"
    child = _folder_child(then, root, source, half=half)
    assert child.returncode == -dies_of, child.stderr

    (stray,) = (root / ".incoming").iterdir()
    assert stray.stat().st_size == (SIZE // 2 if half else SIZE)
    store = FolderStore(root)
    assert list(store.list()) == []
    assert [path for path in root.rglob("*") if path.is_file()] == [stray]

    address = store.put("latents", source)
    assert store.get(address) == source.read_bytes()


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, source: Path) -> None:
    root = tmp_path / "store"
    child = _folder_child("", root, source, half=True)
    assert child.returncode == 1
    assert "OSError: [Errno 27] File too large" in child.stderr
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_opening_sweeps_what_a_killed_writer_left_a_day_ago(tmp_path: Path) -> None:
    scratch = tmp_path / "store" / ".incoming"
    FolderStore(tmp_path / "store")
    old, new = scratch / ".old.part", scratch / ".new.part"
    for part in (old, new):
        part.write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    FolderStore(tmp_path / "store")
    assert list(scratch.iterdir()) == [new]


@pytest.mark.parametrize("name", ["ministack", "rclone"])
def test_a_writer_killed_before_the_last_word_leaves_nothing_on_the_server(
    name: str, request: pytest.FixtureRequest, source: Path
) -> None:
    server: S3Server = request.getfixturevalue(f"{name}_server")
    bucket = f"test-{uuid4().hex}"
    args = [server.endpoint, bucket, server.access_key, server.secret_key, str(source)]
    child = subprocess.run([sys.executable, "-c", S3, *args], check=False)
    assert child.returncode == -signal.SIGKILL

    store = server.store(bucket)
    address = str(address_of("latents", Content.of(source).digest))
    assert list(store.list()) == []
    assert store.put("latents", source) == address
    assert store.get(address) == source.read_bytes()
