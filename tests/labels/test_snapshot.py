from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from everloop import labels, ledger
from everloop.clock import SimulatedClock
from everloop.errors import Invalid, NotFound
from everloop.labels import LabelClass, NewLabel
from everloop.ledger import Node
from everloop.settings import load_settings
from everloop.workspace import Workspace, open_workspace
from tests.conftest import START
from tests.labels.conftest import CLASSES, goods, pass_time


def say(ws: Workspace, value: str = "TVs", *, key: int = 1, by: str = "ann", **more: Any) -> None:
    labels.record(ws, "kind", [NewLabel(key, value, by, **more)])


def label_of(ws: Workspace, digest: str) -> dict[str, Any]:
    rows: dict[str, list[Any]] = labels.read_snapshot(ws, digest).to_pydict()
    return dict(zip(rows["key"], rows["label"], strict=True))


@pytest.mark.usefixtures("any_kind")
def test_a_snapshot_holds_each_rows_label_and_who_decided_it(any_ws: Workspace) -> None:
    say(any_ws, "TVs", key=2, by="bob")
    say(any_ws, "Fridges", key=1)
    taken = labels.snapshot(any_ws, "kind")
    rows = labels.read_snapshot(any_ws, taken.digest)
    assert rows.column("key").to_pylist() == ["1", "2"], "in the order of the rows"
    assert rows.column("label").to_pylist() == ["Fridges", "TVs"]
    assert rows.column("annotators").to_pylist() == [["ann"], ["bob"]]
    assert rows.column("_row_id").to_pylist() == sorted(labels.row_ids(any_ws, "goods", [1, 2]).values())
    assert (taken.count, taken.left_out, taken.per_class["TVs"], taken.per_class["Freezers"]) == (2, 0, 1, 0)
    assert taken.annotators == {"ann": 1, "bob": 1}


@pytest.mark.usefixtures("any_kind")
def test_the_same_events_give_the_same_snapshot(any_ws: Workspace) -> None:
    say(any_ws)
    first = labels.snapshot(any_ws, "kind")
    pass_time(any_ws, days=1)
    assert labels.snapshot(any_ws, "kind") == first, "nothing new was said"
    assert labels.snapshots(any_ws, "kind") == [first]


@pytest.mark.usefixtures("kind")
def test_another_rule_or_another_word_is_another_snapshot(ws: Workspace) -> None:
    say(ws)
    first = labels.snapshot(ws, "kind")
    assert labels.snapshot(ws, "kind", rule="majority").digest != first.digest
    say(ws, by="bob")
    assert labels.snapshot(ws, "kind").digest != first.digest


@pytest.mark.usefixtures("kind")
def test_snapshots_are_listed_newest_first(ws: Workspace) -> None:
    taken = []
    for key in (1, 2, 3):
        say(ws, key=key)
        taken.append(labels.snapshot(ws, "kind"))
        pass_time(ws, days=1)
    assert labels.snapshots(ws, "kind", limit=2) == [taken[2], taken[1]]


@pytest.mark.usefixtures("any_kind")
def test_what_is_said_later_is_not_in_an_earlier_snapshot(any_ws: Workspace) -> None:
    say(any_ws, "TVs")
    pass_time(any_ws, days=1)
    say(any_ws, "Fridges", by="bob")
    assert label_of(any_ws, labels.snapshot(any_ws, "kind", at=START).digest) == {"1": "TVs"}
    assert label_of(any_ws, labels.snapshot(any_ws, "kind").digest) == {"1": "Fridges"}


@pytest.mark.usefixtures("any_kind")
def test_what_is_recorded_later_is_not_in_an_earlier_snapshot(any_ws: Workspace) -> None:
    say(any_ws, "TVs", at=START - timedelta(days=2))
    pass_time(any_ws, days=1)
    say(any_ws, "Fridges", by="late", at=START - timedelta(days=1))
    assert label_of(any_ws, labels.snapshot(any_ws, "kind", at=START).digest) == {"1": "TVs"}
    assert label_of(any_ws, labels.snapshot(any_ws, "kind").digest) == {"1": "Fridges"}


@pytest.mark.usefixtures("kind")
def test_what_is_dated_ahead_counts_from_its_date(ws: Workspace) -> None:
    say(ws, at=START + timedelta(minutes=3))
    assert labels.snapshot(ws, "kind").count == 0
    pass_time(ws, minutes=3)
    assert labels.snapshot(ws, "kind").count == 1


@pytest.mark.usefixtures("kind")
def test_events_of_a_row_in_a_snapshot_are_those_that_decided(ws: Workspace) -> None:
    say(ws, "TVs")
    say(ws, "TVs", by="bob")
    say(ws, "Fridges", by="cy")
    taken = labels.snapshot(ws, "kind", rule="majority")
    row_id = labels.row_ids(ws, "goods", [1])["1"]
    assert [one.annotator for one in labels.snapshot_events(ws, taken.digest, row_id)] == ["ann", "bob"]
    assert labels.snapshot_events(ws, taken.digest, row_id + 1) == []


@pytest.mark.usefixtures("kind")
def test_snapshots_that_hold_a_row_are_found(ws: Workspace) -> None:
    say(ws, key=1)
    labels.snapshot(ws, "kind")
    pass_time(ws, days=1)
    say(ws, key=2)
    second = labels.snapshot(ws, "kind")
    assert labels.snapshots_with_row(ws, "kind", labels.row_ids(ws, "goods", [2])["2"]) == [second]


