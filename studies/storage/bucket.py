"""A bucket of an S3-compatible storage, with conditional writes. The only file that imports boto3.

Endpoint, region and credentials are those of the usual environment and files (AWS_ENDPOINT_URL, AWS_PROFILE, AWS_ACCESS_KEY_ID, ...).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

from .errors import StorageTrouble, StoreError

SCHEME = "s3://"
PATIENCE = 300.0  # seconds that a storage which has answered before may be out of reach
FIRST = 5.0  # seconds that one may which has not: an address is soon mistyped
LARGE = 2**30  # bytes from which a file goes in parts, which no condition guards
NOT_HERE = ("NoSuchKey", "404", "NotFound")
REFUSED = ("PreconditionFailed", "412", "304")
AGAIN = ("ConditionalRequestConflict", "SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "Throttling", "OperationAborted")

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """An object as listed: `modified` is in seconds of the storage's clock."""

    key: str
    etag: str
    size: int
    modified: float


class Condition(Exception):
    """A request's condition did not hold: the object is another, or has not changed."""


class Unheard(Exception):
    """The storage does not know conditions, and says so."""


class Bucket:
    """The objects below `s3://bucket/prefix`; keys are relative to it. StoreError for an address that is none, and without boto3."""

    def __init__(self, address: str) -> None:
        self.name, _, prefix = address.removeprefix(SCHEME).strip("/").partition("/")
        if not self.name:
            raise StoreError(f"{address} names no bucket: write s3://bucket or s3://bucket/prefix")
        self.address = f"{SCHEME}{self.name}/{prefix}".rstrip("/")
        self.prefix = f"{prefix}/" if prefix else ""
        try:
            import boto3
            from botocore.config import Config
        except ImportError:
            raise StoreError(f"a store at {self.address} needs boto3: pip install 'vitnas[cluster]'") from None
        config = Config(
            retries={"mode": "standard", "max_attempts": 3},
            connect_timeout=5,
            read_timeout=60,
            max_pool_connections=32,
            request_checksum_calculation="when_required",  # storages of others do not know the newer checksums
            response_checksum_validation="when_required",
        )
        try:
            self._client = boto3.session.Session().client("s3", config=config)
        except Exception as error:  # botocore has many for an environment that it cannot use
            raise StoreError(f"{self.address} cannot be used ({error}): see to the AWS_ variables and ~/.aws") from None
        self.endpoint = str(self._client.meta.endpoint_url)
        self._answered = False
        self._clock: tuple[float, float] | None = None

    def read(self, key: str, *, unless: str = "") -> tuple[str, bytes] | None:
        """(ETag, bytes) of an object, or None where there is none. Condition where its ETag is still `unless`."""

        def request() -> tuple[str, bytes]:
            found = self._client.get_object(**self._at(key), **({"IfNoneMatch": unless} if unless else {}))
            self._heed(found)
            return found["ETag"], found["Body"].read()

        return self._unless_missing(request)

    def download(self, key: str, path: Path, *, unless: str = "") -> tuple[str, float] | None:
        """Write an object to `path`; gives its ETag and when it was modified, None where there is none. Condition as in `read`."""

        def request() -> tuple[str, float]:
            found = self._client.get_object(**self._at(key), **({"IfNoneMatch": unless} if unless else {}))
            self._heed(found)
            with path.open("wb") as file:
                for chunk in found["Body"].iter_chunks(2**20):
                    file.write(chunk)
            return found["ETag"], found["LastModified"].timestamp()

        return self._unless_missing(request)

    def fetch(self, key: str, path: Path) -> None:
        """Write an object, of any size, to `path`."""
        self._call(lambda: self._client.download_file(self.name, self.prefix + key, str(path)))

    def write(self, key: str, data: bytes | Path, *, instead_of: str | None = None) -> str:
        """Put bytes or a file; gives the ETag. With `instead_of` only where the object has that ETag ("": where there is none), else
        Condition; Unheard where the storage has no such thing."""
        if isinstance(data, Path) and data.stat().st_size >= LARGE:
            self._call(lambda: self._client.upload_file(str(data), self.name, self.prefix + key))
            return str(self._call(lambda: self._client.head_object(**self._at(key)))["ETag"])
        condition = {} if instead_of is None else {"IfMatch": instead_of} if instead_of else {"IfNoneMatch": "*"}

        def request() -> str:
            if isinstance(data, bytes):
                return str(self._heed(self._client.put_object(**self._at(key), Body=data, **condition))["ETag"])
            with data.open("rb") as file:
                return str(self._heed(self._client.put_object(**self._at(key), Body=file, **condition))["ETag"])

        try:
            return self._call(request)
        except _Missing:  # to be replaced, and gone
            raise Condition from None

    def remove(self, key: str) -> None:
        """Remove an object, if there is one."""
        self._call(lambda: self._client.delete_object(**self._at(key)))

    def entries(self, prefix: str) -> Iterator[Entry]:
        """All objects whose key begins with `prefix`."""
        token: dict[str, str] = {}
        while True:
            arguments = {"Bucket": self.name, "Prefix": self.prefix + prefix, **token}
            page = self._call(lambda given=arguments: self._heed(self._client.list_objects_v2(**given)))  # type: ignore[misc]
            for found in page.get("Contents", ()):
                modified: datetime = found["LastModified"]
                yield Entry(found["Key"].removeprefix(self.prefix), found["ETag"], found["Size"], modified.timestamp())
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def now(self) -> float:
        """The storage's own time (seconds), from its answers and how long ago they were."""
        if self._clock is None:
            next(self.entries(" "), None)
        assert self._clock is not None
        return self._clock[0] + time.monotonic() - self._clock[1]

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.name, "Key": self.prefix + key}

    def _heed(self, answer: dict[str, Any]) -> dict[str, Any]:
        date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        if date:
            self._clock = parsedate_to_datetime(date).timestamp(), time.monotonic()
        return answer

    def _unless_missing(self, request: Callable[[], T]) -> T | None:
        try:
            return self._call(request)
        except _Missing:
            return None

    def _call(self, request: Callable[[], T]) -> T:
        """Make a request, again where the storage is busy or out of reach. StorageTrouble for what only the user can mend."""
        from boto3.exceptions import S3UploadFailedError
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, IncompleteReadError

        give_up = time.monotonic() + (PATIENCE if self._answered else FIRST)
        for attempt in itertools.count():
            try:
                answer = request()
            except ClientError as error:
                self._answered = True
                code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
                if code in NOT_HERE:
                    raise _Missing from None
                if code in REFUSED:
                    raise Condition from None
                if status == 501:
                    raise Unheard from None
                if status < 500 and code not in AGAIN:
                    raise self._refusal(code, str(error)) from None
                trouble = f"{code}, {status}"
            except (ConnectionError, HTTPClientError, IncompleteReadError, S3UploadFailedError) as error:
                trouble = str(error)
            except BotoCoreError as error:
                raise self._refusal("", str(error)) from None
            else:
                self._answered = True
                return answer
            if time.monotonic() > give_up:
                raise StorageTrouble(
                    f"{self._where} does not answer ({trouble[:200]}): see to the network and AWS_ENDPOINT_URL, then run the same command "
                    "again (nothing finished is lost)"
                )
            time.sleep(min(10.0, 0.2 * 2**attempt))
        raise AssertionError

    @property
    def _where(self) -> str:
        return f"{self.address} at {self.endpoint}"

    def _refusal(self, code: str, text: str) -> StorageTrouble:
        if code == "NoSuchBucket":
            return StorageTrouble(f"there is no bucket {self.name} at {self.endpoint}: make it, or name another with --store")
        return StorageTrouble(
            f"{self._where} refuses ({text[:200]}): see to AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and to their rights"
        )


class _Missing(Exception):
    """There is no such object."""
