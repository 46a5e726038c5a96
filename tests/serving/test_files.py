from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from everloop.errors import Conflict, Invalid, NotFound
from everloop.predictions import LogWriter
from everloop.serving import (
    Approval,
    Field,
    Manifest,
    Route,
    RouteTable,
    Signature,
    Worker,
    acknowledged,
    read_manifest,
    read_routes,
    workers,
    write_manifest,
    write_routes,
)
from everloop.serving.files import remove_dead_workers, write_worker
from tests.features.views import view_of, volume
from tests.serving.records import route

NOW = datetime(2026, 9, 1, tzinfo=UTC)
MANIFEST = Manifest(
    id="rel_1",
    model="category",
    version=3,
    digest="d" * 64,
    files={"model.skops": "f" * 64},
    signature=Signature((Field("title", "string", allowed=("a", "b")),), "class", ("x", "y")),
    features=(view_of(volume),),
    approvals=(Approval("ann", NOW, "good"),),
    created_at=NOW,
)


def worker(writer: int, epoch: int | None) -> Worker:
    return Worker(writer, 1, epoch, NOW, NOW, "127.0.0.1", 8400)


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path, "rel_1") == MANIFEST


def test_a_release_never_changes(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    write_manifest(tmp_path, MANIFEST)
    with pytest.raises(Conflict, match="a release never changes"):
        write_manifest(tmp_path, msgspec.structs.replace(MANIFEST, version=4))


def test_a_missing_and_a_broken_manifest_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no release 'rel_1'"):
        read_manifest(tmp_path, "rel_1")
    write_manifest(tmp_path, MANIFEST).write_text("{")
    with pytest.raises(Invalid, match="not a release manifest"):
        read_manifest(tmp_path, "rel_1")


def test_routes_are_replaced_by_later_ones_only(tmp_path: Path) -> None:
    assert read_routes(tmp_path) is None
    table = RouteTable(2, {"category": route(("control", 90), ("canary", 10))})
    write_routes(tmp_path, table)
    assert read_routes(tmp_path) == table
    for epoch in (1, 2):
        with pytest.raises(Conflict, match="has a higher epoch"):
            write_routes(tmp_path, RouteTable(epoch, {}))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (route(("control", 90)), "add up to 100"),
        (route(), "add up to 100"),
        (route(("a", -10), ("b", 110)), "add up to 100"),
        (route(("a", 50), ("a", 50)), "two variants of one name"),
        (route(("a", 100), shadow=route(("a", 5)).variants), "two variants of one name"),
        (Route("price", "salt", route(("a", 100)).variants), "calls itself 'price'"),
    ],
)
def test_routes_that_cannot_be_are_refused(tmp_path: Path, bad: Route, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        write_routes(tmp_path, RouteTable(1, {"category": bad}))
    assert read_routes(tmp_path) is None


def test_no_temporary_file_stays(tmp_path: Path) -> None:
    write_routes(tmp_path, RouteTable(1, {}))
    write_manifest(tmp_path, MANIFEST)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "rel_1.json",
        "routes.json",
    ]


@pytest.fixture
def start(tmp_path: Path) -> Callable[[int | None], LogWriter]:
    """A living worker that says it has applied an epoch."""

    def started(epoch: int | None) -> LogWriter:
        writer = LogWriter.claim(tmp_path)
        write_worker(tmp_path, worker(writer.writer, epoch))
        return writer

    return started


def test_an_epoch_is_acknowledged_once_every_live_worker_has_it(
    tmp_path: Path, start: Callable[[int | None], LogWriter]
) -> None:
    assert acknowledged(tmp_path) is None
    first, second = start(5), start(4)
    assert acknowledged(tmp_path) == 4
    write_worker(tmp_path, worker(second.writer, 5))
    assert acknowledged(tmp_path) == 5
    third = start(None)
    assert acknowledged(tmp_path) is None
    for writer in (second, third):
        writer.close()
    assert acknowledged(tmp_path) == 5
    assert [one.writer for one in workers(tmp_path)] == [first.writer]


def test_what_the_dead_said_is_removed(tmp_path: Path, start: Callable[[int | None], LogWriter]) -> None:
    start(1).close()
    alive = start(1)
    remove_dead_workers(tmp_path)
    assert [path.name for path in (tmp_path / "workers").iterdir()] == [f"{alive.writer:05d}.json"]
