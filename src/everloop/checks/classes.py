"""Is there enough of every class to learn it and to measure it?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from everloop.checks.columns import NULL, class_codes
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict

THIN = 10  # rows of a class, below which its figures say little and relative gates leave it out
RULE = (
    "Every class must have training rows, two classes at least; a class with fewer than 10 rows on a side is thin: "
    "its figures are shown, but relative gates leave it out."
)


def classes(given: CheckInput) -> CheckResult:
    """Rows a class on both sides of the split; a class without any training row fails."""
    if given.task == "number":
        return CheckResult("classes", "skipped", "The labels are numbers.", RULE, "Nothing to do.")
    train, test = counts(given.train, given.label), counts(given.test, given.label)
    names = sorted({*train, *test, *(given.classes or ())})
    absent = [name for name in names if not train.get(name)]
    thin = [
        name for name in names if name not in absent and min(train.get(name, 0), test.get(name, 0)) < THIN
    ]
    rows: list[dict[str, Any]] = [
        {"class": name, "train_rows": train.get(name, 0), "test_rows": test.get(name, 0)} for name in names
    ]
    rows.sort(key=lambda row: (row["train_rows"], row["test_rows"]))
    return CheckResult(
        name="classes",
        verdict=_verdict(train, absent, thin),
        found=_found(train, absent, thin),
        rule=RULE,
        remedy="Label more rows of these classes, or take classes without rows out of the label schema."
        if absent or thin or len(train) < 2
        else "Nothing to do.",
        numbers={
            "classes": len(names),
            "absent": len(absent),
            "thin": len(thin),
            "fewest_train_rows": min((train.get(name, 0) for name in names), default=None),
            "fewest_test_rows": min((test.get(name, 0) for name in names), default=None),
        },
        details=tuple(rows[:200]),
        plot=plot(
            "bars",
            [
                Point(
                    row["class"], row[f"{side}_rows"], series=side, is_marked=row["class"] in (*absent, *thin)
                )
                for row in rows
                for side in ("train", "test")
            ],
            at="class",
            value="rows",
            limits={f"below {THIN} rows a class is thin": THIN},
        ),
    )


def counts(table: pa.Table, label: str) -> dict[str, int]:
    """Rows a class; rows without label are not counted."""
    if label not in table.column_names:
        return {}
    found, names = class_codes(table[label])
    number = np.bincount(found[found != NULL], minlength=len(names))
    return {name: int(count) for name, count in zip(names, number, strict=True)}


def _verdict(train: dict[str, int], absent: list[str], thin: list[str]) -> Verdict:
    if not train:
        return "skipped"
    if absent or len(train) < 2:
        return "failed"
    return "warned" if thin else "passed"


def _found(train: dict[str, int], absent: list[str], thin: list[str]) -> str:
    if not train:
        return "No training row has a label."
    parts = []
    if absent:
        parts.append(f"{len(absent)} classes have no training row: {_few(absent)}.")
    if len(train) < 2:
        parts.append("All training rows are of one class.")
    if thin:
        parts.append(f"{len(thin)} classes have fewer than {THIN} rows on a side: {_few(thin)}.")
    return " ".join(parts) or f"All {len(train)} classes have {THIN} rows or more on both sides."


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
