"""What a change touches, told from two looks: no process, no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from everloop.ci.records import DeclaredPipeline, Look, Step
from everloop.ci.touched import touched


def step(name: str, **given: Any) -> Step:
    values = {
        "source": {f"loop:{name}": "1"},
        "call": "[]",
        "needs": (),
        "inputs": (),
        "file": "loop.py",
        "line": 1,
    }
    return Step(name, name, **{**values, **given})


SPLIT = step("split", inputs=("dataset people",))
FIT = step("fit", needs=("split",))
OTHER = step("other")
DECLARED: dict[str, Mapping[str, Any]] = {
    "dataset:people": {"key": "id"},
    "model:left": {"pipeline": "train", "gates": [{"about": "accuracy", "at_least": 0.7}]},
    "endpoint:left": {"model": "left", "key": None},
}


def look(*steps: Step, declared: Mapping[str, Mapping[str, Any]] = DECLARED, **packages: str) -> Look:
    train = DeclaredPipeline("train", "left", steps or (SPLIT, FIT), "fit", "loop.py", 1)
    beside = DeclaredPipeline("beside", None, (OTHER,), "other", "loop.py", 1)
    return Look(declared, (train, beside), (), {}, {}, packages)


def told(after: Look, before: Look | None = None, **data: tuple[str | None, str | None]) -> dict[str, Any]:
    found = touched(before or look(), after, {name.replace("_", " "): one for name, one in data.items()})
    return {
        one.pipeline: (one.state, {each.name: each.reasons for each in one.steps}, one.reasons)
        for one in found
    }


def test_the_same_twice_touches_nothing() -> None:
    assert {state for state, _, _ in told(look()).values()} == {"untouched"}


def test_a_rewritten_function_touches_its_step_and_those_after_it() -> None:
    state, steps, _ = told(look(replace(SPLIT, source={"loop:split": "2"}), FIT))["train"]
    assert state == "touched"
    assert steps == {
        "split": ("source loop:split was rewritten",),
        "fit": ("it takes what came of split",),
    }


def test_only_the_pipeline_that_is_touched_is_run() -> None:
    found = touched(look(), look(SPLIT, replace(FIT, call="[1]")), {})
    assert [one.pipeline for one in found if one.is_run] == ["train"]


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (look(replace(SPLIT, source={"loop:SIZE =": "3"}), FIT), "source loop:SIZE is new"),
        (
            look(replace(SPLIT, label="split(2)", call="[2]"), FIT),
            "it is called as split(2) instead of split",
        ),
        (look(SPLIT, FIT, numpy="2.3"), "environment numpy is new"),
        (
            look(declared={**DECLARED, "dataset:people": {"key": "id", "inputs": ["x"]}}),
            "dataset people was declared otherwise",
        ),
        (
            look(declared={**DECLARED, "feature:age": {"of": "people"}}),
            "dataset people was declared otherwise",
        ),
    ],
)
def test_the_reason_is_told(after: Look, why: str) -> None:
    assert why in told(after)["train"][1]["split"]


def test_other_rows_touch_the_steps_that_take_them() -> None:
    found = told(look(), dataset_people=("1", "2"))
    assert found["train"][1]["split"] == ("dataset people has other content",)
    assert found["beside"][0] == "untouched"


def test_other_classes_of_a_label_set_are_other_data() -> None:
    labelled = replace(SPLIT, inputs=("labels left",))
    before, after = (replace(look(labelled, FIT), taxonomies={"left": digest}) for digest in "12")
    assert told(after, before)["train"][1]["split"] == ("labels left was declared otherwise",)


def test_another_gate_touches_the_pipeline_though_no_step_differs() -> None:
    softer = {**DECLARED["model:left"], "gates": []}
    state, steps, reasons = told(look(declared={**DECLARED, "model:left": softer}))["train"]
    assert (state, steps, reasons) == ("touched", {}, ("model left is declared with other gates",))


def test_what_is_about_delivery_touches_nothing() -> None:
    found = told(look(declared={**DECLARED, "endpoint:left": {"model": "left", "key": "id"}}))
    assert found["train"][0] == "untouched"


def test_pipelines_come_and_go() -> None:
    one = replace(look(), pipelines=look().pipelines[:1])
    assert told(look(), one)["beside"][0] == "new"
    assert told(one, look())["beside"][0] == "gone"
    assert {state for state, _, _ in told(one).values()} == {"untouched", "gone"}


def test_without_a_base_all_is_new_and_all_is_run_when_asked() -> None:
    assert {one.state for one in touched(None, look(), {})} == {"new"}
    assert all(one.is_run for one in touched(look(), look(), {}, run_all=True))


def test_a_step_that_is_taken_away_touches() -> None:
    assert told(look(SPLIT))["train"][1] == {"fit": ("it is gone",)}
