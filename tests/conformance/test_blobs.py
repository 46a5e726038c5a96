"""What every store of blobs must do, wherever it keeps them."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from blake3 import blake3

from everloop.errors import Invalid, NotFound
from everloop.settings import Settings
from everloop.storage import Blobs, open_blobs

LARGE = 40_000_000  # goes up and comes down in parts


@pytest.fixture(params=["files", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "files":
        return Settings(home=tmp_path / "home")
    found: Settings = request.getfixturevalue("s3_settings")
    return found


@pytest.fixture
def blobs(settings: Settings) -> Blobs:
    return open_blobs(settings)


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Blobs:
    """The same store as another process has it; where machines can share one, on another machine."""
    is_shared = bool(settings.blobs)
    return open_blobs(replace(settings, home=tmp_path / "other") if is_shared else settings)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_bytes_come_back_under_their_digest(blobs: Blobs, elsewhere: Blobs, size: int) -> None:
    data = os.urandom(size)
    digest = blobs.put(memoryview(data))
    assert digest == blake3(data).hexdigest()
    assert blobs.get(digest) == elsewhere.get(digest) == data
    assert elsewhere.verify(digest)


def test_the_buffer_of_a_parquet_file_is_taken_as_it_is(blobs: Blobs) -> None:
    written = pa.BufferOutputStream()
    written.write(b"rows")
    buffer = memoryview(written.getvalue())
    assert blobs.get(blobs.put(buffer)) == b"rows"


@pytest.mark.parametrize("size", [0, 1, LARGE])
def test_a_file_comes_back_as_a_file(blobs: Blobs, elsewhere: Blobs, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    digest = blobs.put_file(tmp_path / "file")
    assert digest == blake3(data).hexdigest()
    assert elsewhere.path(digest).read_bytes() == data
    assert elsewhere.verify(digest)


def test_a_file_gets_the_same_name_as_its_bytes(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"same")
    assert blobs.put_file(tmp_path / "file") == blobs.put(b"same")
    assert len(list(blobs)) == 1


def test_many_writers_of_the_same_bytes_leave_one_blob(blobs: Blobs, elsewhere: Blobs) -> None:
    data, told = b"same" * 100_000, []
    threads = [threading.Thread(target=lambda: told.append(blobs.put(data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told == [blake3(data).hexdigest()] * 8
    assert list(elsewhere.sizes()) == [(told[0], len(data))]


def test_all_blobs_are_listed_with_their_sizes(blobs: Blobs, elsewhere: Blobs) -> None:
    kept = {blobs.put(b"x" * size): size for size in range(20)}
    assert dict(elsewhere.sizes()) == kept
    assert set(elsewhere) == set(kept)


def test_an_unknown_digest_is_not_found(blobs: Blobs) -> None:
    unknown = "0" * 64
    assert not blobs.has(unknown)
    for ask in (blobs.get, blobs.path, blobs.verify):
        with pytest.raises(NotFound, match="is not in"):
            ask(unknown)


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 63, "A" * 64, "", "0" * 62 + "/."])
def test_a_name_that_is_no_digest_never_reaches_the_store(blobs: Blobs, name: str) -> None:
    for ask in (blobs.get, blobs.path, blobs.has, blobs.verify, blobs.delete):
        with pytest.raises(Invalid, match="not a blob's digest"):
            ask(name)


def test_a_deleted_blob_is_gone(blobs: Blobs, elsewhere: Blobs) -> None:
    digest = blobs.put(b"x")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.has(digest)
    assert list(blobs) == []
    for one in (blobs, elsewhere):
        with pytest.raises(NotFound):
            one.path(digest)


def test_a_deleted_blob_can_be_put_again(blobs: Blobs) -> None:
    blobs.delete(blobs.put(b"x"))
    assert blobs.get(blobs.put(b"x")) == b"x"
