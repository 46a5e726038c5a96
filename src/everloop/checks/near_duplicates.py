"""Do test rows say nearly the same as training rows, in other letters?"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bounds import wilson
from everloop.checks.columns import (
    NULL,
    Column,
    Floats,
    class_codes,
    compute,
    content_columns,
    kind_of,
    normalised,
    plain,
    pooled,
    row_ids,
)
from everloop.checks.leakage import copies
from everloop.checks.minhash import LONGEST, Near, nearest
from everloop.checks.plots import Plot, Point, plot
from everloop.checks.records import CheckInput, CheckResult, Verdict
from everloop.checks.scored import places, qualities

SIMILAR = 0.8  # one typo in a title of 50 letters leaves .82; another word of six letters .65
_USUAL = 0.1  # of the test rows: models of one series are called alike, and honest titles reach .05
AT_MOST = 0.2
_CONTRADICT = 0.01
_FLATTERS = 0.02  # by how much the quality on near-copies may lie above that on the other rows
_BANDS = 10  # of similarity, in the picture

RULE = (
    "Test rows whose text is nearly that of a training row (0.8 of their five-letter pieces are shared) measure what the "
    "model remembers: more than 10 % of the test rows are a warning. More than {at_most:.0%} fail, unless the model is no better "
    "on them than on the other rows (by 0.02 at most), and so does it when clearly more than 1 % of the test rows (at "
    "95 % confidence) contradict the label of the training row that they nearly repeat."
)
REMEDY = (
    "Look at the rows: put near-copies on one side of the split (el.split with by=), or drop them before it; settle labels "
    "that contradict each other in the review queue. Where texts are honestly alike, say how many with at_most."
)
NUMBERS = {
    "near": "test rows whose text is nearly that of a training row; exact copies of all inputs are left to leakage",
    "near_share": "their share of the test rows",
    "contradicting": "of these, rows whose label is not that of the training row",
    "most_similar": "the largest similarity found, 0 to 1; none when nothing reaches 0.8",
    "quality_near": "quality of the answers to these rows, when 10 or more have one",
    "quality_others": "quality of the answers to the other rows",
}


def near_duplicates(given: CheckInput, *, at_most: float = AT_MOST) -> CheckResult:
    """Test rows that nearly repeat a training row, by the exact similarity of pairs that MinHash found.

    Looked at is the free text among the inputs, all of it together, without regard to case, spaces and punctuation.
    """
    rule = RULE.format(at_most=at_most)
    names = _texts(given)
    if not names or given.test.num_rows == 0 or given.train.num_rows == 0:
        found = "No input holds free text." if not names else "A side of the split has no rows."
        return CheckResult(
            "near_duplicates", "skipped", found, rule, "Nothing to do.", dict.fromkeys(NUMBERS)
        )
    sides = [_joined(table, names) for table in (given.test, given.train)]
    near = nearest(sides[0], sides[1], at_least=SIMILAR)
    is_near = (near.place != NULL) & ~copies(given)
    contradicts = is_near & _contradicts(given, near)
    share = float(is_near.mean())
    contradicting, _ = wilson(float(contradicts.sum()), len(contradicts))
    numbers = {
        **dict.fromkeys(NUMBERS),
        "near": int(is_near.sum()),
        "near_share": share,
        "contradicting": int(contradicts.sum()),
        "most_similar": float(near.similarity[is_near].max()) if is_near.any() else None,
        **_qualities(given, is_near),
    }
    verdict: Verdict = "passed"
    if (share > at_most and _flatter(numbers)) or contradicting > _CONTRADICT:
        verdict = "failed"
    elif share > min(at_most, _USUAL) or contradicts.any():
        verdict = "warned"
    order = np.lexsort((-near.similarity, ~contradicts))
    return CheckResult(
        name="near_duplicates",
        verdict=verdict,
        found=_found(numbers, len(is_near)),
        rule=rule,
        remedy="Nothing to do." if verdict == "passed" else REMEDY,
        numbers=numbers,
        evidence=row_ids(given.test, order[is_near[order]]) if verdict != "passed" else (),
        details=_pairs(given, near, order[is_near[order]]),
        plot=_plot(near.similarity[is_near], len(is_near), is_marked=verdict != "passed"),
    )


def _texts(given: CheckInput) -> list[str]:
    """The inputs of free text that both sides have."""
    names = [name for name in given.inputs if pooled(given, name) is not None]
    return [
        name
        for name in content_columns(given.train, names)
        if all(kind_of(plain(table[name]).type) == "text" for table in (given.train, given.test))
    ]


def _joined(table: pa.Table, names: list[str]) -> Column:
    """All texts of a row as one, null where there is no letter."""
    parts = [compute.fill_null(normalised(plain(table[name])), "") for name in names]
    whole: Column = (
        parts[0]
        if len(parts) == 1
        else compute.binary_join_element_wise(*parts, pa.scalar(" ", pa.large_string()))
    )
    whole = compute.utf8_slice_codeunits(
        whole, 0, LONGEST
    )  # so that no long text is copied for each of its pairs
    filled: Column = compute.if_else(compute.equal(compute.utf8_trim_whitespace(whole), ""), None, whole)
    return filled


def _contradicts(given: CheckInput, near: Near) -> npt.NDArray[np.bool_]:
    """Which test rows have another label than the training row that they are nearest to."""
    both = pooled(given, given.label)
    if both is None or given.task == "number":
        return np.zeros(given.test.num_rows, np.bool_)
    labels, split = class_codes(both[0])[0], both[1]
    theirs = labels[np.maximum(near.place, 0)]
    mine = labels[split:]
    contradicts: npt.NDArray[np.bool_] = (
        (near.place != NULL) & (mine != NULL) & (theirs != NULL) & (mine != theirs)
    )
    return contradicts


def _qualities(given: CheckInput, is_near: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    """The quality on rows that nearly repeat a training row, and on the others: what it adds to the metric."""
    table = given.predictions
    if table is None or not {"label", "predicted"} <= set(table.column_names):
        return {}
    found = places(table, given.test)
    known, share = qualities(table, given.task)
    known &= (found != NULL) & np.isfinite(share)
    inside = is_near[np.maximum(found, 0)] & known
    if inside.sum() < 10 or (known & ~inside).sum() < 10:
        return {}
    return {
        "quality_near": float(share[inside].mean()),
        "quality_others": float(share[known & ~inside].mean()),
    }


def _flatter(numbers: dict[str, Any]) -> bool:
    """Whether the near-copies make the model look better than it is; so they are taken to, as long as it is not known."""
    near, others = numbers["quality_near"], numbers["quality_others"]
    return near is None or others is None or near > others + _FLATTERS


def _pairs(given: CheckInput, near: Near, order: npt.NDArray[np.int64]) -> tuple[dict[str, Any], ...]:
    """The rows and the training rows that they nearly repeat, by their ids."""
    own, theirs = row_ids(given.test, order), row_ids(given.train, near.place[order])
    return tuple(
        {"row": mine, "train_row": other, "similarity": round(float(near.similarity[place]), 4)}
        for mine, other, place in zip(own, theirs, order, strict=False)
    )


def _plot(similarity: Floats, rows: int, *, is_marked: bool) -> Plot | None:
    edges = np.linspace(SIMILAR, 1.0, _BANDS + 1)
    counts = np.histogram(similarity, edges)[0] / max(1, rows)
    return plot(
        "bars",
        [
            Point(f"{low:.2f} to {high:.2f}", float(share), rows=rows, is_marked=is_marked and share > 0)
            for low, high, share in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
        at="similarity to the nearest training row",
        value="share of the test rows",
    )


def _found(numbers: dict[str, Any], rows: int) -> str:
    told = f"{numbers['near']} of {rows} test rows nearly repeat a training row ({numbers['near_share']:.1%})"
    if numbers["contradicting"]:
        told += f"; {numbers['contradicting']} of them with another label"
    if numbers["quality_near"] is not None:
        told += f". Quality is {numbers['quality_near']:.3f} on these rows and {numbers['quality_others']:.3f} on the others"
    return told + "."
