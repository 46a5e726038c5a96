from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from everloop import feedback
from everloop.errors import Invalid, NotFound
from everloop.feedback import Outcome
from everloop.labels import LabelClass
from tests.conftest import START
from tests.feedback.conftest import World, define


def tell(world: World, prediction_id: str, value: Any = "TVs", **more: Any) -> Outcome:
    given = {"endpoint": "kind", "prediction_id": prediction_id, "value": value, "source": "returns", **more}
    return feedback.record_outcome(world.ws, **given)


def table(world: World, *, start: datetime = START, end: datetime | None = None, **more: Any) -> pa.Table:
    return feedback.outcomes(world.ws, "kind", start=start, end=end or world.later(seconds=1), **more)


def test_an_outcome_says_what_was_answered_and_what_was_true(any_world: World) -> None:
    made = any_world.predict(3, "TVs", variant="canary", version=2)
    at = any_world.later(days=1)
    tell(any_world, made, "Fridges", inclusion_probability=0.25)
    (row,) = table(any_world).to_pylist()
    assert row == {
        "prediction_id": made,
        "variant": "canary",
        "release": "rel_1",
        "model": "kind",
        "version": 2,
        "key": "3",
        "predicted_at": START,
        "at": at,
        "recorded_at": at,
        "answer": "TVs",
        "value": "Fridges",
        "is_correct": False,
        "source": "returns",
        "inclusion_probability": 0.25,
    }
    assert any_world.said() == [], "an outcome is no label"


def test_the_window_is_of_the_predictions(world: World) -> None:
    early = world.predict()
    noon = world.later(hours=12)
    late = world.predict()
    for made in (late, early):
        tell(world, made)
    assert table(world)["prediction_id"].to_pylist() == [early, late]
    assert table(world, end=noon)["prediction_id"].to_pylist() == [early]
    assert table(world, start=noon)["prediction_id"].to_pylist() == [late]


def test_the_newest_outcome_of_a_source_counts(any_world: World) -> None:
    made = any_world.predict()
    for value in ("TVs", "Fridges"):
        tell(any_world, made, value)
        any_world.later(hours=1)
    tell(any_world, made, "Freezers", source="another")
    tell(any_world, made, "TVs", at=START)
    rows = {row["source"]: row["value"] for row in table(any_world).to_pylist()}
    assert rows == {"returns": "Fridges", "another": "Freezers"}
    assert table(any_world, source="another").num_rows == 1


def test_the_same_outcome_again_is_kept_once(any_world: World) -> None:
    made = any_world.predict()
    first = tell(any_world, made)
    any_world.later(hours=1)
    assert tell(any_world, made) == first


def test_numbers_come_as_numbers(world: World) -> None:
    world.release("rel_number", label_snapshot=None)
    tell(world, world.predict(answer=2.5, release="rel_number"), 3)
    found = table(world)
    assert (found["answer"].to_pylist(), found["value"].to_pylist()) == ([2.5], [3.0])
    assert found["is_correct"].to_pylist() == [False]


def test_no_outcomes_are_an_empty_table(world: World) -> None:
    found = table(world)
    assert found.num_rows == 0
    assert "inclusion_probability" in found.column_names


def test_a_class_renamed_since_is_still_right(world: World) -> None:
    define(world.ws, [LabelClass("TVs", "Televisions")])
    assert tell(world, world.predict(answer="TVs"), "Televisions").is_correct


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"inclusion_probability": 0}, "above 0 and at most 1"),
        ({"inclusion_probability": 1.5}, "above 0 and at most 1"),
        ({"source": ""}, "names its source"),
        ({"value": "Fridgs"}, "Did you mean 'Fridges'"),
        ({"at": START - timedelta(days=1)}, "after its outcome"),
        ({"at": START + timedelta(days=1)}, "in the future"),
    ],
    ids=["never", "more than always", "source", "label", "before", "future"],
)
def test_an_impossible_outcome_is_not_kept(world: World, given: dict[str, Any], told: str) -> None:
    made = world.predict()
    with pytest.raises(Invalid, match=told):
        tell(world, made, **given)
    assert table(world).num_rows == 0


def test_a_replay_and_an_unknown_prediction_have_no_outcome(world: World) -> None:
    with pytest.raises(Invalid, match="is a replay"):
        tell(world, world.predict(replay=True))
    with pytest.raises(NotFound, match="the prediction log has no"):
        tell(world, "pred_" + "0" * 32)
