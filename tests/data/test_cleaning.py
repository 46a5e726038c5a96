from __future__ import annotations

import pyarrow as pa
import pytest

from everloop import data
from everloop.data import Column, DropConflicts, DropDuplicates, DropNull, Normalise, Trim
from everloop.errors import Invalid, NotFound
from everloop.ledger import Node, entries, upstream
from everloop.workspace import Workspace
from tests.data.tables import items, known

OPERATIONS = (Trim(("title",)), DropDuplicates(("title",)), DropNull(("title",)))


@pytest.fixture
def dirty(any_shop: Workspace) -> Workspace:
    rows = items((1, " a ", 1.0), (2, "a", 2.0), (3, None, 3.0), (4, "d", 4.0), (5, "e  ", 5.0))
    data.ingest(any_shop, "items", rows)
    return any_shop


def test_operations_apply_one_after_the_other(dirty: Workspace) -> None:
    report = data.clean(dirty, "items", OPERATIONS)
    assert [(step.changed, step.dropped, step.row_ids) for step in report.steps] == [
        (2, 0, (0, 4)),
        (0, 1, (1,)),
        (0, 1, (2,)),
    ]
    assert (report.version.ref, report.version.rows, report.changed, report.dropped) == ("items@2", 3, 2, 2)
    assert known(dirty) == {0: (1, "a", 1.0), 3: (4, "d", 4.0), 4: (5, "e", 5.0)}


def test_rows_are_cleaned_in_whichever_part_they_are(shop: Workspace) -> None:
    data.ingest(shop, "items", items((1, "a", 1.0), (2, " b", 2.0), (3, "c", 3.0)))
    data.ingest(shop, "items", items((1, " A", 1.5)))  # row 0 now stands behind rows 1 and 2
    data.clean(shop, "items", [Trim(("title",))])
    assert known(shop) == {0: (1, "A", 1.5), 1: (2, "b", 2.0), 2: (3, "c", 3.0)}


def test_a_row_may_be_changed_and_then_dropped(shop: Workspace) -> None:
    data.ingest(shop, "items", items((1, "a", 1.0), (2, " a", 2.0), (3, " c", 3.0)))
    report = data.clean(shop, "items", [Trim(("title",)), DropDuplicates(("title",))])
    assert known(shop) == {0: (1, "a", 1.0), 2: (3, "c", 3.0)}
    operation = report.version.operation
    assert (operation["changed"], operation["removed"], report.changed) == (1, 1, 2)


def test_cleaning_again_changes_nothing(dirty: Workspace) -> None:
    first = data.clean(dirty, "items", OPERATIONS)
    again = data.clean(dirty, "items", data.recorded_operations(first.version))
    assert again.version == first.version
    assert [(step.changed, step.dropped) for step in again.steps] == [(0, 0)] * 3


def test_the_same_cleaning_elsewhere_has_the_same_digest(dirty: Workspace) -> None:
    data.define(dirty, "other", key="id")
    data.ingest(dirty, "other", data.read(dirty, "items").take([4, 2, 0, 1, 3]))
    data.ingest(dirty, "items", items((9, "z", 9.0)))
    data.ingest(dirty, "other", items((9, "z", 9.0)))
    operations = (Normalise(("title",)), DropNull(("title",)))
    first, second = (data.clean(dirty, name, operations).version for name in ("items", "other"))
    assert first.digest == second.digest


def test_it_is_audited_and_linked_to_the_version_before(dirty: Workspace) -> None:
    data.clean(dirty, "items", OPERATIONS)
    node = Node("dataset_version", "items@2")
    (entry,) = entries(dirty, subject=node)
    assert (entry.act, entry.detail["operation"]["steps"][1]["dropped"]) == ("data.clean", 1)
    assert Node("dataset_version", "items@1") in {edge.source for edge in upstream(dirty, node)}


def test_a_dropped_row_that_is_ingested_again_has_its_row_id(dirty: Workspace) -> None:
    data.clean(dirty, "items", OPERATIONS)
    data.ingest(dirty, "items", items((2, "fresh", 2.0)))
    assert known(dirty)[1] == (2, "fresh", 2.0)


def test_conflicting_rows_are_dropped_before_duplicates_hide_them(shop: Workspace) -> None:
    rows = pa.table({"id": [1, 2, 3], "title": ["x", "x", "y"], "category": ["a", "b", "a"]})
    data.ingest(shop, "items", rows)
    report = data.clean(shop, "items", [DropConflicts(("title",), "category"), DropDuplicates(("title",))])
    assert [step.dropped for step in report.steps] == [2, 0]


def test_a_row_changed_by_cleaning_names_the_cleaning(dirty: Workspace) -> None:
    data.clean(dirty, "items", OPERATIONS)
    found = data.origins(dirty, "items", [0, 3])
    assert {row: version.operation["kind"] for row, version in found.items()} == {0: "clean", 3: "ingest"}


def test_only_a_hundred_rows_are_named(shop: Workspace) -> None:
    data.ingest(shop, "items", items(*((number, f" {number}", 1.0) for number in range(150))))
    (step,) = data.clean(shop, "items", [Trim(("title",))]).steps
    assert (step.changed, step.row_ids) == (150, tuple(range(100)))


def test_everything_may_be_dropped(shop: Workspace) -> None:
    data.ingest(shop, "items", items((1, "a", None), (2, "b", None)))
    report = data.clean(shop, "items", [DropNull(("price",))])
    assert report.version.rows == data.read(shop, "items").num_rows == 0
    assert data.ingest(shop, "items", items((3, "c", None))).rows == 1


def test_a_cleaned_row_still_obeys_the_rules(ws: Workspace) -> None:
    data.define(ws, "items", key="id", columns=[Column("title", "string", max_length=2)])
    data.ingest(ws, "items", items((1, "ok", 1.0), (2, "\ufb03", 2.0)))
    with pytest.raises(Invalid, match=r"\(row id 1\): values have at most 2 characters"):
        data.clean(ws, "items", [Normalise(("title",))])
    assert len(data.versions(ws, "items")) == 1


def test_a_cleaning_needs_operations_and_a_version(shop: Workspace) -> None:
    with pytest.raises(NotFound, match="no version yet"):
        data.clean(shop, "items", OPERATIONS)
    data.ingest(shop, "items", items((1, "a", 1.0)))
    with pytest.raises(Invalid, match="no cleaning operation"):
        data.clean(shop, "items", [])


def test_a_version_that_no_cleaning_made_has_no_operations(shop: Workspace) -> None:
    assert data.recorded_operations(data.ingest(shop, "items", items((1, "a", 1.0)))) == ()
