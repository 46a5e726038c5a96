"""Blobs in a bucket of S3 or of a server that speaks its protocol, so that several machines share them.

A small blob is put under the condition that its name is free; a large one goes up in parts and appears when the last has
arrived. What is read or written is kept below the home as well, verified, so that nothing is fetched twice. Credentials
are looked for where Amazon's tools look for those of machines: the variables AWS_*, a web identity, the container's or the
instance's role.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import obstore
from blake3 import blake3
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from everloop import clock
from everloop.errors import EverloopError, Invalid, NotFound, NotReady, StorageFailed
from everloop.settings import Settings, library_variables
from everloop.storage import BlobCache, digest_of_file, place_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_PART_BYTES = 16 << 20
_MOST_PARTS = 10_000  # of one object, by the protocol
_AT_ONCE = 4  # parts that travel together
_WHOLE_BYTES = 32 << 20  # a larger blob goes up in parts
_UNASKED_BYTES = (
    1 << 20
)  # a smaller one is sent without asking first whether it is there: one request instead of two
_PROBE, _PROBED = "conditional-puts-are-enforced", b"everloop"
_PROBED_FOR_S = 86_400.0
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_CLIENT: ClientConfig = {"connect_timeout": "5s", "read_timeout": "20s", "timeout": "120s"}
_RETRIES: RetryConfig = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=10),
        "base": 3,  # up to so many times the pause before, at random
    },
}
_NO_CREDENTIALS = (
    "there are no credentials for {place}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role; "
    "profiles of ~/.aws are not read: eval $(aws configure export-credentials --format env) makes variables of one."
)


class S3Blobs:
    """Content-addressed blobs as objects `PREFIX/ab/cdef...` of a bucket. `place` names it in messages."""

    def __init__(self, store: S3Store, place: str, cache: BlobCache) -> None:
        self.place = place
        self._store = store
        self._cache = cache

    @classmethod
    def of(cls, settings: Settings, *, only_reads: bool = False) -> S3Blobs:
        """As the settings say. Unless it `only_reads`, the bucket was asked within a day whether it is fit for blobs.

        Raises
        ------
        Invalid
            The address is none, or the server takes a second put of the same name.
        StorageFailed
            There is no such bucket, there are no credentials, or they do not suffice.
        NotReady
            Nothing answers.
        """
        bucket, prefix = _address(settings.blobs)
        place = f"s3://{bucket}/{prefix}".rstrip("/")
        given = library_variables(
            (*_CREDENTIALS, "AWS_EC2_METADATA_DISABLED", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
        )
        if given.get("AWS_EC2_METADATA_DISABLED") == "true" and given.keys().isdisjoint(_CREDENTIALS):
            raise StorageFailed(_NO_CREDENTIALS.format(place=place))
        endpoint = (
            settings.blobs_endpoint or given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL") or ""
        )
        folder = settings.home / "cache" / "blobs"
        cache = BlobCache(folder, settings.blobs_cache_mb * 1_000_000)
        made = cls(_store(bucket, prefix, endpoint), place, cache)
        if not only_reads:
            made._make_sure(folder / f".probed-{blake3(f'{place} {endpoint}'.encode()).hexdigest()[:16]}")
        return made

    def put(self, data: bytes | memoryview) -> str:
        digest = blake3(data).hexdigest()
        if len(data) < _UNASKED_BYTES or not self.has(digest):
            self._send(digest, data)
        self._cache.path(digest, lambda place: _write(place, data))
        return digest

    def put_file(self, source: Path) -> str:
        size = source.stat().st_size
        if size <= _WHOLE_BYTES:
            return self.put(source.read_bytes())
        digest = digest_of_file(source)
        if not self.has(digest):
            part_bytes = max(_PART_BYTES, -(-size // _MOST_PARTS))
            with self._told(f"the blob {digest[:12]} could not be written"):
                obstore.put(
                    self._ready(),
                    place_of(digest),
                    _same(source, digest),
                    use_multipart=True,
                    chunk_size=part_bytes,
                    max_concurrency=_AT_ONCE,
                )
        self._cache.path(digest, lambda place: _copy(source, place))
        return digest

    def get(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def path(self, digest: str) -> Path:
        return self._cache.path(digest, partial(self._fetch, digest))

    def has(self, digest: str) -> bool:
        return self._size(digest) is not None

    def verify(self, digest: str) -> bool:
        store, name, hasher = self._ready(), place_of(digest), blake3()
        with self._told(f"the blob {digest[:12]} could not be read", digest):
            size = obstore.head(store, name)["size"]
            for start in range(0, size, _PART_BYTES):
                hasher.update(obstore.get_range(store, name, start=start, end=min(start + _PART_BYTES, size)))
        return hasher.hexdigest() == digest

    def delete(self, digest: str) -> None:
        """Copies that other machines keep below their homes stay there until they are pushed out."""
        with self._told(f"the blob {digest[:12]} could not be deleted"):
            obstore.delete(self._ready(), place_of(digest))
        self._cache.forget(digest)

    def sizes(self) -> Iterator[tuple[str, int]]:
        with self._told("the blobs could not be listed"):
            for listed in obstore.list(self._ready(), chunk_size=1000):
                for one in listed:
                    digest = one["path"].replace("/", "", 1)
                    if len(digest) == 64:
                        yield digest, one["size"]

    def __iter__(self) -> Iterator[str]:
        return (digest for digest, _ in self.sizes())

    def close(self) -> None:
        self._cache.close()

    def _send(self, digest: str, data: bytes | memoryview) -> None:
        with self._told(f"the blob {digest[:12]} could not be written"):
            try:
                # the client takes unsigned bytes alone, and pyarrow's are signed
                obstore.put(self._ready(), place_of(digest), memoryview(data).cast("B"), mode="create")
                return
            except AlreadyExistsError:
                # of two at once S3 may refuse both: that the name is taken does not say that the bytes have arrived
                if self.has(digest):
                    return
        raise NotReady(
            f"the blob {digest[:12]} is being written to {self.place} by another, who has not ended. Run the same again."
        )

    def _size(self, digest: str) -> int | None:
        with self._told(f"the blob {digest[:12]} could not be looked for"):
            try:
                return obstore.head(self._ready(), place_of(digest))["size"]
            except FileNotFoundError:
                return None

    def _fetch(self, digest: str, into: Path) -> None:
        """Write the object's bytes to a file. A large one comes in parts, a few at once: what is lost on the way is a part."""
        store, name = self._ready(), place_of(digest)
        with self._told(f"the blob {digest[:12]} could not be read", digest):
            found = obstore.get(store, name)
            size = found.meta["size"]
            if size <= _PART_BYTES:
                into.write_bytes(found.bytes())
                return
            del found  # its body is not read
            into.touch()

            def bring(start: int) -> None:
                part = obstore.get_range(store, name, start=start, end=min(start + _PART_BYTES, size))
                with into.open("r+b") as file:
                    file.seek(start)
                    file.write(part)

            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(bring, range(0, size, _PART_BYTES)))

    def _make_sure(self, note: Path) -> None:
        """Ask the server, unless it was asked within a day, whether it keeps the first of two puts of one name."""
        try:
            if clock.wall_ns() / 1e9 - note.stat().st_mtime < _PROBED_FOR_S:
                return
        except FileNotFoundError:
            note.parent.mkdir(parents=True, exist_ok=True)
        with self._told("nothing can be written"):
            try:
                for _ in range(2):  # after the first of all, it is there at the first already
                    obstore.put(self._ready(), _PROBE, _PROBED, mode="create")
            except AlreadyExistsError:
                note.touch()
                return
        raise Invalid(
            f"the server of {self.place} takes a put under the condition that the name is free although it is not; blobs need one "
            "that refuses it (If-None-Match). Use a newer release of that server, or another."
        )

    def _ready(self) -> S3Store:
        """The store, in a process that may use it."""
        global _process  # noqa: PLW0603  (the library's threads are the process's, whichever store they serve)
        if _process is None:
            _process = os.getpid()
        elif _process != os.getpid():
            raise StorageFailed(
                f"this process was forked from one that used {self.place}, and the threads that talk to it are not in it. Start "
                "processes by 'spawn' or 'forkserver', or read what they need before."
            )
        return self._store

    @contextmanager
    def _told(self, what: str, digest: str = "") -> Iterator[None]:
        """Say what went wrong in our words: the library's hold the whole of what the server answered."""
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise self._error(what, digest, error) from error

    def _error(self, what: str, digest: str, error: Exception) -> EverloopError:
        told = str(error)
        said = re.search(r"<Code>(\w+)</Code>", told)
        status = re.search(r"status code: (\d{3})", told)
        code = said[1] if said else f"status {status[1]}" if status else ""
        if code == "NoSuchBucket":
            return StorageFailed(
                f"{what}: there is no bucket of {self.place}. Create it, or name one that exists in the setting blobs."
            )
        if digest and isinstance(error, FileNotFoundError):
            return NotFound(
                f"blob {digest} is not in {self.place}. It was collected, or the setting blobs names another place."
            )
        if "/latest/" in told or "169.254." in told:
            return StorageFailed(f"{what}: {_NO_CREDENTIALS.format(place=self.place)}")
        if status and status[1] in ("301", "400", "401", "403"):
            return StorageFailed(
                f"{what}: the server of {self.place} refuses with {code}. Blobs need the rights to get, put, list and delete "
                "there: look at the credentials in the variables AWS_*, at AWS_REGION and at the bucket's policy."
            )
        return NotReady(
            f"{what}: {self.place} does not answer{f' as it should ({code})' if code else ''}, also when asked again. Nothing "
            "half-written has a name. Look at the network, the server and the setting blobs_endpoint, then run the same again."
        )


