"""Every store keeps the same promises: asked of a folder and of two S3-compatible servers."""

import hashlib
import multiprocessing
import shutil
import string
import tracemalloc
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minio import Minio

from storage import FolderStore, NotFound, Store, StoreUnavailable, Torn
from storage.address import address_of, parse
from tests.support.s3 import S3Server

DIGEST = hashlib.sha256(b"").hexdigest()
MIB = 1 << 20
HOUR = timedelta(hours=1)

NO_ADDRESSES = [
    "",
    "assets",
    "../../etc/passwd",
    "/etc/passwd",
    f"/assets/{DIGEST[:2]}/{DIGEST}",
    f"../{DIGEST[:2]}/{DIGEST}",
    f"./{DIGEST[:2]}/{DIGEST}",
    f"assets/../{DIGEST}",
    f"assets/00/{DIGEST}",
    f"assets/{DIGEST}",
    f"assets/{DIGEST[:2]}/{DIGEST[:-1]}",
    f"assets/{DIGEST[:2]}/{DIGEST}0",
    f"assets/{DIGEST[:2]}/{DIGEST.upper()}",
    f"assets/{DIGEST[:2]}/{DIGEST}.PNG",
    f"assets/{DIGEST[:2]}/{DIGEST}..",
    f"assets/{DIGEST[:2]}/{DIGEST}.png/../../../x",
    f"assets/{DIGEST[:2]}/{DIGEST}.png\n",
    f"assets/{DIGEST[:2]}/{DIGEST}\0.png",
    f"assets\\{DIGEST[:2]}\\{DIGEST}",
    f".incoming/{DIGEST[:2]}/{DIGEST}",
]
NO_PREFIXES = [
    "..",
    "/",
    "assets/..",
    "assets/../x",
    ".incoming",
    "assets//",
    "*",
    "assets/ab/../x",
]
NO_KINDS = ["", "..", ".incoming", "a/b", "Assets", "1st", "a" * 33, "assets\n"]
NO_SUFFIXES = ["png", ".", "..", "/x", ".png/..", ".a.b.c.d", ".p ng", "." + "a" * 17]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A store under test, a way to open it again, and a way to damage it behind its back."""

    store: Store
    reopen: Callable[[], Store]
    overwrite: Callable[[str, bytes], None]


@pytest.fixture(params=["folder", "ministack", "rclone"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    if request.param == "folder":
        root = tmp_path / "store"
        reopen: Callable[[], Store] = partial(FolderStore, root)

        def damage(address: str, data: bytes) -> None:
            (root / address).write_bytes(data)

        return Subject(store=reopen(), reopen=reopen, overwrite=damage)
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    bucket = f"test-{uuid4().hex}"
    client = Minio(
        server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        region=server.region,
        secure=False,
    )

    def overwrite(address: str, data: bytes) -> None:
        client.put_object(bucket, address, BytesIO(data), len(data))

    reopen = partial(server.store, bucket)
    return Subject(store=reopen(), reopen=reopen, overwrite=overwrite)


@pytest.fixture
def store(subject: Subject) -> Store:
    return subject.store


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 5000], ids=len)
def test_bytes_and_files_make_the_round_trip(store: Store, tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(data)

    address = store.put("assets", data, ".png")

    digest = hashlib.sha256(data).hexdigest()
    assert address == f"assets/{digest[:2]}/{digest}.png"
    assert store.put("assets", source, ".PNG") == address
    assert store.get(address) == data
    target = tmp_path / "target.bin"
    assert store.fetch(address, target) == target
    assert target.read_bytes() == data


def test_a_file_is_put_as_bytes_are(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"from a file")
    assert store.get(store.put("latents", source)) == b"from a file"


def most_memory_held_by(work: Callable[[], object]) -> int:
    """In bytes, counting what Python allocated and not what it had before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_big_file_never_lies_in_memory_as_a_whole(store: Store, tmp_path: Path) -> None:
    source, target = tmp_path / "big.bin", tmp_path / "back.bin"
    source.write_bytes(b"".join(bytes([number]) * MIB for number in range(40)))

    assert most_memory_held_by(lambda: store.put("films", source, ".mp4")) < 36 * MIB
    (found,) = store.list()
    assert found.size == 40 * MIB
    assert most_memory_held_by(lambda: store.fetch(found.address, target)) < 8 * MIB

    assert target.read_bytes() == source.read_bytes()
    assert store.get(found.address) == source.read_bytes()


