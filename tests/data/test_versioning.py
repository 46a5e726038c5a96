from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from sqlalchemy.exc import IntegrityError

from everloop import data
from everloop.data import store
from everloop.data.versioning import Proposal, State, change, current
from everloop.errors import Conflict
from everloop.workspace import Workspace
from tests.data.tables import items, known

WRITER = """
import sys
import pyarrow as pa
from everloop import data
from everloop.errors import Conflict
from everloop.settings import load_settings
from everloop.workspace import open_workspace

home, url, writer = sys.argv[1:]
with open_workspace(settings=load_settings(home, environ={}, database_url=url, actor=writer)) as ws:
    for number in range(4):
        rows = pa.table({"id": [f"{writer}-{number}"], "title": [writer]})
        while True:
            try:
                data.ingest(ws, "items", rows)
                break
            except Conflict:
                continue
"""


def test_an_overtaken_change_starts_again_from_the_newest_version(any_shop: Workspace) -> None:
    data.ingest(any_shop, "items", items((1, "a", 1.0)))
    seen: list[int] = []

    def overtaken_once(state: State) -> Proposal | None:
        seen.append(state.next_number)
        if len(seen) == 1:
            data.ingest(any_shop, "items", items((2, "b", 2.0)))
        return Proposal(state.dataset.schema, state.manifest, {"kind": "define"})

    made = change(any_shop, "items", overtaken_once)
    assert (seen, made.number, made.rows) == ([2, 3], 3, 2)


def test_a_definition_counts_as_overtaking(shop: Workspace) -> None:
    def propose(state: State) -> Proposal | None:
        data.define(shop, "items", key="id", inputs=["title"])
        return Proposal(state.dataset.schema, state.manifest, {"kind": "define"})

    assert change(shop, "items", propose).schema.inputs == ("title",)


def test_who_is_always_overtaken_gets_a_conflict(shop: Workspace) -> None:
    numbers = iter(range(100))

    def always_late(state: State) -> Proposal | None:
        data.ingest(shop, "items", items((next(numbers), "x", 1.0)))
        return Proposal(state.dataset.schema, state.manifest, {"kind": "define"})

    with pytest.raises(Conflict, match="changed by others 10 times"):
        change(shop, "items", always_late)
    assert {one.operation["kind"] for one in data.versions(shop, "items")} == {"ingest"}


def test_threads_lose_no_update(any_shop: Workspace) -> None:
    def ingest(writer: int) -> None:
        for number in range(4):
            row = items((writer * 10 + number, f"w{writer}", 1.0))
            while True:
                try:
                    data.ingest(any_shop, "items", row)
                    break
                except Conflict:
                    continue

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ingest, range(4)))
    _check_chain(any_shop, 16)
    assert {row[0] for row in known(any_shop).values()} == {w * 10 + n for w in range(4) for n in range(4)}


@pytest.mark.slow
def test_processes_lose_no_update(any_shop: Workspace) -> None:
    arguments = [str(any_shop.home), any_shop.settings.database_url]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, *arguments, name], stderr=subprocess.PIPE, text=True)
        for name in ("anna", "ben", "cleo")
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    _check_chain(any_shop, 12)
    assert len(set(known(any_shop).values())) == 12


def _check_chain(ws: Workspace, rows: int) -> None:
    versions = data.versions(ws, "items")
    assert [(one.number, one.parent) for one in reversed(versions)] == [
        (number, number - 1 or None) for number in range(1, len(versions) + 1)
    ]
    assert versions[0].rows == data.read(ws, "items").num_rows == rows


def test_a_merge_of_two_writers_keeps_both_columns(shop: Workspace) -> None:
    data.ingest(shop, "items", pa.table({"id": [1], "a": ["x"]}))
    stale = current(shop, "items")
    data.ingest(shop, "items", pa.table({"id": [1], "b": ["y"]}))
    assert stale.dataset.schema.names == ("id", "a")
    assert known(shop) == {0: (1, "x", "y")}


def test_a_commit_is_refused_by_the_database_itself(any_shop: Workspace) -> None:
    """Should the comparison ever fail, the primary key still keeps two versions from having one number."""
    version = data.ingest(any_shop, "items", items((1, "a", 1.0)))
    with pytest.raises(IntegrityError):
        any_shop.write(lambda tx: store.insert_version(tx, version))


def test_everything_about_a_version_comes_back(any_shop: Workspace, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,title\n1,jo@example.org\n")
    made = data.ingest(any_shop, "items", tmp_path / "a.csv")
    assert data.version(any_shop, "items@1") == made
    assert made.created_at == any_shop.now()