_process: int | None = None  # the one that began to use S3


def _address(blobs: str) -> tuple[str, str]:
    bucket, _, prefix = blobs.removeprefix("s3://").partition("/")
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise Invalid(
            "the setting blobs names no bucket after s3://; an address is s3://BUCKET or s3://BUCKET/PREFIX, without "
            "credentials. Put those into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        )
    return bucket, prefix.strip("/")


def _store(bucket: str, prefix: str, endpoint: str) -> S3Store:
    config: S3Config = {"disable_bulk_delete": True}  # some servers lack it
    client = _CLIENT.copy()
    if endpoint:
        address = urlsplit(endpoint)
        if address.scheme not in ("http", "https") or not address.hostname or "@" in address.netloc:
            raise Invalid(
                "the address of the S3 server, in the setting blobs_endpoint or in AWS_ENDPOINT_URL, is like "
                "https://s3.example.org or http://127.0.0.1:9000, without credentials. Write it like that."
            )
        config["endpoint"] = endpoint
        client["allow_http"] = address.scheme == "http"  # it was asked for in so many letters
    try:
        return S3Store(
            bucket, prefix=prefix or None, config=config, client_options=client, retry_config=_RETRIES
        )
    except BaseError as error:
        raise Invalid(
            f"the client of S3 does not take its configuration: {str(error).partition(chr(10))[0]} It reads the variables AWS_*; "
            "look at those."
        ) from error


def _same(source: Path, digest: str) -> Iterator[bytes]:
    """The file's bytes in parts; nothing appears in the bucket when they are not those of the digest any more."""
    hasher = blake3()
    with source.open("rb") as file:
        while part := file.read(_PART_BYTES):
            hasher.update(part)
            yield part
    if hasher.hexdigest() != digest:
        raise StorageFailed(
            f"{source} was changed while it was read; what is stored does not change. Nothing was kept of it. Run the same "
            "again when it is whole."
        )


def _write(place: Path, data: bytes | memoryview) -> None:
    place.write_bytes(data)


def _copy(source: Path, place: Path) -> None:
    shutil.copyfile(source, place)
