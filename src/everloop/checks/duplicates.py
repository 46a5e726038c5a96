"""Do rows repeat each other, and do repeated rows contradict each other?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from everloop.checks.columns import NULL, Codes, class_codes, content_columns, row_codes, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict

_CONFLICTS = 0.01  # of the rows, from which on contradicting labels cap what any model can reach
RULE = (
    "Rows that are copies of each other in all inputs must be few (at most {at_most:.0%} of the training rows beyond "
    "the first of each) and agree on the label (at most 1 % of the rows contradict a copy)."
)


def duplicates(given: CheckInput, *, at_most: float = 0.2) -> CheckResult:
    """Copies among the training rows, and copies whose labels differ.

    Text is compared without regard to case, spaces and punctuation. Rows are copies only when an input says so by
    its content (free text, bytes, measured numbers): equal rows of a few categories are no copies, just alike.
    """
    names = [name for name in given.inputs if name in given.train.column_names]
    has_content = bool(content_columns(given.train, names))
    rows = row_codes(given.train, names) if names else np.full(given.train.num_rows, NULL, np.int64)
    redundant = _redundant(rows)
    conflicting = _conflicting(rows, _labels(given))
    shares = [float(one.mean()) if len(one) else 0.0 for one in (redundant, conflicting)]
    return CheckResult(
        name="duplicates",
        verdict=_verdict(shares[0], shares[1], at_most) if has_content else _without_content(given, names),
        found=f"{int(redundant.sum())} of {len(rows)} training rows repeat an earlier one ({shares[0]:.1%}); "
        f"{int(conflicting.sum())} have a copy with another label ({shares[1]:.2%})."
        + (
            ""
            if has_content
            else " No input holds free text, bytes or measured numbers, so these are alike, not copies."
        ),
        rule=RULE.format(at_most=at_most),
        remedy=_remedy(int(redundant.sum()), int(conflicting.sum())) if has_content else "Nothing to do.",
        numbers={
            "redundant": int(redundant.sum()),
            "redundant_share": shares[0],
            "conflicting": int(conflicting.sum()),
            "conflicting_share": shares[1],
        },
        evidence=row_ids(given.train, np.flatnonzero(conflicting if conflicting.any() else redundant)),
        plot=plot(
            "bars",
            [
                Point(name, share, expected=most, rows=len(rows), is_marked=has_content and share > most)
                for name, share, most in zip(
                    ("repeat another", "contradict a copy"), shares, (at_most, _CONFLICTS), strict=True
                )
            ]
            if len(rows)
            else [],
            at="training rows that",
            value="share of the training rows",
        ),
    )


def _labels(given: CheckInput) -> Codes:
    if given.label not in given.train.column_names:
        return np.full(given.train.num_rows, NULL, np.int64)
    return class_codes(given.train[given.label])[0]


def _redundant(rows: Codes) -> npt.NDArray[np.bool_]:
    """Which rows repeat an earlier one."""
    is_first = np.zeros(len(rows), np.bool_)
    is_first[np.unique(rows, return_index=True)[1]] = True
    found: npt.NDArray[np.bool_] = ~is_first & (rows != NULL)
    return found


def _conflicting(rows: Codes, labels: Codes) -> npt.NDArray[np.bool_]:
    """Which labelled rows have a copy with another label."""
    known = (rows != NULL) & (labels != NULL)
    found = np.zeros(len(rows), np.bool_)
    if not known.any():
        return found
    groups = np.unique(rows[known], return_inverse=True)[1]
    pairs = np.unique(np.stack([groups, labels[known]]), axis=1)
    labels_a_group = np.bincount(pairs[0])
    found[known] = labels_a_group[groups] > 1
    return found


def _verdict(redundant: float, conflicting: float, at_most: float) -> Verdict:
    if redundant > at_most or conflicting > _CONFLICTS:
        return "failed"
    return "warned" if redundant > 0 or conflicting > 0 else "passed"


def _without_content(given: CheckInput, names: list[str]) -> Verdict:
    is_empty = given.train.num_rows == 0 or all(
        given.train[name].null_count == given.train.num_rows for name in names
    )
    return "skipped" if is_empty else "passed"


def _remedy(redundant: int, conflicting: int) -> str:
    remedies = []
    if conflicting:
        remedies.append(
            "Settle contradicting labels in the review queue, or drop them with data.clean and DropConflicts."
        )
    if redundant:
        remedies.append("Keep one of each with data.clean and DropDuplicates.")
    return " ".join(remedies) or "Nothing to do."
