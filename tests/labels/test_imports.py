from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop import data, events, labels, ledger
from everloop.errors import Invalid, NotFound
from everloop.labels import ImportReport, LabelSchema
from everloop.ledger import Node
from everloop.workspace import Workspace
from tests.conftest import START
from tests.labels.conftest import goods, pass_time

YESTERDAY = START - timedelta(days=1)


def table(values: list[Any], **more: list[Any]) -> pa.Table:
    return pa.table({"sku": list(range(1, len(values) + 1)), "kind": values, **more})


def load(ws: Workspace, source: pa.Table | Path, **more: Any) -> ImportReport:
    who = {} if "annotator_column" in more else {"annotator": "files"}
    return labels.import_labels(ws, "kind", source, **{"key": "sku", "value": "kind", **who, **more})


def count(ws: Workspace) -> int:
    return len(labels.history(ws, "kind", limit=10_000))


@pytest.mark.usefixtures("any_kind")
def test_imported_labels_are_events_of_their_rows(any_ws: Workspace) -> None:
    report = load(any_ws, table(["TVs", "Fridges", "TVs"]))
    assert (report.schema, report.imported, report.repeated, report.unknown_rows) == ("kind#1", 3, 0, ())
    assert report.per_class == {"TVs": 2, "Fridges": 1}
    (event,) = labels.events_of(any_ws, "kind", labels.row_ids(any_ws, "goods", [2])["2"])
    assert (event.value, event.annotator, event.source, event.at) == ("Fridges", "files", "import", START)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.usefixtures("kind")
