"""What only a store behind a network can meet: parts, wrong keys, servers and wires that fail."""

import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from threading import Thread
from uuid import uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from minio import Minio
from minio.error import MinioException

from storage import StoreUnavailable
from tests.support.s3 import S3Server, free_port, rclone

MIB = 1 << 20


@pytest.fixture(params=["ministack", "rclone"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(f"{request.param}_server")
    return found


@pytest.fixture
def bucket() -> str:
    return f"test-{uuid4().hex}"


def test_parts_are_sixteen_mebibytes(ministack_server: S3Server, bucket: str) -> None:
    """S3 marks the tag of an object that came in three parts with -3."""
    address = ministack_server.store(bucket).put("films", bytes(33 * MIB), ".mp4")
    etag = _client(ministack_server).stat_object(bucket, address).etag
    assert etag is not None
    assert etag.endswith("-3")


def _client(server: S3Server) -> Minio:
    return Minio(
        server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        region=server.region,
        secure=server.secure,
    )


def test_a_bucket_is_made_once_and_opened_again(server: S3Server, bucket: str) -> None:
    assert not _client(server).bucket_exists(bucket)
    address = server.store(bucket).put("assets", b"kept")
    assert server.store(bucket).get(address) == b"kept"


def test_losing_the_race_to_make_the_bucket_is_no_error(
    server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    abroad = replace(server, region="eu-west-1")  # us-east-1 lets one make a bucket twice
    address = abroad.store(bucket).put("assets", b"the winner's")
    # As if the winner had made it after the loser looked.
    monkeypatch.setattr(Minio, "bucket_exists", lambda *_: False)
    with pytest.raises(MinioException, match="BucketAlready"):
        _client(abroad).make_bucket(bucket, "eu-west-1")
    assert abroad.store(bucket).get(address) == b"the winner's"


@pytest.mark.parametrize("wrong", [{"secret_key": "not-the-secret"}, {"access_key": "stranger"}])
def test_wrong_keys_are_reported_when_the_store_is_opened(
    rclone_server: S3Server, bucket: str, wrong: dict[str, str]
) -> None:
    stranger = replace(rclone_server, **wrong)  # type: ignore[arg-type]
    with pytest.raises(PermissionError) as caught:
        stranger.store(bucket)
    message = str(caught.value)
    assert f"the store at {stranger.endpoint} refuses access key '{stranger.access_key}'" in message
    assert stranger.secret_key not in message
    assert not _client(rclone_server).bucket_exists(bucket)


def test_a_presigned_url_opens_one_object_and_no_other(server: S3Server, bucket: str) -> None:
    store = server.store(bucket)
    mine, other = store.put("films", b"mine"), store.put("films", b"other")
    url = store.presign(mine, timedelta(minutes=5))
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"mine"
    assert "X-Amz-Expires=300" in url
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace(mine, other))
    with closing(refused.value):
        assert refused.value.code == 403


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 that vouches for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "the studio's own")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    key_path, certificate_path = folder / "key.pem", folder / "certificate.pem"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_path, certificate_path


def test_https_needs_a_trusted_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = _certificate(tmp_path)
    options = ["--key", str(key), "--cert", str(certificate)]
    with rclone(tmp_path, port=free_port(), options=options) as server:
        secure = replace(server, secure=True)
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            secure.store("bucket")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        store = secure.store("bucket")
        big = bytes(33 * MIB)
        for content in (b"small", big):
            assert store.get(store.put("films", content)) == content
        assert store.presign(store.put("films", big), timedelta(hours=1)).startswith("https://")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9000", "https://s3.example.com"])
def test_an_endpoint_has_no_scheme(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint = 'https?://.*without a scheme"):
        S3Server(endpoint=endpoint, access_key="a", secret_key="b").store("bucket")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    nobody = S3Server(endpoint=endpoint, access_key="a", secret_key="b")
    with pytest.raises(StoreUnavailable, match=f"the store at {endpoint} cannot be reached: .*ref"):
        nobody.store("bucket")


def test_a_server_that_goes_and_comes_back_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    with rclone(tmp_path, port=port) as server:
        store = server.store("bucket")
        address = store.put("assets", b"before")
    asks: Sequence[Callable[[], object]] = [
        lambda: store.get(address),
        lambda: store.put("assets", b"during"),
    ]
    for ask in asks:
        with pytest.raises(StoreUnavailable, match=f"the store at {server.endpoint} cannot"):
            ask()
    with rclone(tmp_path, port=port):
        assert store.get(address) == b"before"
        assert [stat.address for stat in store.list()] == [address]


def test_a_bucket_that_is_deleted_under_the_store_is_no_missing_object(
    server: S3Server, bucket: str
) -> None:
    store = server.store(bucket)
    address = store.put("assets", b"x")
    store.delete(address)
    _client(server).remove_bucket(bucket)
    with pytest.raises(StoreUnavailable, match=rf"failed on bucket '{bucket}' \(NoSuchBucket\)"):
        store.get(address)


@contextmanager
def wire_that_breaks(server: S3Server, *, sent: int, received: int) -> Iterator[S3Server]:
    """A wire to the server that breaks each connection after so many bytes in one direction."""
    host, port = server.endpoint.split(":")

    ends: list[socket.socket] = []
    carriers: list[Thread] = []

    def hang_up(*sockets: socket.socket) -> None:
        for end in sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def pump(source: socket.socket, target: socket.socket, left: int) -> None:
        with suppress(OSError):
            while left > 0 and (data := source.recv(min(left, 1 << 16))):
                target.sendall(data)
                left -= len(data)
        hang_up(source, target)

    def carry(near: socket.socket) -> None:
        with near, socket.create_connection((host, int(port))) as far:
            ends.extend((near, far))
            up = Thread(target=pump, args=(near, far, sent))
            up.start()
            pump(far, near, received)
            up.join()

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                carriers.append(Thread(target=carry, args=(listener.accept()[0],)))
                carriers[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = Thread(target=accept, args=(listener,))
        acceptor.start()
        try:
            yield replace(server, endpoint=f"127.0.0.1:{listener.getsockname()[1]}")
        finally:
            hang_up(listener)
            acceptor.join()
            hang_up(*ends)  # the client may keep a connection for later
            for carrier in carriers:
                carrier.join()


def test_a_wire_that_breaks_under_a_read_leaves_no_file(
    ministack_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    address = ministack_server.store(bucket).put("films", bytes(3 * MIB))
    with wire_that_breaks(ministack_server, sent=1 << 40, received=2 * MIB) as broken:
        store = broken.store(bucket)
        folder = tmp_path / "fetched"
        folder.mkdir()
        with pytest.raises(StoreUnavailable, match=f"the store at {broken.endpoint} cannot"):
            store.fetch(address, folder / "film.mp4")
        with pytest.raises(StoreUnavailable):
            store.get(address)
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("size", [3 * MIB, 20 * MIB], ids=["one part", "two parts"])
def test_a_wire_that_breaks_under_a_write_leaves_no_object(
    server: S3Server, bucket: str, size: int
) -> None:
    whole = server.store(bucket)
    with wire_that_breaks(server, sent=2 * MIB, received=1 << 40) as broken:
        store = broken.store(bucket)
        with pytest.raises(StoreUnavailable, match=f"the store at {broken.endpoint} cannot"):
            store.put("films", bytes(size))
        assert list(whole.list()) == []
    address = whole.put("films", bytes(size))
    assert whole.get(address) == bytes(size)
