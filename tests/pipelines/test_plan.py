"""A plan is data: it comes back from JSON, and each thing a result depends on is in the cache key."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from everloop.pipelines import Pinned, Stored, pipeline, step
from everloop.pipelines.plan import Plan, PlannedStep, cache_key, key_parts, plan_run


@step
def make(value: int) -> Any:
    return value


@step(retries=1, timeout_s=5, cache=False)
def gather(values: Any, named: Any, long: str = "x" * 50) -> Any:
    return values, named, long


@pipeline
def nested(count: int = 2) -> Any:
    return {"all": gather((make(1), 2.0), {"a": make(1), "b": [make(3)]}), "count": count}


def test_a_plan_comes_back_from_json() -> None:
    plan = plan_run(nested, {"count": 3}, None).plan
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_step_knows_what_it_needs_and_what_it_is_called() -> None:
    planned = plan_run(nested, {}, None).plan.by_name
    assert planned["gather"].needs == ("make", "make-2", "make-3")
    assert planned["make-3"].label == "make-3(value=3)"
    assert planned["gather"].label == "gather"
    assert (planned["gather"].retries, planned["gather"].timeout_s, planned["gather"].cache) == (1, 5, False)


STEP = PlannedStep(
    "fit",
    "loop:fit",
    "source",
    retries=0,
    timeout_s=None,
    cache=True,
    back_off_s=1,
    bindings={"c": {"value": "1"}, "data": {"node": "split"}, "rows": {"source": "rows"}},
)
MADE = Stored("json", "digest", 1, "1")
PINNED = Pinned("dataset_version", "rows@1")


def key(
    planned: PlannedStep = STEP, *, environment: str = "here", made: Stored = MADE, pinned: Pinned = PINNED
) -> str:
    parts = key_parts(planned, environment=environment, outputs={"split": made}, pins={"rows": pinned})
    return cache_key(parts)


@pytest.mark.parametrize(
    "changed",
    [
        {"planned": replace(STEP, source="another")},
        {"environment": "elsewhere"},
        {"planned": replace(STEP, bindings={**STEP.bindings, "c": {"value": "1.0"}})},
        {"planned": replace(STEP, bindings={**STEP.bindings, "data": {"value": "1"}})},
        {"planned": replace(STEP, bindings={**STEP.bindings, "data": {"list": [{"node": "split"}]}})},
        {"planned": replace(STEP, bindings={**STEP.bindings, "data": {"tuple": [{"node": "split"}]}})},
        {"made": replace(MADE, digest="another")},
        {"made": replace(MADE, kind="table")},
        {"pinned": replace(PINNED, ref="rows@2")},
        {"pinned": replace(PINNED, digest="content")},
    ],
)
def test_whatever_a_result_depends_on_changes_its_key(changed: dict[str, Any]) -> None:
    assert key(**changed) != key()


@pytest.mark.parametrize(
    "changed",
    [
        {"planned": replace(STEP, name="fit-2", retries=3, timeout_s=1, back_off_s=0)},
        {"made": replace(MADE, note=None, files={"a": "b"})},
    ],
)
def test_nothing_else_does(changed: dict[str, Any]) -> None:
    assert key(**changed) == key()


def test_two_versions_of_one_content_are_one_input() -> None:
    same = [key(pinned=Pinned("dataset_version", f"rows@{number}", "content")) for number in (1, 2)]
    assert len(set(same)) == 1
