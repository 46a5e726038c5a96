from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from everloop.errors import StorageFailed
from everloop.storage import BlobCache

SIZE = 1_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def blob(number: int) -> tuple[str, bytes]:
    data = bytes([number]) * SIZE
    return blake3(data).hexdigest(), data


def bring(cache: BlobCache, number: int) -> Path:
    """The path of a blob, and its place in the order of use: a later number is a later use."""
    digest, data = blob(number)
    path = cache.path(digest, lambda place: _write(place, data))
    os.utime(path, ns=(number, number))
    return path


def _write(place: Path, data: bytes) -> None:
    place.write_bytes(data)


def never(_place: Path) -> None:
    raise AssertionError("it is there already")


def test_what_was_brought_is_not_brought_again(folder: Path) -> None:
    path = bring(BlobCache(folder, 10 * SIZE), 1)
    assert BlobCache(folder, 10 * SIZE).path(blob(1)[0], never) == path


def test_what_was_used_least_recently_goes_first(folder: Path) -> None:
    earlier = BlobCache(folder, 100 * SIZE)
    paths = [bring(earlier, number) for number in (3, 1, 2)]
    earlier.close()
    bring(BlobCache(folder, 3 * SIZE), 4)
    assert [path.exists() for path in paths] == [True, False, True]


def test_what_another_process_holds_stays(folder: Path) -> None:
    holder, other = BlobCache(folder, 100 * SIZE), BlobCache(folder, SIZE)
    held = bring(holder, 1)
    gone = bring(other, 2)
    other.close()
    last = bring(other, 3)
    assert (held.exists(), gone.exists(), last.exists()) == (True, False, True)
    holder.close()
    other.close()
    bring(other, 4)
    assert not held.exists()


def test_a_file_held_by_a_process_that_died_goes(folder: Path) -> None:
    digest, data = blob(1)
    if (pid := os.fork()) == 0:
        BlobCache(folder, 100 * SIZE).path(digest, lambda place: _write(place, data))
        os._exit(0)
    os.waitpid(pid, 0)
    (path,) = folder.glob("*/*")
    bring(BlobCache(folder, SIZE), 2)
    assert not path.exists()


def test_a_damaged_file_is_brought_again(folder: Path) -> None:
    path = bring(BlobCache(folder, 10 * SIZE), 1)
    path.write_bytes(b"damaged")
    assert bring(BlobCache(folder, 10 * SIZE), 1).read_bytes() == blob(1)[1]


def test_a_file_that_somebody_removed_is_brought_again(folder: Path) -> None:
    cache = BlobCache(folder, 10 * SIZE)
    bring(cache, 1).unlink()
    assert bring(cache, 1).read_bytes() == blob(1)[1]


@pytest.mark.parametrize(
    "fill", [lambda place: place.write_bytes(b"other"), lambda place: place.joinpath("x").write_bytes(b"")]
)
def test_wrong_bytes_and_a_full_disk_leave_nothing(folder: Path, fill: Callable[[Path], None]) -> None:
    with pytest.raises(StorageFailed):
        BlobCache(folder, SIZE).path(blob(1)[0], fill)
    assert list(folder.glob("*/*")) == []


def test_what_a_killed_process_left_half_done_goes_after_a_day(folder: Path) -> None:
    cache = BlobCache(folder, 10 * SIZE)
    path = bring(cache, 1)
    old, new = path.with_name(".old"), path.with_name(".new")
    for rest in (old, new):
        rest.touch()
    os.utime(old, (0, 0))
    bring(BlobCache(folder, SIZE), 2)
    assert (old.exists(), new.exists()) == (False, True)


def test_many_files_cost_a_bounded_number_of_descriptors(folder: Path) -> None:
    cache = BlobCache(folder, 1_000 * SIZE)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  (names are all that is wanted)
    for number in range(200):
        bring(cache, number)
    assert len(os.listdir("/proc/self/fd")) - before <= 64  # noqa: PTH208  (as above)
    cache.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  (as above)
