"""A store in one bucket of an S3-compatible server.

Only the plain part of S3 is used: objects, multi-part uploads, listing, presigned reads. No tags,
ACLs, versions or conditional writes, which many servers lack. Correctness does not need them: the
key holds the digest, a server shows an object only once its upload is complete, and two writers of
one key write the same bytes.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import BinaryIO, cast

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError

from storage.address import Address, address_of, check_prefix, is_address, parse
from storage.base import NotFound, Stat, StoreUnavailable, Torn, check_expires, size_of
from storage.content import CHUNK, Content, checked, write_whole

PART_SIZE = 16 << 20
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_CONNECTIONS = 16
_BUCKET_IS_THERE = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}


class S3Store:
    """Objects in a bucket, which is made if missing. Keeps `Store`'s promises.

    ``endpoint`` is ``host:port`` without a scheme; ``secure`` chooses https. Opening asks the
    server for the bucket, so a wrong endpoint, key or secret is found out here.

    A writer that is killed leaves the parts it had uploaded on the server, readable by no one; a
    lifecycle rule of the bucket ("abort incomplete multi-part uploads") clears them away.
    """

    def __init__(
        self,
        *,
        endpoint: str,
        bucket: str,
        access_key: str,
        secret_key: str,
        region: str = "us-east-1",
        secure: bool = True,
    ) -> None:
        if "://" in endpoint:
            raise ValueError(
                f"endpoint = {endpoint!r}: must be host:port without a scheme; "
                "whether it is https is said by secure"
            )
        self.endpoint, self.bucket = endpoint, bucket
        self._access_key = access_key
        self._client = Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            region=region,
            secure=secure,
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=_READ_SECONDS),
                retries=urllib3.Retry(
                    total=3, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]
                ),
                maxsize=_CONNECTIONS,
            ),
        )
        with self._translated():
            self._make_bucket(region)

    def __repr__(self) -> str:
        return f"S3Store(endpoint={self.endpoint!r}, bucket={self.bucket!r})"

    def put(self, kind: str, source: bytes | Path, suffix: str = "") -> str:
        content = Content.of(source)
        address = address_of(kind, content.digest, suffix)
        if size_of(self, str(address)) == content.size:
            return str(address)
        with content.open() as stream, self._translated():
            self._client.put_object(
                self.bucket,
                str(address),
                cast(BinaryIO, _CheckedUpload(stream, content, address)),
                content.size,
                part_size=PART_SIZE,
                num_parallel_uploads=1,  # the client's threads outlive an upload that fails
            )
        return str(address)

    def get(self, address: str) -> bytes:
        return b"".join(self._read(parse(address)))

    def fetch(self, address: str, path: Path) -> Path:
        write_whole(self._read(parse(address)), path, scratch=path.parent)
        return path

    def stat(self, address: str) -> Stat:
        parsed = parse(address)
        with self._translated(parsed):
            found = self._client.stat_object(self.bucket, str(parsed))
        assert found.size is not None
        assert found.last_modified is not None
        return Stat(address=address, size=found.size, modified=found.last_modified.astimezone(UTC))

    def list(self, prefix: str = "") -> Iterator[Stat]:
        check_prefix(prefix)
        with self._translated():
            objects = list(self._client.list_objects(self.bucket, prefix, recursive=True))
        # S3 promises this order, and the servers' pages do not all keep it.
        return iter(
            sorted(
                (
                    Stat(address=found.object_name, size=found.size, modified=found.last_modified)
                    for found in objects
                    if is_address(found.object_name)
                ),
                key=lambda stat: stat.address,
            )
        )

    def presign(self, address: str, expires: timedelta) -> str:
        check_expires(expires)
        self.stat(address)
        return cast(str, self._client.presigned_get_object(self.bucket, address, expires))

    def delete(self, address: str) -> None:
        parsed = parse(address)
        try:
            with self._translated(parsed):
                self._client.remove_object(self.bucket, str(parsed))
        except NotFound:  # S3 itself does not say so, others do
            pass

    def _read(self, address: Address) -> Iterator[bytes]:
        with self._translated(address):
            response = self._client.get_object(self.bucket, str(address))
            try:
                yield from checked(response.stream(CHUNK), address)
            finally:
                response.close()
                response.release_conn()

    def _make_bucket(self, region: str) -> None:
        if self._client.bucket_exists(self.bucket):
            return
        try:
            self._client.make_bucket(self.bucket, region)
        except MinioException as error:  # another process was quicker
            if _status_and_code(error)[1] not in _BUCKET_IS_THERE:
                raise

    @contextmanager
    def _translated(self, address: Address | None = None) -> Iterator[None]:
        """Say what went wrong in the store's words; ``address`` is what a read asked for."""
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise StoreUnavailable(
                f"the store at {self.endpoint} cannot be reached: {reason}"
            ) from error
        except MinioException as error:
            status, code = _status_and_code(error)
            if address is not None and (code == "NoSuchKey" or (status == 404 and not code)):
                raise NotFound(f"{address} is not in {self!r}") from None
            if status in {401, 403}:
                raise PermissionError(
                    f"the store at {self.endpoint} refuses access key {self._access_key!r} "
                    f"for bucket {self.bucket!r} ({code or status}); check the key and its secret"
                ) from error
            raise StoreUnavailable(
                f"the store at {self.endpoint} failed on bucket {self.bucket!r} "
                f"({code or status}): {error}"
            ) from error


class _CheckedUpload:
    """A file for the client to read, which does not give its last bytes if it has changed.

    The client sends an object, or the word that completes a multi-part one, only after it has
    read everything. So a file that changes after it was named never becomes an object.
    """

    def __init__(self, stream: BinaryIO, content: Content, address: Address) -> None:
        self._stream, self._address = stream, address
        self._digest, self._left = hashlib.sha256(), content.size

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(size)
        self._digest.update(chunk)
        self._left -= len(chunk)
        ended = self._left == 0 or not chunk
        if ended and self._digest.hexdigest() != self._address.digest:
            raise Torn(f"{self._address}: its source changed while it was being put")
        return chunk


def _status_and_code(error: MinioException) -> tuple[int, str]:
    """The HTTP status, and S3's own word where the server's answer had one."""
    if isinstance(error, S3Error):
        return error.response.status, error.code or ""
    if isinstance(error, ServerError):
        return error.status_code, ""
    # An answer that is not `application/xml`; some servers write S3's errors as `text/xml`. The
    # client has no public name for its parts.
    assert isinstance(error, InvalidResponseError), error
    code = re.search(r"<Code>(\w+)</Code>", error._body or "")
    return error._code, code[1] if code else ""
