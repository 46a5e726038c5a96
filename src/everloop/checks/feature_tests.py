"""A user's own statements about the rows, each named and reported."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.columns import compute, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import Check, CheckInput, CheckResult, FeatureTest

PREFIX = "feature_test:"


def feature_check(test: FeatureTest) -> Check:
    """The check that runs one feature test; a test that raises has failed."""
    return Check(
        name=f"{PREFIX}{test.name}",
        question=f"Does {test.name!r} hold for the rows?",
        rule=f"{test.name} must hold for every training and test row.",
        remedy="Mend the rows or the feature, or correct the test.",
        function=lambda given: _run(test, given),
    )


def _run(test: FeatureTest, given: CheckInput) -> CheckResult:
    rule = f"{test.name} must hold for every training and test row."
    broken = {}
    for side, table in (("training", given.train), ("test", given.test)):
        try:
            broken[side] = _broken(test.function(table), table)
        except Exception as error:  # noqa: BLE001  (a user's function may raise anything: that is the finding)
            return CheckResult(
                name=f"{PREFIX}{test.name}",
                verdict="failed",
                found=f"It raised {type(error).__name__} on the {side} rows.",
                rule=rule,
                remedy="Mend the test: it returns True or False, or a boolean array with one value a row.",
            )
    rows = {side: int(mask.sum()) for side, (mask, _) in broken.items()}
    is_broken = not all(holds for _, holds in broken.values())
    side, table = ("training", given.train) if rows["training"] else ("test", given.test)
    return CheckResult(
        name=f"{PREFIX}{test.name}",
        verdict="failed" if is_broken else "passed",
        found=f"It does not hold for {rows['training']} training and {rows['test']} test rows."
        if is_broken
        else f"It holds for {given.train.num_rows} training and {given.test.num_rows} test rows.",
        rule=rule,
        remedy="Mend the rows or the feature, or correct the test." if is_broken else "Nothing to do.",
        numbers={"broken_train_rows": rows["training"], "broken_test_rows": rows["test"]},
        evidence=row_ids(table, np.flatnonzero(broken[side][0])) if is_broken else (),
        plot=plot(
            "bars",
            [
                Point(name, rows[name], rows=len(mask), is_marked=rows[name] > 0)
                for name, (mask, _) in broken.items()
            ],
            at="side of the split",
            value="rows that break it",
        ),
    )


def _broken(answer: Any, table: pa.Table) -> tuple[npt.NDArray[np.bool_], bool]:
    """Which rows break the statement, (n_rows,) bool, and whether it holds; False for the whole breaks all."""
    if isinstance(answer, bool | np.bool_):
        return np.full(table.num_rows, not answer), bool(answer)
    if isinstance(answer, pa.Array | pa.ChunkedArray):
        answer = compute.fill_null(answer, False).to_numpy(zero_copy_only=False)
    holds = np.asarray(answer)
    if holds.dtype != np.bool_ or holds.shape != (table.num_rows,):
        raise TypeError(f"a feature test returned {type(answer).__name__}, not booleans")
    return ~holds, bool(holds.all())