def test_one_content_under_two_kinds_or_suffixes_is_two_objects(store: Store) -> None:
    addresses = {
        store.put(kind, b"same", suffix)
        for kind, suffix in [("assets", ""), ("assets", ".png"), ("latents", ""), ("a", ".tar.gz")]
    }
    assert len(addresses) == 4
    assert [stat.address for stat in store.list()] == sorted(addresses)


def test_stat_gives_size_and_time(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # a header's time has whole seconds
    address = store.put("assets", b"twelve bytes")
    found = store.stat(address)
    assert (found.address, found.size) == (address, 12)
    assert before <= found.modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert found.modified.utcoffset() == timedelta(0)


def test_a_second_put_leaves_the_object_alone(subject: Subject) -> None:
    """The marker: other bytes of the right size, which a put that wrote would have replaced."""
    address = subject.store.put("assets", b"right")
    subject.overwrite(address, b"wrong")
    assert subject.store.put("assets", b"right") == address
    with pytest.raises(Torn):
        subject.store.get(address)


@pytest.mark.parametrize("torn", [b"", b"righ", b"wrong", b"right and more"])
def test_a_torn_object_is_never_read(subject: Subject, tmp_path: Path, torn: bytes) -> None:
    address = subject.store.put("assets", b"right")
    subject.overwrite(address, torn)
    folder = tmp_path / "fetched"
    folder.mkdir()
    kept = folder / "kept.bin"
    kept.write_bytes(b"what was there")

    with pytest.raises(Torn, match=address):
        subject.store.get(address)
    for path in (folder / "new.bin", kept):
        with pytest.raises(Torn, match=address):
            subject.store.fetch(address, path)

    assert list(folder.iterdir()) == [kept]
    assert kept.read_bytes() == b"what was there"


def test_put_repairs_a_torn_object_of_another_size(subject: Subject) -> None:
    address = subject.store.put("assets", b"right")
    subject.overwrite(address, b"righ")
    assert subject.store.put("assets", b"right") == address
    assert subject.store.get(address) == b"right"


def test_delete_and_put_repair_a_torn_object_of_the_same_size(subject: Subject) -> None:
    address = subject.store.put("assets", b"right")
    subject.overwrite(address, b"wrong")
    subject.store.delete(address)
    assert subject.store.put("assets", b"right") == address
    assert subject.store.get(address) == b"right"


def test_what_is_missing_is_not_found(store: Store, tmp_path: Path) -> None:
    address = str(address_of("assets", DIGEST, ".png"))
    asks: Sequence[Callable[[], object]] = [
        lambda: store.get(address),
        lambda: store.fetch(address, tmp_path / "target.bin"),
        lambda: store.stat(address),
        lambda: store.presign(address, HOUR),
    ]
    for ask in asks:
        with pytest.raises(NotFound, match=f"^{address} is not in "):
            ask()
    assert not (tmp_path / "target.bin").exists()
    assert list(store.list()) == []


def test_delete_may_be_asked_twice(store: Store) -> None:
    address, other = store.put("assets", b"one"), store.put("assets", b"two")
    store.delete(address)
    store.delete(address)
    assert [stat.address for stat in store.list()] == [other]
    assert store.put("assets", b"one") == address
    assert store.get(address) == b"one"


def test_list_takes_any_beginning_of_an_address(store: Store) -> None:
    contents = [str(number).encode() for number in range(40)]
    addresses = sorted(
        store.put(kind, content, suffix)
        for content in contents
        for kind, suffix in [("assets", ".png"), ("assets-old", ""), ("films", ".mp4")]
    )
    sample = addresses[7]
    cuts = [*range(len("assets/") + 8), len(sample) - 4, len(sample) - 2, len(sample)]
    for prefix in ["", "assets", "assets-", "assets/", "films/", "none"] + [
        sample[:n] for n in cuts
    ]:
        listed = list(store.list(prefix))
        assert [stat.address for stat in listed] == [a for a in addresses if a.startswith(prefix)]
        assert all(stat.size == store.stat(stat.address).size for stat in listed[:2])


def test_what_is_not_ours_is_not_listed(subject: Subject) -> None:
    address = subject.store.put("assets", b"ours")
    subject.overwrite(f"assets/{address[7:9]}/notes.txt", b"a stranger's")
    assert [stat.address for stat in subject.store.list()] == [address]


def test_a_presigned_url_can_be_read_without_keys(store: Store) -> None:
    address = store.put("films", b"a film", ".mp4")
    with urllib.request.urlopen(store.presign(address, HOUR)) as answer:
        assert answer.read() == b"a film"


@pytest.mark.parametrize("expires", [timedelta(0), timedelta(seconds=-1), timedelta(days=7.1)])
def test_a_presigned_url_lives_up_to_seven_days(store: Store, expires: timedelta) -> None:
    address = store.put("films", b"a film", ".mp4")
    with pytest.raises(ValueError, match=r"expires = .* between 1 second and 7 days"):
        store.presign(address, expires)


def test_what_is_no_address_is_refused(store: Store, tmp_path: Path) -> None:
    for bad in NO_ADDRESSES:
        asks: Sequence[Callable[[str], object]] = [
            store.get,
            lambda address: store.fetch(address, tmp_path / "target.bin"),
            store.stat,
            lambda address: store.presign(address, HOUR),
            store.delete,
        ]
        for ask in asks:
            with pytest.raises(ValueError, match="address = "):
                ask(bad)
    for prefix in NO_PREFIXES:
        with pytest.raises(ValueError, match="prefix = "):
            store.list(prefix)
    for kind in NO_KINDS:
        with pytest.raises(ValueError, match="kind = "):
            store.put(kind, b"x")
    for suffix in NO_SUFFIXES:
        with pytest.raises(ValueError, match="suffix = "):
            store.put("assets", b"x", suffix)
    assert list(store.list()) == []


@settings(deadline=None)
@given(
    kind=st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True),
    data=st.binary(max_size=64),
    suffix=st.from_regex(r"(\.[a-z0-9]{1,16}){0,3}", fullmatch=True),
)
def test_an_address_can_be_taken_apart(kind: str, data: bytes, suffix: str) -> None:
    address = address_of(kind, hashlib.sha256(data).hexdigest(), suffix)
    assert parse(str(address)) == address
    assert (address.kind, address.suffix) == (kind, suffix)


