from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop import data, events, feedback, labels, ledger, predictions
from everloop.clock import SimulatedClock, to_micros
from everloop.errors import Invalid, NotFound
from everloop.feedback import ImportReport
from everloop.ids import new_prediction_id
from everloop.ledger import Node
from everloop.predictions import LogWriter
from everloop.workspace import Workspace
from tests.conftest import START
from tests.feedback.conftest import World, write_release


def load(world: World, given: pa.Table | Path, **more: Any) -> ImportReport:
    defaults = {"endpoint": "kind", "key": "sku", "reporter": "moderator"}
    return feedback.import_corrections(world.ws, given, **{**defaults, **more})


def table(*rows: tuple[int, str], **more: list[Any]) -> pa.Table:
    return pa.table({"sku": [key for key, _ in rows], "value": [value for _, value in rows], **more})


def test_corrections_of_a_file_are_as_if_said_one_by_one(any_world: World, tmp_path: Path) -> None:
    for key in (1, 2, 99):
        any_world.predict(key, "TVs")
    any_world.later(hours=2)
    path = tmp_path / "corrections.csv"
    path.write_text(
        "sku,right,who,when\n"
        "1,TVs,moderator,2026-09-01T01:00:00Z\n"
        "2,Fridges,seller,2026-09-01 01:00\n"
        "99,Fridges,moderator,2026-09-01T03:00:00+02:00\n"
    )
    report = load(any_world, path, value="right", reporter=None, reporter_column="who", at="when")
    assert (report.recorded, report.repeated, report.contradicting, report.unknown) == (3, 0, 2, ())
    assert {one.at for one in feedback.corrections(any_world.ws, "kind")} == {START + timedelta(hours=1)}
    assert [one.value for one in any_world.said()] == ["TVs"]
    assert [one.key for one in feedback.review_queue(any_world.ws)] == ["2"]
    assert [one.key for one in feedback.waiting(any_world.ws, "kind")] == ["99"]


def test_corrections_may_name_predictions_by_id(world: World) -> None:
    made = [world.predict(key) for key in (1, 2)]
    given = pa.table({"id": made, "value": ["TVs", "Fridges"]})
    report = load(world, given, key=None, prediction_id="id")
    assert (report.recorded, report.contradicting) == (2, 1)
    assert {one.prediction_id for one in feedback.corrections(world.ws, "kind")} == set(made)


def test_the_same_file_again_adds_nothing(any_world: World) -> None:
    any_world.predict(1)
    given = table((1, "Fridges"), when=[START])
    load(any_world, given, at="when")
    any_world.later(days=1)
    again = load(any_world, given, at="when")
    assert (again.recorded, again.repeated, again.contradicting) == (0, 1, 0)
    assert load(any_world, table((1, "Fridges"), (1, "Fridges"))).repeated == 2
    assert len(events.newest(any_world.ws, kind="feedback.imported")) == 1
    (entry,) = ledger.entries(any_world.ws, subject=Node("endpoint", "kind"))
    assert entry.act == "feedback.import"


def test_each_row_finds_the_answer_of_its_own_time(world: World) -> None:
    first = world.predict(1, "TVs")
    world.later(days=1)
    world.predict(1, "TVs")
    world.predict(2, "TVs")
    given = table((1, "TVs"), (2, "TVs"), when=[START + timedelta(hours=12), world.ws.now()])
    load(world, given, at="when")
    assert {one.prediction_id for one in feedback.corrections(world.ws, "kind") if one.key == "1"} == {first}


def test_no_row_finds_an_answer_of_too_long_ago(world: World) -> None:
    world.predict(1)
    world.predict(2)
    late = world.later(days=91)
    report = load(world, table((1, "TVs"), (2, "TVs"), when=[START, late]), at="when", unknown="skip")
    assert (report.recorded, report.unknown) == (1, ("2",))


@pytest.mark.parametrize(
    ("given", "more", "error", "told"),
    [
        (table((1, "Fridgs"), (2, "Fridgs")), {}, Invalid, r"'Fridgs' \(2 rows\): Did you mean 'Fridges'"),
        (
            table((1, "TVs"), (77, "TVs")),
            {},
            NotFound,
            "corrects 1 predictions .* did not answer by then: 77",
        ),
        (table(), {}, Invalid, "no rows"),
        (table((1, "TVs")), {"value": "right"}, Invalid, "no column 'right'"),
        (table((1, "TVs")), {"reporter": None}, Invalid, "who reports"),
        (table((1, "TVs")), {"prediction_id": "sku"}, Invalid, "key or prediction_id"),
        (table((1, "TVs"), when=[START + timedelta(days=1)]), {"at": "when"}, Invalid, "in the future"),
        (
            table((1, "TVs"), when=[START - timedelta(1)]),
            {"at": "when"},
            NotFound,
            "did not answer by then: 1",
        ),
        (table((1, "TVs")), {"key": None, "prediction_id": "sku"}, NotFound, "did not answer by then: 1"),
    ],
    ids=["label", "unknown", "empty", "column", "nobody", "both", "future", "before", "id"],
)
def test_a_wrong_file_records_nothing(
    world: World, given: pa.Table, more: dict[str, Any], error: type[Exception], told: str
) -> None:
    world.predict(1)
    world.predict(2)
    with pytest.raises(error, match=told):
        load(world, given, **more)
    assert feedback.corrections(world.ws, "kind") == []
    assert world.said() == []


