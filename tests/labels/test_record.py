from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from everloop import labels
from everloop.errors import Invalid, NotFound
from everloop.labels import LabelSchema, NewLabel
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.conftest import START
from tests.labels.conftest import pass_time


def say(value: Any = "TVs", *, key: str | int = 1, by: str = "ann", **more: Any) -> NewLabel:
    return NewLabel(key, value, by, **more)


@pytest.mark.usefixtures("any_kind")
def test_what_was_said_is_kept_whole(any_ws: Workspace) -> None:
    shown = {"columns": ["title"], "suggestion": "TVs"}
    said = say(
        at=START - timedelta(hours=1), shown=shown, duration_ms=1500, prediction_id="pred_1", source="review"
    )
    (event_id,) = labels.record(any_ws, "kind", [said])
    row_id = labels.row_ids(any_ws, "goods", [1])["1"]
    (event,) = labels.events_of(any_ws, "kind", row_id)
    assert (event.id, event.key, event.value, event.annotator, event.source) == (
        event_id,
        "1",
        "TVs",
        "ann",
        "review",
    )
    assert (event.at, event.recorded_at) == (START - timedelta(hours=1), START)
    assert (event.shown, event.duration_ms, event.prediction_id) == (shown, 1500, "pred_1")
    assert event.schema_number == 1


@pytest.mark.usefixtures("kind")
def test_without_a_time_it_is_said_now(ws: Workspace) -> None:
    labels.record(ws, "kind", [say()])
    (event,) = labels.history(ws, "kind")
    assert event.at == event.recorded_at == START


@pytest.mark.usefixtures("kind")
def test_a_time_elsewhere_is_kept_in_utc(ws: Workspace) -> None:
    labels.record(ws, "kind", [say(at=datetime.fromisoformat("2026-08-31T20:30:00-02:00"))])
    assert labels.history(ws, "kind")[0].at == datetime(2026, 8, 31, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("Fridgs", "Did you mean 'Fridges'"),
        ("tvs", "Did you mean 'TVs'"),
        ("Submarines", "It has 'TVs', 'Fridges'"),
        ("", "has no label ''"),
    ],
)
@pytest.mark.usefixtures("kind")
def test_an_unknown_label_is_refused_with_near_names(ws: Workspace, value: str, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        labels.record(ws, "kind", [say(), say(value, key=2)])
    assert labels.history(ws, "kind") == []


@pytest.mark.usefixtures("kind")
def test_a_group_is_no_label(ws: Workspace) -> None:
    classes = [labels.LabelClass("c", "Cooling"), labels.LabelClass("f", "Fridges", "c")]
    labels.define(ws, "deep", dataset="goods", classes=classes)
    with pytest.raises(Invalid, match="a group; label with one of its members: 'Fridges'"):
        labels.record(ws, "deep", [say("Cooling")])


@pytest.mark.usefixtures("kind")
def test_a_row_that_is_not_there_is_refused(ws: Workspace) -> None:
    with pytest.raises(NotFound, match=r"1 of 2 labels name a key that 'goods' does not have: 99"):
        labels.record(ws, "kind", [say(), say(key=99)])
    assert labels.history(ws, "kind") == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (say(at=START + timedelta(minutes=6)), "in the future"),
        (say(at=datetime(2026, 8, 1)), "no time zone"),  # noqa: DTZ001
        (say(by=""), "cannot name who"),
        (say(by="a\x00b"), "cannot name who"),
        (say(by="x" * 121), "cannot name who"),
    ],
)
@pytest.mark.usefixtures("kind")
def test_impossible_times_and_names_are_refused(ws: Workspace, said: NewLabel, told: str) -> None:
    with pytest.raises(Invalid, match=told):
        labels.record(ws, "kind", [said])


@pytest.mark.usefixtures("kind")
def test_a_clock_that_is_a_little_ahead_is_believed(ws: Workspace) -> None:
    assert labels.record(ws, "kind", [say(at=START + timedelta(minutes=4))])


@pytest.mark.usefixtures("kind")
def test_history_is_read_in_pages_newest_first(ws: Workspace) -> None:
    ids = [labels.record(ws, "kind", [say(key=key)])[0] for key in (1, 2, 3)]
    newest = labels.history(ws, "kind", limit=2)
    assert [one.id for one in newest] == [ids[2], ids[1]]
    assert [one.id for one in labels.history(ws, "kind", before=newest[-1].id)] == [ids[0]]


@pytest.mark.usefixtures("kind")
def test_what_was_said_because_of_a_prediction_is_found(ws: Workspace) -> None:
    labels.record(ws, "kind", [say(prediction_id="pred_a"), say(key=2, prediction_id="pred_b")])
    assert [one.key for one in labels.events_of_prediction(ws, "pred_b")] == ["2"]


@pytest.mark.parametrize("value", [3, 2.5, "7"])
@pytest.mark.usefixtures("kind")
def test_numbers_are_labels_where_there_are_no_classes(ws: Workspace, value: object) -> None:
    labels.define(ws, "price", dataset="goods")
    labels.record(ws, "price", [say(value)])
    assert labels.history(ws, "price")[0].value == float(str(value))


@pytest.mark.parametrize("value", ["cheap", float("nan"), float("inf"), None, True])
@pytest.mark.usefixtures("kind")
def test_what_is_no_number_is_refused_there(ws: Workspace, value: object) -> None:
    labels.define(ws, "price", dataset="goods")
    with pytest.raises(Invalid, match="holds numbers"):
        labels.record(ws, "price", [say(value)])


@pytest.mark.usefixtures("kind")
def test_classes_may_be_called_by_numbers(ws: Workspace) -> None:
    labels.define(ws, "flag", dataset="goods", classes=["0", "1"])
    labels.record(ws, "flag", [say(1)])
    assert labels.history(ws, "flag")[0].value == "1"


def test_prepared_labels_are_written_with_the_callers_transaction(ws: Workspace, kind: LabelSchema) -> None:
    prepared = labels.prepare(ws, "kind", [say(key=99), say(key=2)])
    assert [event and event.key for event in prepared.events] == [None, "2"]
    assert [one.key for one in prepared.unknown] == [99]

    def change(tx: Tx) -> None:
        labels.append(ws, tx, prepared.found)
        raise RuntimeError("undone")

    with pytest.raises(RuntimeError, match="undone"):
        ws.write(change)
    assert labels.history(ws, kind.name) == []


def test_events_are_recorded_at_the_time_of_writing(ws: Workspace, kind: LabelSchema) -> None:
    prepared = labels.prepare(ws, kind.name, [say()])
    pass_time(ws, hours=1)
    ws.write(lambda tx: labels.append(ws, tx, prepared.found))
    (event,) = labels.history(ws, kind.name)
    assert (event.at, event.recorded_at) == (START, START + timedelta(hours=1))