def test_a_file_is_named_by_its_content(ws: Workspace, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    if suffix == ".csv":
        path.write_text("sku,kind,when\n1,TVs,2026-08-31T00:00:00Z\n")
    elif suffix == ".jsonl":
        path.write_text('{"sku": 1, "kind": "TVs", "when": "2026-08-31"}\n')
    else:
        pq.write_table(table(["TVs"], when=[YESTERDAY.replace(tzinfo=None)]), path)
    report = load(ws, path, at="when")
    (event,) = labels.history(ws, "kind")
    assert (event.key, event.value, event.at, event.file) == ("1", "TVs", YESTERDAY, report.file)
    assert report.file is not None


@pytest.mark.parametrize(
    "times",
    [
        pa.array([datetime(2026, 8, 31, 1, 0, 0, 5)], pa.timestamp("us")),  # noqa: DTZ001
        pa.array([1788138000_000_005_700], pa.timestamp("ns", "Europe/Berlin")),
        pa.array(["2026-08-31T03:00:00.000005+02:00"]),
    ],
    ids=["naive", "nanoseconds elsewhere", "text"],
)
@pytest.mark.usefixtures("kind")
def test_times_of_all_kinds_become_utc(ws: Workspace, times: pa.Array[Any]) -> None:
    load(ws, table(["TVs"]).append_column("when", times), at="when")
    assert labels.history(ws, "kind")[0].at == datetime(2026, 8, 31, 1, 0, 0, 5, tzinfo=UTC)


@pytest.mark.usefixtures("any_kind")
def test_the_same_import_again_adds_nothing(any_ws: Workspace) -> None:
    timed = table(["TVs", "Fridges"], when=[YESTERDAY, YESTERDAY])
    for given, more in ((table(["TVs", "Fridges"]), {}), (timed, {"at": "when"})):
        load(any_ws, given, **more)
        pass_time(any_ws, days=1)
        assert load(any_ws, given, **more).repeated == 2
    assert count(any_ws) == 4, "the same words at another time are another event"


@pytest.mark.usefixtures("kind")
def test_a_changed_file_adds_what_changed(ws: Workspace) -> None:
    load(ws, table(["TVs", "Fridges"]))
    pass_time(ws, days=1)
    report = load(ws, table(["TVs", "Freezers", "TVs"]))
    assert (report.imported, report.repeated) == (2, 1)


@pytest.mark.usefixtures("kind")
def test_who_changed_his_mind_twice_is_heard(ws: Workspace) -> None:
    for value in ("TVs", "Fridges", "TVs"):
        assert load(ws, table([value])).imported == 1
        pass_time(ws, days=1)


@pytest.mark.usefixtures("kind")
def test_rows_that_say_the_same_twice_are_one_event(ws: Workspace) -> None:
    twice = pa.table({"sku": [1, 1], "kind": ["TVs", "TVs"]})
    report = load(ws, twice)
    assert (report.imported, report.repeated) == (1, 1)


@pytest.mark.usefixtures("kind")
def test_two_annotators_may_differ_in_one_file(ws: Workspace) -> None:
    torn = pa.table({"sku": [1, 1], "kind": ["TVs", "Fridges"], "who": ["ann", "bob"]})
    assert load(ws, torn, annotator_column="who").imported == 2


@pytest.mark.parametrize(
    ("given", "more", "error", "told"),
    [
        (table(["TVs", "Fridgs", "Fridgs"]), {}, Invalid, r"'Fridgs' \(2 rows\): Did you mean 'Fridges'"),
        (table([]), {}, Invalid, "no rows"),
        (table(["TVs"]), {"value": "category"}, Invalid, "no column 'category'; it has sku, kind"),
        (table(["TVs"]), {"at": "when"}, Invalid, "no column 'when'"),
        (table(["TVs", None]), {}, Invalid, "1 rows without 'kind', the first is row 2"),
        (table(["TVs"], when=["soon"]), {"at": "when"}, Invalid, "row 1: 'when' is not a time"),
        (table(["TVs"], when=[5]), {"at": "when"}, Invalid, "row 1: 'when' is not a time"),
        (table(["TVs"], when=["2026-10-01"]), {"at": "when"}, Invalid, "in the future"),
        (table(["TVs"]), {"annotator": None}, Invalid, "who gave the labels"),
        (pa.table({"sku": [1, 1], "kind": ["TVs", "Fridges"]}), {}, Invalid, "different things about 1 rows"),
        (
            pa.table({"sku": [1, 99], "kind": ["TVs", "TVs"]}),
            {},
            NotFound,
            "1 rows that 'goods' does not have: 99",
        ),
        (Path("/nowhere/labels.csv"), {}, NotFound, "no file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("kind")
def test_a_wrong_import_records_nothing(
    ws: Workspace, given: pa.Table | Path, more: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        load(ws, given, **more)
    assert count(ws) == 0


@pytest.mark.parametrize(
    ("content", "told"), [("", "empty"), ("sku,kind\n", "no rows"), ("sku,kind\n1,TVs,x\n", "line 2")]
)
@pytest.mark.usefixtures("kind")
def test_a_broken_file_records_nothing(ws: Workspace, tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(Invalid, match=told):
        load(ws, tmp_path / "labels.csv")
    assert count(ws) == 0


@pytest.mark.usefixtures("kind")
def test_unknown_rows_may_be_skipped_and_are_named(ws: Workspace) -> None:
    given = pa.table({"sku": [1, 99], "kind": ["TVs", "TVs"]})
    report = load(ws, given, unknown_rows="skip")
    assert (report.imported, report.unknown_rows) == (1, ("99",))


@pytest.mark.usefixtures("kind")
def test_an_import_is_audited_and_told_once(ws: Workspace) -> None:
    load(ws, table(["TVs"]))
    load(ws, table(["TVs"]))
    acts = [one.act for one in ledger.entries(ws, subject=Node("label_schema", "kind#1"))]
    assert acts.count("labels.import") == 1
    assert len(events.newest(ws, kind="labels.imported")) == 1


def test_the_seeds_labels_take_well_under_a_second(any_ws: Workspace, shared_data: Path) -> None:
    seed = pq.read_table(shared_data / "marketplace" / "seed_labelled.parquet")
    data.define(any_ws, "listings", key="listing_id", time="received_at", inputs=["title", "merchant_id"])
    data.ingest(any_ws, "listings", seed.drop_columns(["category"]))
    taxonomy = shared_data / "marketplace" / "taxonomy.parquet"
    labels.define(any_ws, "category", dataset="listings", classes=taxonomy)
    began = time.process_time()
    report = labels.import_labels(
        any_ws, "category", seed, key="listing_id", value="category", annotator="seed", at="received_at"
    )
    took_s = time.process_time() - began
    assert (report.imported, report.per_class["Fridges"] + report.per_class["Freezers"]) == (5035, 35)
    assert took_s < 1, "of processor time"


def test_an_import_of_numbers_reads_text_too(ws: Workspace, tmp_path: Path) -> None:
    goods(ws)
    labels.define(ws, "price", dataset="goods")
    (tmp_path / "prices.csv").write_text("sku,price\n1,9.5\n2,12\n")
    report = labels.import_labels(
        ws, "price", tmp_path / "prices.csv", key="sku", value="price", annotator="shop"
    )
    assert (report.imported, report.per_class) == (2, {})
    assert [one.value for one in labels.history(ws, "price")] == [12.0, 9.5]


def test_an_import_by_two_at_a_time_is_one_import(any_ws: Workspace, any_kind: LabelSchema) -> None:
    given = table(["TVs", "Fridges", "Freezers"])
    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: load(any_ws, given), range(4)))
    assert sum(one.imported for one in reports) == count(any_ws) == 3
    assert {one.schema for one in reports} == {any_kind.ref}
