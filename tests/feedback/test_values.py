"""Numbers that the world says of predictions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from everloop import feedback
from everloop.errors import Conflict, Invalid, NotFound
from everloop.feedback import ReportedValue
from tests.conftest import START
from tests.feedback.conftest import World


def report(world: World, **given: Any) -> ReportedValue:
    return feedback.report_value(world.ws, endpoint="kind", **{"name": "revenue", "value": 12.5, **given})


def known(world: World) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = feedback.reported_values(
        world.ws, "kind", start=START, end=world.later(seconds=1)
    ).to_pylist()
    return rows


def test_a_value_is_kept_with_its_prediction(any_world: World) -> None:
    made = any_world.predict(3)
    at = any_world.later(days=1)
    report(any_world, prediction_id=made)
    report(any_world, key="3", name="orders", value=2)
    assert known(any_world)[0] == {
        "prediction_id": made,
        "key": "3",
        "name": "revenue",
        "value": 12.5,
        "at": at,
        "recorded_at": at,
        "predicted_at": START,
    }
    assert [(one["name"], one["value"]) for one in known(any_world)] == [("revenue", 12.5), ("orders", 2.0)]
    assert any_world.said() == [], "a value is no label"


def test_a_report_that_is_sent_twice_is_kept_once_and_another_is_refused(any_world: World) -> None:
    made = any_world.predict()
    at = any_world.later(days=1)
    first = report(any_world, prediction_id=made, at=at)
    assert report(any_world, prediction_id=made, at=at) == first
    with pytest.raises(Conflict, match=r"reported as 12\.5, now as 13"):
        report(any_world, prediction_id=made, at=at, value=13)
    report(any_world, prediction_id=made, at=at, name="orders")
    assert len(known(any_world)) == 2


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"prediction_id": "pred_01a207cc95d37b3c800021416a9af423"}, NotFound, "the prediction log has no"),
        ({}, Invalid, "Give its prediction_id, or its key"),
        ({"key": "3", "prediction_id": "x"}, Invalid, "Give its prediction_id, or its key"),
        ({"key": "3", "value": float("nan")}, Invalid, "a finite number"),
        ({"key": "3", "name": ""}, Invalid, "1 to 60 characters"),
        ({"key": "3", "at": START - timedelta(days=1)}, NotFound, "answered nothing for the key"),
    ],
)
def test_a_value_that_cannot_be_kept_is_refused(
    world: World, given: dict[str, Any], error: type[Exception], told: str
) -> None:
    world.predict(3)
    with pytest.raises(error, match=told):
        report(world, **given)
