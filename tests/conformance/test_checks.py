"""What every check must do, whatever the rows: built in, a user's own, a feature test or a metric's gate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from everloop.checks import (
    BUILT_IN,
    CHECKS,
    Check,
    CheckInput,
    CheckResult,
    FeatureTest,
    GoldenRow,
    Live,
    Plot,
    Traffic,
    behaviour,
    gate,
)
from everloop.checks.calibration import calibration
from everloop.checks.fairness import fairness
from everloop.checks.feature_tests import feature_check
from everloop.checks.golden_file import judge_golden
from everloop.checks.robustness import robustness
from everloop.checks.thresholds import metric_gate
from tests.checks.tables import labels, predictions, shop, with_column, without_rows

SHOP = shop(120)
Run = Callable[[CheckInput], CheckResult]


def _metric(name: str, **limit: float) -> Run:
    condition = gate(name, **limit)  # type: ignore[arg-type]  # limits only
    return lambda given: metric_gate(given, condition)


def _reversed(rows: pa.Table) -> pa.Table:
    """The inputs of another row each."""
    return rows.take(list(range(rows.num_rows))[::-1])


_REVERSED = Check("reversed", "Is the order nothing?", "It is not.", "Look.", _reversed, is_users=True)

_A_DAY = datetime(2026, 5, 1, tzinfo=UTC)
GOLDEN = [GoldenRow({"text": "tea w1 w2", "price": 1.0, "shade": "red"}, "drink", 0.5)]

RUNS: dict[str, Run] = {
    **{one.name: one for one in BUILT_IN},
    "drift with a limit": lambda given: CHECKS["drift"](given, at_most=0.1),
    "traffic drift with a limit": lambda given: CHECKS["traffic_drift"](given, at_most=0.1, min_rows=1),
    "slices with a limit": lambda given: CHECKS["slices"](given, at_least=0.9, by=["shade"], min_rows=1),
    "fairness of a column": lambda given: fairness(given, by=["shade", "price"], min_rows=1),
    "fairness by odds": lambda given: fairness(
        given, by=["shade"], measure="equalised_odds", at_most=0.1, positive="drink", confidence=0.9
    ),
    "calibration with a limit": lambda given: calibration(given, at_most=0.1, confidence=0.9),
    "calibration by the Brier score": lambda given: calibration(given, measure="brier", at_most=0.1),
    "robustness with a limit": lambda given: robustness(given, at_most=0.1, confidence=0.9),
    "robustness to noise": lambda given: robustness(given, measure="noise"),
    "an invariance": lambda given: behaviour.invariance(_REVERSED, given),
    "a direction": lambda given: behaviour.direction("up", "drink")(
        _REVERSED, given, confidence=0.9, min_rows=1
    ),
    "tampering with a limit": lambda given: CHECKS["tampering"](given, at_most=0.1),
    "golden rows": lambda given: judge_golden("golden:x", GOLDEN, given, at_most=0.1),
    "feature test": feature_check(FeatureTest("rows", lambda rows: rows.num_rows >= 0)),
    "accuracy": _metric("accuracy", at_least=0.5),
    "macro_f1 with confidence": _metric("macro_f1", at_least=0.5, confidence=0.9),
    "rmse": _metric("rmse", at_most=1.0),
    "recall of a class": _metric("recall:drink", at_least=0.5),
    "accuracy against live": _metric("accuracy", below_live_by_at_most=0.1),
    "macro_f1 against live": _metric("macro_f1", below_live_by_at_most=0.1, min_rows=1, confidence=0.9),
    "mae against live": _metric("mae", below_live_by_at_most=0.1, min_rows=1),
}


def _all_null(given: CheckInput) -> CheckInput:
    def emptied(table: pa.Table) -> pa.Table:
        columns = {
            name: table[name]
            if name == "_row_id"
            else pa.nulls(table.num_rows, table.schema.field(name).type)
            for name in table.column_names
        }
        return pa.table(columns)

    return replace(given, train=emptied(given.train), test=emptied(given.test))


def _typeless(given: CheckInput) -> CheckInput:
    def emptied(table: pa.Table) -> pa.Table:
        return pa.table({name: pa.nulls(table.num_rows) for name in table.column_names})

    return replace(given, train=emptied(given.train), test=emptied(given.test))


def _one_row(given: CheckInput) -> CheckInput:
    return replace(given, train=given.train.slice(0, 1), test=given.test.slice(0, 1))


def _unseen_class(given: CheckInput) -> CheckInput:
    label = pa.array(["never seen"] * given.test.num_rows)
    return replace(given, test=given.test.set_column(4, "label", label), classes=("drink", "other", "third"))


def _numbers(given: CheckInput) -> CheckInput:
    sides = [
        table.set_column(4, "label", pa.array([float(one) for one in range(table.num_rows)]))
        for table in (given.train, given.test)
    ]
    return replace(given, train=sides[0], test=sides[1])


def _strange_types(given: CheckInput) -> CheckInput:
    rows = given.train.num_rows + given.test.num_rows
    for name, values in {
        "nested": pa.array([[1, 2]] * rows),
        "record": pa.array([{"a": 1}] * rows),
        "bytes": pa.array([b"\0\xff"] * rows),
        "coded": pa.array(["a", "b"] * (rows // 2)).dictionary_encode(),
        "exact": pa.array([None] * rows, pa.decimal128(9, 2)),
        "infinite": pa.array([math.inf, -math.inf, math.nan] * (rows // 3)),
        "day": pa.array([None] * rows, pa.date32()),
        "wide": pa.array([2**62 + one for one in range(rows)]),
    }.items():
        given = replace(
            given,
            train=given.train.append_column(name, values.slice(0, given.train.num_rows)),
            test=given.test.append_column(name, values.slice(given.train.num_rows)),
            inputs=(*given.inputs, name),
        )
    return given


def _types_that_differ(given: CheckInput) -> CheckInput:
    price = pa.array([str(one) for one in given.test["price"].to_pylist()])
    label = pa.array([1, 2] * (given.test.num_rows // 2))
    return replace(given, test=given.test.set_column(2, "price", price).set_column(4, "label", label))


ROWS: dict[str, CheckInput] = {
    "plain": SHOP,
    "empty": without_rows(SHOP),
    "no training rows": replace(SHOP, train=SHOP.train.slice(0, 0)),
    "no test rows": replace(SHOP, test=SHOP.test.slice(0, 0)),
    "one row": _one_row(SHOP),
    "all null": _all_null(SHOP),
    "null without a type": _typeless(SHOP),
    "unseen class": _unseen_class(SHOP),
    "one class": replace(SHOP, train=SHOP.train.set_column(4, "label", pa.array(["drink"] * 90))),
    "numbers": _numbers(SHOP),
    "numbers, one row": _one_row(_numbers(SHOP)),
    "no columns at all": replace(SHOP, train=pa.table({}), test=pa.table({})),
    "no row ids": replace(
        SHOP, train=SHOP.train.drop_columns(["_row_id"]), test=SHOP.test.drop_columns(["_row_id"])
    ),
    "a missing input": replace(SHOP, inputs=("text", "gone")),
    "no inputs": replace(SHOP, inputs=()),
    "an unknown group": replace(SHOP, group="gone", key="gone", time="gone"),
    "every type": _strange_types(SHOP),
    "types that differ": _types_that_differ(SHOP),
    "a leak": replace(with_column(SHOP, "copy", labels(SHOP)), group="copy"),
    "the same rows twice": replace(SHOP, test=SHOP.train),
}


def _completed(given: CheckInput) -> list[CheckInput]:
    """The rows alone, with predictions and a live version, and with those of other rows."""
    if {"_row_id", "label"} <= set(given.test.column_names):
        own = predictions(given, given.test["label"].to_pylist())
        own = own.append_column(
            "score", pa.array([one % 11 / 10 for one in range(own.num_rows)], pa.float64())
        )
    else:
        own = pa.table({"predicted": ["x"]})
    foreign = pa.table({"_row_id": [-5, -6], "label": ["drink", None], "predicted": [None, "unknown"]})
    return [
        given,
        replace(
            given,
            predictions=own,
            reference=given.train,
            live=Live("shop@1", own),
            traffic=lambda: Traffic("shop", _A_DAY, _A_DAY, given.test),
            answer=_by_first_input,
            chances=_chances,
        ),
        replace(
            given,
            predictions=foreign,
            reference=given.test.slice(0, 1),
            live=Live("shop@1", foreign.slice(1)),
            traffic=lambda: None,
        ),
    ]


def _by_first_input(rows: pa.Table) -> list[str]:
    """A model whose answers depend on a text or number, and which raises without columns."""
    return ["drink" if len(str(one)) % 2 or str(one).isupper() else "other" for one in rows[1].to_pylist()]


def _chances(rows: pa.Table) -> dict[str, list[float]]:
    return {"drink": [len(str(one)) % 11 / 10 for one in rows[1].to_pylist()]}


@pytest.fixture(params=ROWS)
def rows(request: pytest.FixtureRequest) -> list[CheckInput]:
    return _completed(ROWS[request.param])


@pytest.mark.parametrize("name", RUNS)
def test_a_check(name: str, rows: list[CheckInput]) -> None:
    """It does not raise, says the same twice, in three parts, with finite numbers and rows that exist."""
    for given in rows:
        result = RUNS[name](given)
        assert RUNS[name](given) == result
        assert all(part.endswith((".", "?")) for part in (result.found, result.rule, result.remedy)), result
        assert result.message == f"{result.found} {result.rule} {result.remedy}"
        assert all(value is None or math.isfinite(value) for value in result.numbers.values())
        assert set(result.evidence) <= _row_ids(given)
        assert len(result.evidence) <= 20
        assert result.verdict in ("passed", "skipped") or result.remedy != "Nothing to do.", result
        json.dumps([dict(result.numbers), result.details], allow_nan=False)
        if result.plot is not None:
            stored = json.dumps(result.plot.as_json(), allow_nan=False)
            assert Plot.from_json(json.loads(stored)) == result.plot
            assert 1 <= len(result.plot.points) <= 40
            assert len(stored) < 8_000


@pytest.mark.parametrize("check", BUILT_IN, ids=lambda one: one.name)
def test_a_built_in_check_explains_each_of_its_numbers(check: Run) -> None:
    given = _completed(SHOP)[1]
    assert set(check(given).numbers) == set(getattr(check, "numbers", ()))


@pytest.mark.parametrize(
    "name",
    [
        *(one.name for one in BUILT_IN if one.name not in ("fairness", "footprint")),
        *("fairness of a column", "feature test", "accuracy", "accuracy against live"),
    ],
)
def test_a_check_that_found_something_says_what_its_picture_shows(name: str) -> None:
    shown = RUNS[name](_completed(shop(400))[1]).plot
    assert shown is not None
    assert shown.at
    assert shown.value


def _row_ids(given: CheckInput) -> set[int | None]:
    tables = [table for table in (given.train, given.test) if "_row_id" in table.column_names]
    return {one for table in tables for one in table["_row_id"].to_pylist()}