def test_unknown_predictions_may_be_skipped_and_are_named(world: World) -> None:
    world.predict(1)
    report = load(world, table((1, "TVs"), (77, "TVs")), unknown="skip")
    assert (report.recorded, report.unknown) == (1, ("77",))
    assert load(world, table((77, "TVs")), unknown="skip").recorded == 0


@pytest.fixture(scope="module")
def answers(shared_data: Path) -> list[dict[str, Any]]:
    """Month 2 of the marketplace as a plain model answers it that learned from the seed."""
    # here: it takes seconds to import, and no other test of the room needs it
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    seed = pq.read_table(shared_data / "marketplace" / "seed_labelled.parquet").to_pydict()
    traffic = pq.read_table(shared_data / "marketplace" / "month_2.parquet")
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=200))
    model.fit(seed["title"], seed["category"])
    said = model.predict(traffic["title"].to_pylist())
    return [{**row, "answer": str(answer)} for row, answer in zip(traffic.to_pylist(), said, strict=True)]


@pytest.fixture
def october(ws: Workspace, shared_data: Path, answers: list[dict[str, Any]]) -> Iterator[Workspace]:
    """A workspace with month 2 of the marketplace in its prediction log."""
    folder = shared_data / "marketplace"
    data.define(ws, "listings", key="listing_id", time="received_at", inputs=["title", "merchant_id"])
    data.ingest(ws, "listings", folder / "month_2.parquet")
    reports: Any = {"moderator": "accept", "seller": "review"}
    labels.define(ws, "category", dataset="listings", classes=folder / "taxonomy.parquet", reports=reports)
    write_release(ws, "rel_1", label_snapshot=labels.snapshot(ws, "category").digest)
    log = LogWriter.claim(ws.home / "serving")
    log.write([_record(row, log.writer) for row in answers])
    yield ws
    log.close()


def _record(row: dict[str, Any], writer: int) -> predictions.PredictionRecord:
    return predictions.PredictionRecord(
        id=new_prediction_id(writer),
        endpoint="category",
        variant="control",
        release="rel_1",
        model="category",
        version=1,
        epoch=1,
        at=to_micros(row["received_at"].replace(tzinfo=UTC)),
        key=str(row["listing_id"]),
        inputs={"title": row["title"], "merchant_id": row["merchant_id"]},
        features={},
        output=row["answer"],
        scores={},
        status="ok",
        error=None,
        latency_us=100,
    )


def test_a_month_of_real_corrections_comes_in_week_by_week(
    october: Workspace, shared_data: Path, answers: list[dict[str, Any]]
) -> None:
    every = pq.read_table(shared_data / "marketplace" / "corrections_month_2.parquet")
    rows: list[dict[str, Any]] = every.to_pylist()
    said_at = {row["listing_id"]: row["corrected_at"].replace(tzinfo=UTC) for row in rows}
    frozen = []
    for week in range(5):
        end = datetime(2026, 10, 8, tzinfo=UTC) + timedelta(weeks=week)
        set_clock(october, end)
        arrived = [row for row in rows if end - timedelta(weeks=1) <= said_at[row["listing_id"]] < end]
        report = load_october(october, pa.Table.from_pylist(arrived, schema=every.schema))
        assert (report.recorded, report.unknown) == (len(arrived), ())
        frozen.append(labels.snapshot(october, "category"))
        held: dict[str, list[Any]] = labels.read_snapshot(october, frozen[-1].digest).to_pydict()
        assert all(said_at[int(key)] <= end for key in held["key"]), "no label before it was said"

    found = feedback.contradictions(october, "category", start=START, end=october.now())
    answered = {row["listing_id"]: row["answer"] for row in answers}
    wrong = sum(answered[row["listing_id"]] != row["category"] for row in rows)
    assert (found.corrected, found.contradicted) == (1373, wrong)
    assert 0.15 < wrong / 1373 < 0.25, "most corrections confirm the answer"
    moderators = sum(row["reporter"] == "moderator" for row in rows)
    assert frozen[-1].count == moderators
    assert len(feedback.review_queue(october, "category", limit=2000)) == 1373 - moderators
    assert [labels.snapshot(october, "category", at=one.at) for one in frozen] == frozen, (
        "the past stays as it was"
    )


def set_clock(ws: Workspace, at: datetime) -> None:
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.set(at)


def load_october(ws: Workspace, given: pa.Table | Path) -> ImportReport:
    return feedback.import_corrections(
        ws,
        given,
        endpoint="category",
        key="listing_id",
        value="category",
        reporter_column="reporter",
        at="corrected_at",
    )


def test_corrections_before_their_time_are_refused_whole(october: Workspace, shared_data: Path) -> None:
    set_clock(october, datetime(2026, 10, 15, tzinfo=UTC))
    with pytest.raises(Invalid, match="in the future"):
        load_october(october, shared_data / "marketplace" / "corrections_month_2.parquet")
    assert feedback.corrections(october, "category") == []