@settings(deadline=None)
@given(st.text(alphabet=string.printable + "\0é") | st.text(alphabet="./a0-\\", max_size=80))
def test_no_text_leads_out_of_the_store(text: str) -> None:
    for candidate in (text, f"assets/{DIGEST[:2]}/{DIGEST}{text}", f"{text}/{DIGEST[:2]}/{DIGEST}"):
        try:
            address = parse(candidate)
        except ValueError:
            continue
        assert str(address) == candidate
        assert (Path("/store") / candidate).resolve().relative_to("/store").parts[0] == address.kind


def test_many_threads_put_the_same_bytes(store: Store) -> None:
    data = bytes(300_000)
    with ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(lambda _: store.put("assets", data), range(24)))
    (address,) = addresses
    assert [stat.address for stat in store.list()] == [address]
    assert store.get(address) == data


def _put_in_another_process(reopen: Callable[[], Store], data: bytes) -> str:
    return reopen().put("assets", data)


def test_several_processes_put_the_same_bytes(subject: Subject) -> None:
    data = bytes(3_000_000)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=spawn) as pool:
        asked = [pool.submit(_put_in_another_process, subject.reopen, data) for _ in range(6)]
        addresses = {answer.result() for answer in asked}
    (address,) = addresses
    assert [stat.address for stat in subject.store.list()] == [address]
    assert subject.store.get(address) == data


class ShiftingFile(type(Path())):  # type: ignore[misc]
    """A file that someone else rewrites between its being named and its being copied."""

    becomes: bytes
    times_opened = 0

    def open(self, *args: object, **kwargs: object) -> object:
        self.times_opened += 1
        if self.times_opened == 2:
            Path(self).write_bytes(self.becomes)
        return Path(self).open(*args, **kwargs)  # type: ignore[call-overload]


@pytest.mark.parametrize("becomes", [b"", b"befor", b"after!"])
@pytest.mark.parametrize("times", [1, 4_000_000], ids=["small", "several parts"])
def test_a_file_that_changes_under_the_put_is_not_kept(
    store: Store, tmp_path: Path, becomes: bytes, times: int
) -> None:
    source = ShiftingFile(tmp_path / "source.bin")
    source.write_bytes(b"before" * times)
    source.times_opened, source.becomes = 0, becomes * times
    with pytest.raises(Torn):
        store.put("assets", source)
    assert source.times_opened == 2
    assert list(store.list()) == []


def test_a_folder_store_distinguishes_a_missing_disk_from_a_missing_object(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "disk")
    address = store.put("assets", b"x")
    shutil.rmtree(tmp_path / "disk")
    asks: Sequence[Callable[[], object]] = [
        lambda: store.get(address),
        lambda: store.put("assets", b"x"),
        lambda: store.list(),
    ]
    for ask in asks:
        with pytest.raises(StoreUnavailable, match=f"{tmp_path / 'disk'} is gone"):
            ask()
    assert not (tmp_path / "disk").exists()