@pytest.mark.usefixtures("kind")
def test_a_snapshot_is_linked_to_its_schema_and_files(ws: Workspace) -> None:
    labels.import_labels(ws, "kind", pa.table({"k": [1], "v": ["TVs"]}), key="k", value="v", annotator="a")
    labels.record(ws, "kind", [NewLabel(2, "TVs", "a", file="f" * 64)])
    sources = {
        edge.source
        for edge in ledger.upstream(ws, Node("label_snapshot", labels.snapshot(ws, "kind").digest))
    }
    assert {Node("label_schema", "kind#1"), Node("file", "f" * 64), Node("dataset", "goods")} == sources


def test_a_renamed_class_keeps_its_labels_and_a_lost_one_leaves_rows_out(ws: Workspace) -> None:
    goods(ws)
    labels.define(ws, "kind", dataset="goods", classes=[LabelClass("1", "Telly"), LabelClass("2", "Radio")])
    say(ws, "Telly", key=1)
    say(ws, "Radio", key=2)
    before = labels.snapshot(ws, "kind")
    pass_time(ws, days=1)
    labels.define(ws, "kind", dataset="goods", classes=[LabelClass("1", "TVs")])
    after = labels.snapshot(ws, "kind")
    assert (label_of(ws, after.digest), after.left_out, after.schema_number) == ({"1": "TVs"}, 1, 2)
    assert labels.snapshot(ws, "kind", at=START) == before, "in the words of that time"


def test_numbers_are_frozen_as_numbers(ws: Workspace) -> None:
    goods(ws)
    labels.define(ws, "price", dataset="goods")
    labels.record(ws, "price", [NewLabel(1, 2, "a"), NewLabel(2, 2.5, "a")])
    taken = labels.snapshot(ws, "price")
    assert labels.read_snapshot(ws, taken.digest).column("label").to_pylist() == [2.0, 2.5]
    assert taken.per_class == {}


@pytest.mark.usefixtures("kind")
def test_an_empty_label_set_has_an_empty_snapshot(ws: Workspace) -> None:
    taken = labels.snapshot(ws, "kind")
    assert labels.read_snapshot(ws, taken.digest).num_rows == taken.count == 0


@pytest.mark.usefixtures("kind")
def test_a_snapshot_of_an_impossible_time_is_refused(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="in the future"):
        labels.snapshot(ws, "kind", at=START + timedelta(seconds=1))
    with pytest.raises(Invalid, match="did not exist at"):
        labels.snapshot(ws, "kind", at=START - timedelta(days=1))
    with pytest.raises(Invalid, match="no time zone"):
        labels.snapshot(ws, "kind", at=datetime(2026, 9, 1))  # noqa: DTZ001
    with pytest.raises(NotFound, match="no label set 'other'"):
        labels.snapshot(ws, "other")
    with pytest.raises(NotFound, match="no label snapshot"):
        labels.read_snapshot(ws, "0" * 64)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for all examples of a property: each makes a label set of its own."""
    home = tmp_path_factory.mktemp("stage")
    with open_workspace(simulation_from=START, settings=load_settings(home, environ={})) as ws:
        goods(ws, rows=4)
        yield ws


said = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.sampled_from(CLASSES),
        st.sampled_from(["ann", "bob", "cy"]),
        st.integers(0, 60),  # minutes ago that it was said
        st.integers(0, 30),  # minutes until the next is recorded
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said, st.sampled_from(["latest", "majority", "reviewer_wins"]))
def test_what_was_known_at_a_time_never_changes(stage: Workspace, said: list[Any], rule: Any) -> None:
    name = f"set{time.monotonic_ns()}"
    labels.define(stage, name, dataset="goods", classes=CLASSES)
    assert isinstance(stage.clock, SimulatedClock)
    frozen = []
    for key, value, by, ago, pause in said:
        at = stage.now() - timedelta(minutes=ago)
        labels.record(stage, name, [NewLabel(key, value, by, at=at)])
        frozen.append((stage.now(), labels.snapshot(stage, name, rule=rule).digest))
        stage.clock.advance(timedelta(minutes=pause, microseconds=1))
    for at, digest in frozen:
        again = labels.snapshot(stage, name, rule=rule, at=at)
        assert again.digest == digest
        rows: dict[str, list[Any]] = labels.read_snapshot(stage, digest).to_pydict()
        every = {one.id: one for one in labels.history(stage, name)}
        assert all(
            every[id_].at <= at and every[id_].recorded_at <= at for ids in rows["events"] for id_ in ids
        )


def test_ten_thousand_events_are_frozen_in_under_a_second(any_ws: Workspace) -> None:
    goods(any_ws, rows=5_000)
    labels.define(any_ws, "kind", dataset="goods", classes=CLASSES)
    for by in ("ann", "bob"):
        labels.record(any_ws, "kind", [NewLabel(key, CLASSES[key % 4], by) for key in range(1, 5_001)])
    began = time.process_time()
    taken = labels.snapshot(any_ws, "kind", rule="majority")
    took_s = time.process_time() - began
    assert taken.count == 5_000
    assert took_s < 1, "of processor time"
