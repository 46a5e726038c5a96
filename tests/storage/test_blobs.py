from __future__ import annotations

import threading
from pathlib import Path

import pytest

from everloop.errors import Invalid
from everloop.settings import Settings
from everloop.storage import FileBlobs, open_blobs


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


def test_many_writers_of_the_same_bytes_leave_no_rest(blobs: FileBlobs) -> None:
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


@pytest.mark.parametrize(
    ("said", "where"), [("", "home/blobs"), ("shared", "home/shared"), ("{}/disk", "disk")]
)
def test_the_setting_may_name_a_folder(tmp_path: Path, said: str, where: str) -> None:
    settings = Settings(home=tmp_path / "home", blobs=said.format(tmp_path))
    assert open_blobs(settings).place == str(tmp_path / where)


def test_an_address_that_nobody_serves_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="begins with gs://; there are a folder and s3"):
        open_blobs(Settings(home=tmp_path, blobs="gs://bucket"))
