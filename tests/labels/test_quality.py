from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop import data, labels
from everloop.errors import Invalid
from everloop.labels import LabelSchema, NewLabel, QualityReport
from everloop.labels.quality import agreement_of
from everloop.workspace import Workspace
from tests.conftest import START
from tests.labels.conftest import CLASSES, pass_time


def say(ws: Workspace, value: str = "TVs", *, key: int = 1, by: str = "ann", **more: Any) -> None:
    labels.record(ws, "kind", [NewLabel(key, value, by, **more)])


def quality(ws: Workspace, **more: Any) -> QualityReport:
    return labels.quality(ws, "kind", **more)


@pytest.mark.usefixtures("any_kind")
def test_coverage_and_thin_classes_are_counted(any_ws: Workspace) -> None:
    for key in range(1, 6):
        say(any_ws, "TVs" if key < 5 else "Fridges", key=key)
    report = quality(any_ws, thin_below=3)
    assert (report.rows, report.labelled, report.coverage) == (20, 5, 0.25)
    assert report.per_class == {"TVs": 4, "Fridges": 1, "Freezers": 0, "Fridge Freezers": 0}
    assert report.thin == {"Fridges": 1, "Freezers": 0, "Fridge Freezers": 0}


@pytest.mark.usefixtures("kind")
def test_an_empty_label_set_has_a_report(ws: Workspace) -> None:
    report = quality(ws)
    assert (report.labelled, report.coverage, report.conflict_count, report.agreement) == (0, 0.0, 0, None)


@pytest.mark.usefixtures("kind")
def test_annotators_who_differ_are_in_conflict_until_a_reviewer_speaks(ws: Workspace) -> None:
    say(ws, "TVs")
    say(ws, "Fridges", by="bob")
    say(ws, "TVs", key=2)
    say(ws, "TVs", key=2, by="bob")
    (conflict,) = quality(ws).conflicts
    assert (conflict.key, conflict.opinions) == ("1", {"ann": "TVs", "bob": "Fridges"})
    say(ws, "Fridges", by="rev", source="review")
    assert quality(ws).conflict_count == 0


@pytest.mark.usefixtures("kind")
def test_who_changed_his_mind_is_not_in_conflict_with_himself(ws: Workspace) -> None:
    say(ws, "TVs")
    say(ws, "Fridges")
    assert quality(ws).conflict_count == 0


@pytest.mark.usefixtures("kind")
def test_what_a_model_says_is_no_conflict_and_no_coverage(ws: Workspace) -> None:
    say(ws, "TVs")
    say(ws, "Fridges", by="m@1", source="model")
    say(ws, "Fridges", by="m@1", source="model", key=2)
    report = quality(ws)
    assert (report.conflict_count, report.labelled) == (0, 1)


@pytest.mark.usefixtures("kind")
def test_rows_with_too_few_annotators_are_counted(ws: Workspace) -> None:
    labels.define(ws, "kind", dataset="goods", classes=CLASSES, per_item=2)
    say(ws)
    say(ws, by="bob")
    say(ws, key=2)
    assert quality(ws).below_per_item == 1


@pytest.mark.usefixtures("kind")
def test_a_report_of_the_past_knows_no_later_word(ws: Workspace) -> None:
    say(ws)
    pass_time(ws, days=1)
    say(ws, "Fridges", by="bob")
    assert quality(ws, at=START).conflict_count == 0
    assert quality(ws).conflict_count == 1
    with pytest.raises(Invalid, match="in the future"):
        quality(ws, at=ws.now() + timedelta(days=1))


def test_same_content_with_different_labels_is_reported(ws: Workspace, kind: LabelSchema) -> None:
    twins = pa.table({"sku": [31, 32, 33], "title": ["a twin", "a twin", "thing 1"]})
    data.ingest(ws, "goods", twins)
    for key, value in ((1, "TVs"), (31, "TVs"), (32, "Fridges"), (33, "TVs")):
        say(ws, value, key=key)
    report = quality(ws)
    rows = labels.row_ids(ws, "goods", [31, 32])
    assert (report.duplicate_groups, report.duplicate_conflict_count) == (2, 1)
    (torn,) = report.duplicate_conflicts
    assert (torn.row_ids, torn.labels) == ((rows["31"], rows["32"]), ("TVs", "Fridges"))
    assert quality(ws, content=["sku"]).duplicate_groups == 0
    with pytest.raises(Invalid, match="no columns"):
        quality(ws, content=["colour"])
    assert kind.kind == "class"


def test_the_real_title_with_two_categories_is_found(ws: Workspace, shared_data: Path) -> None:
    offers = pq.read_table(shared_data / "marketplace" / "repeated_titles.parquet")
    data.define(ws, "offers", key="listing_id", inputs=["title", "merchant_id"])
    data.ingest(ws, "offers", offers.select(["listing_id", "title", "merchant_id"]))
    labels.define(ws, "category", dataset="offers", classes=shared_data / "marketplace" / "taxonomy.parquet")
    labels.import_labels(ws, "category", offers, key="listing_id", value="category", annotator="offers")
    report = labels.quality(ws, "category")
    assert (report.rows, report.labelled, report.duplicate_groups) == (1284, 1284, 197)
    (torn,) = report.duplicate_conflicts
    titles = data.read(ws, "offers", row_ids=torn.row_ids).column("title").to_pylist()
    assert titles == ["bosch kur15a50gb integrated undercounter fridge"] * 2
    assert set(torn.labels) == {"Washing Machines", "Fridges"}


@pytest.mark.usefixtures("kind")
def test_agreement_is_among_those_who_spoke_unprompted(ws: Workspace) -> None:
    for key, (ann, bob) in enumerate(
        [("TVs", "TVs"), ("TVs", "TVs"), ("Fridges", "Fridges"), ("TVs", "Fridges")], 1
    ):
        say(ws, ann, key=key)
        say(ws, bob, key=key, by="bob")
        say(ws, "Freezers", key=key, by="seller", source="correction")
    agreement = quality(ws).agreement
    assert agreement is not None
    assert (agreement.rows, agreement.annotators, agreement.agree) == (4, 2, 0.75)
    assert agreement.alpha == pytest.approx(1 - (2 / 8) / (30 / 56))
    (pair,) = agreement.pairs
    assert (pair.annotators, pair.rows, pair.agree, pair.kappa) == (("ann", "bob"), 4, 0.75, 0.5)


def test_pairs_are_those_with_most_rows_in_common() -> None:
    opinions = [(row, by, "a") for row in range(3) for by in ("ann", "bob")] + [
        (3, "bob", "a"),
        (3, "cy", "b"),
    ]
    agreement = agreement_of(opinions)
    assert agreement is not None
    assert [one.annotators for one in agreement.pairs] == [("ann", "bob"), ("bob", "cy")]
    assert agreement.pairs[0].kappa is None, "only one class was used: nothing could have been otherwise"


def test_nobody_to_compare_is_no_agreement() -> None:
    assert agreement_of([]) is None
    assert agreement_of([(1, "ann", "a"), (2, "bob", "a")]) is None
