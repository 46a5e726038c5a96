"""Backwards and forwards through the records of a live shop."""

from __future__ import annotations

import pytest

from everloop import data, feedback, governance, registry, rollout
from everloop.errors import Invalid, NotFound
from everloop.governance import Trace
from tests.loop import living
from tests.loop.living import Shop
from tests.registry.versions import register


def facts(trace: Trace, title: str) -> dict[str, object]:
    return next(step.facts for step in trace.steps if step.title == title)


def test_a_prediction_is_traced_to_rows_labels_code_and_people(any_shop: Shop) -> None:
    shop = any_shop
    (asked,) = shop.ask(1, key="7")
    trace = governance.trace(shop.ws, asked.id)
    assert trace.is_complete
    assert facts(trace, "prediction")["answer"] == "Tea"
    assert facts(trace, "what was live")["variants"] == ["kind@1 100 %"]
    assert "approved by alice" in str(facts(trace, "approval")["said"])
    assert facts(trace, "gates")["verdict"] == "passed"
    assert facts(trace, "label of this row")["annotator"] == "catalogue"
    assert facts(trace, "data")["rows"] == 240
    assert facts(trace, "code")["files"]


def test_a_correction_stands_in_the_trace(shop: Shop) -> None:
    (asked,) = shop.ask(1, key="7")
    feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=asked.id)
    said = facts(governance.trace(shop.ws, asked.id), "correction")
    assert (said["says"], said["contradicts"], said["reporter"]) == ("Lamps", True, "moderator")


def test_what_was_live_then_is_told_not_what_is_live_now(shop: Shop) -> None:
    (asked,) = shop.ask(1)
    shop.later(hours=1)
    living.release(shop.ws, "kind@2")
    made = rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    rollout.promote_now(shop.ws, made.id, reason="a test")
    assert facts(governance.trace(shop.ws, asked.id), "what was live")["variants"] == ["kind@1 100 %"]


def test_a_refused_request_has_no_model_behind_it(shop: Shop) -> None:
    (asked,) = shop.ask(1, status="refused", output=None, release="", model="", version=0)
    trace = governance.trace(shop.ws, asked.id)
    assert not trace.is_complete
    assert "refused before a version was chosen" in trace.gaps[0]


def test_a_model_that_names_no_run_is_a_gap(shop: Shop) -> None:
    version = register(shop.ws, name="elsewhere")
    trace = governance.trace(shop.ws, version.ref)
    assert trace.gaps == ("elsewhere@1 names no run: where it was made is not recorded",)


@pytest.mark.parametrize("identifier", ["kind@1", "goods@1"])
def test_versions_are_traced_by_name(shop: Shop, identifier: str) -> None:
    trace = governance.trace(shop.ws, identifier)
    assert trace.subject.id == identifier
    assert trace.is_complete


def test_a_run_is_traced(shop: Shop) -> None:
    run = registry.version(shop.ws, "kind@1").run
    assert run is not None
    assert {"run", "code", "environment", "data", "labels"} <= {
        step.title for step in governance.trace(shop.ws, run).steps
    }


@pytest.mark.parametrize(
    ("identifier", "error", "told"),
    [
        ("pred_01a2135dca7974c38e75a6312b352078", NotFound, "no prediction"),
        ("something", Invalid, "cannot be traced"),
        ("kind@9", NotFound, "kind@9"),
        ("run_none", NotFound, "run_none"),
    ],
)
def test_what_cannot_be_traced_is_told(
    shop: Shop, identifier: str, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        governance.trace(shop.ws, identifier)


def test_a_row_reaches_models_and_the_predictions_that_they_gave(any_shop: Shop) -> None:
    shop = any_shop
    shop.ask(5)
    found = governance.impact(shop.ws, "goods:7")
    assert set(found.reached["model_version"]) == {"kind@1", "kind@2"}
    assert found.reached["dataset_version"] == ("goods@1",)
    (release,) = found.reached["release"]
    assert found.predictions == {release: 5}


def test_a_dataset_version_that_came_later_reaches_nothing(shop: Shop) -> None:
    row = data.rows_by_key(shop.ws, "goods", ["7"]).drop_columns([data.ROW_ID])
    data.ingest(shop.ws, "goods", row.set_column(row.column_names.index("title"), "title", [["another"]]))
    assert "model_version" not in governance.impact(shop.ws, "goods@2").reached
    assert "kind@1" in governance.impact(shop.ws, "goods@1").reached["model_version"]


def test_a_label_snapshot_and_a_run_have_an_impact(shop: Shop) -> None:
    version = registry.version(shop.ws, "kind@1")
    assert version.label_snapshot is not None
    assert version.run is not None
    for identifier in (version.label_snapshot, version.run):
        assert "kind@1" in governance.impact(shop.ws, identifier).reached["model_version"]


def test_an_annotator_reaches_the_models_that_learned_from_their_labels(shop: Shop) -> None:
    found = governance.impact(shop.ws, "annotator:catalogue")
    assert set(found.reached["model_version"]) == {"kind@1", "kind@2"}
    with pytest.raises(NotFound, match="it is nobody known"):
        governance.impact(shop.ws, "annotator:nobody")


@pytest.mark.parametrize("identifier", ["goods:none", "nothing:7", "unknown"])
def test_what_has_no_impact_is_told(shop: Shop, identifier: str) -> None:
    with pytest.raises(NotFound):
        governance.impact(shop.ws, identifier)
