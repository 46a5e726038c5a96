"""What a blob costs in files and on S3: to put, to put again, to ask for, to read from there and from below the home.

    python benchmarks/storage/blobs.py s3://BUCKET/PREFIX [ENDPOINT]

Wants the bucket to be there and credentials in the variables AWS_*. Times are medians of single blobs in milliseconds;
of large ones also the throughput. The bucket is left as it was.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from everloop.settings import Settings
from everloop.storage import Blobs, open_blobs

T = TypeVar("T")

SIZES = {"1 KB": 1_000, "100 KB": 100_000, "10 MB": 10_000_000, "200 MB": 200_000_000}
ROUNDS = {"1 KB": 100, "100 KB": 50, "10 MB": 10, "200 MB": 3}


def main() -> None:
    address, endpoint = (*sys.argv[1:3], "")[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stores = {
            "files": Settings(home=folder / "files"),
            "s3": Settings(home=folder / "s3", blobs=address, blobs_endpoint=endpoint),
        }
        print(f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
        print(
            f"{'':6}{'':>8}{'put':>12}{'again':>12}{'has':>12}{'first read':>12}{'read again':>12}{'verify':>12}"
        )
        for kind, settings in stores.items():
            for size in SIZES:
                measure(kind, settings, size, folder)


def measure(kind: str, settings: Settings, size: str, folder: Path) -> None:
    """One line of the table: a blob of one size in one store, a new one each round."""
    found: dict[str, list[float]] = {}
    source = folder / "source"
    for number in range(ROUNDS[size]):
        blobs = open_blobs(settings)
        source.write_bytes(os.urandom(SIZES[size]))
        digest = timed(found, "put", lambda blobs=blobs: blobs.put_file(source))  # type: ignore[misc]  # bound per turn
        timed(found, "again", lambda blobs=blobs: blobs.put_file(source))  # type: ignore[misc]  # as above
        timed(found, "has", lambda blobs=blobs, digest=digest: blobs.has(digest))  # type: ignore[misc]  # as above
        other: Blobs = (
            open_blobs(replace(settings, home=folder / f"other-{number}")) if settings.blobs else blobs
        )
        timed(found, "first read", lambda other=other, digest=digest: other.path(digest).read_bytes())  # type: ignore[misc]  # as above
        timed(found, "read again", lambda other=other, digest=digest: other.path(digest).read_bytes())  # type: ignore[misc]  # as above
        timed(found, "verify", lambda blobs=blobs, digest=digest: blobs.verify(digest))  # type: ignore[misc]  # as above
        for one in (blobs, other):
            one.delete(digest)
            one.close()
    told = "".join(f"{statistics.median(times):12.2f}" for times in found.values())
    rate = SIZES[size] / statistics.median(found["put"]) / 1e3
    print(f"{kind:6}{size:>8}{told}" + (f"   put {rate:,.0f} MB/s" if SIZES[size] >= 10_000_000 else ""))


def timed(found: dict[str, list[float]], name: str, deed: Callable[[], T]) -> T:
    begun = time.perf_counter()
    result = deed()
    found.setdefault(name, []).append((time.perf_counter() - begun) * 1_000)
    return result


if __name__ == "__main__":
    main()
