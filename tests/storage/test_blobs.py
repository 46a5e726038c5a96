from __future__ import annotations

import threading
from pathlib import Path

import pytest
from blake3 import blake3

from everloop.errors import Invalid, NotFound
from everloop.storage import FileBlobs


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.mark.parametrize("data", [b"", b"a", b"x" * 3_000_000], ids=["empty", "small", "large"])
def test_bytes_come_back_under_their_digest(blobs: FileBlobs, data: bytes) -> None:
    digest = blobs.put(data)
    assert digest == blake3(data).hexdigest()
    assert blobs.get(digest) == data
    assert blobs.verify(digest)


@pytest.mark.parametrize("data", [b"", b"x" * 3_000_000], ids=["empty", "large"])
def test_a_file_gets_the_same_name_as_its_bytes(blobs: FileBlobs, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    assert blobs.put_file(tmp_path / "file") == blobs.put(data)


def test_the_same_bytes_are_kept_once(blobs: FileBlobs) -> None:
    assert blobs.put(b"same") == blobs.put(b"same")
    assert len(list(blobs)) == 1


def test_many_writers_of_the_same_bytes_leave_one_blob_and_no_rest(blobs: FileBlobs) -> None:
    threads = [threading.Thread(target=blobs.put, args=(b"same" * 100_000,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name[0] == "." for path in blobs.folder.rglob("*") if path.is_file()] == [False]


def test_changed_bytes_do_not_verify(blobs: FileBlobs) -> None:
    digest = blobs.put(b"right")
    blobs.path(digest).write_bytes(b"wrong")
    assert not blobs.verify(digest)


def test_an_unknown_digest_is_not_found(blobs: FileBlobs) -> None:
    with pytest.raises(NotFound, match="is not in"):
        blobs.get("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "0" * 63, "A" * 64, "", "0" * 62 + "/."])
def test_a_name_that_is_no_digest_never_reaches_the_disk(blobs: FileBlobs, name: str) -> None:
    with pytest.raises(Invalid, match="not a blob's digest"):
        blobs.get(name)


def test_a_deleted_blob_is_gone(blobs: FileBlobs) -> None:
    digest = blobs.put(b"x")
    blobs.delete(digest)
    blobs.delete(digest)
    assert not blobs.has(digest)
