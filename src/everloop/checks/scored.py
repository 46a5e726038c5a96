"""Labels and predictions brought together: of the candidate alone, or of candidate and live version on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.classes import THIN
from everloop.checks.columns import NULL, Codes, Floats, as_text, class_codes, codes, compute, floats, plain
from everloop.checks.metrics import Scored, present
from everloop.checks.records import ROW_ID, CheckInput, Task


@dataclass(frozen=True)
class ScoredRows:
    """One `Scored` a model, all on the same rows.

    Rows that are alike are given once, with their number in `counts` (n_distinct,), unless they have groups or hold
    numbers: the cost of a bootstrap then does not grow with the rows. `left_out` are classes too thin to compare.
    """

    models: tuple[Scored, ...]
    counts: npt.NDArray[np.int64]
    groups: Codes | None
    left_out: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.counts.sum())


def scored_rows(given: CheckInput) -> ScoredRows | None:
    """The candidate's labelled predictions; None when there are none."""
    table = given.predictions
    if table is None or not {"label", "predicted"} <= set(table.column_names):
        return None
    return _scored(given, table, ["predicted"], thin=0)


def paired_rows(given: CheckInput, live: pa.Table | None) -> ScoredRows | None:
    """The candidate's and the live version's predictions for the rows that both have, thin classes left out.

    None when either has no predictions with row ids, or they have no row in common.
    """
    ours = given.predictions
    if ours is None or live is None:
        return None
    if not {ROW_ID, "label", "predicted"} <= set(ours.column_names) or not {ROW_ID, "predicted"} <= set(
        live.column_names
    ):
        return None
    _, left, right = np.intersect1d(_ids(ours), _ids(live), return_indices=True)
    mine, theirs = ours.take(left), live.take(right)
    columns = {name: mine[name] for name in (ROW_ID, "label", "predicted")}
    return _scored(
        given, pa.table({**columns, "live": theirs["predicted"]}), ["predicted", "live"], thin=THIN
    )


def _scored(given: CheckInput, table: pa.Table, answers: list[str], *, thin: int) -> ScoredRows | None:
    groups = groups_of(given, table)
    if given.task == "number":
        return _scored_numbers(table, answers, groups)
    columns = [as_text(plain(table[name])) for name in ("label", *answers)]
    chunks = [chunk for column in columns for chunk in column.chunks]
    found, names = class_codes(pa.chunked_array(chunks, type=pa.large_string()))
    sides = found.reshape(len(columns), table.num_rows)
    number = np.bincount(sides[0][sides[0] != NULL], minlength=len(names))
    keep = (
        (sides[0] != NULL) & (number[sides[0]] >= thin) if len(names) else np.zeros(table.num_rows, np.bool_)
    )
    if not (sides[0] != NULL).any():
        return None
    sides = sides[:, keep]
    if groups is None and sides.size:
        sides, counts = np.unique(sides, axis=1, return_counts=True)
    else:
        groups, counts = None if groups is None else groups[keep], np.ones(sides.shape[1], np.int64)
    thick = tuple(int(one) for one in np.flatnonzero(number >= thin)) if thin else None
    models = tuple(
        Scored(sides[0], side, tuple(names), present(sides[0], side) if thick is None else thick)
        for side in sides[1:]
    )
    left_out = tuple(names[one] for one in np.flatnonzero((number > 0) & (number < thin)))
    return ScoredRows(models, counts.astype(np.int64), groups, left_out)


def _scored_numbers(table: pa.Table, answers: list[str], groups: Codes | None) -> ScoredRows | None:
    sides = np.stack([floats(plain(table[name])) for name in ("label", *answers)])
    keep = np.isfinite(
        sides[0]
    )  # a missing prediction stays, and makes the metric unknown: no gate lets it pass
    if not keep.any():
        return None
    sides = sides[:, keep]
    models = tuple(Scored(sides[0], side, None) for side in sides[1:])
    return ScoredRows(models, np.ones(sides.shape[1], np.int64), None if groups is None else groups[keep])


def places(rows: pa.Table, among: pa.Table) -> npt.NDArray[np.int64]:
    """Where in `among` each row is, by row id, (n_rows,) int64; -1 for a row that is not there or has no id."""
    if among.num_rows == 0 or ROW_ID not in among.column_names or ROW_ID not in rows.column_names:
        return np.full(rows.num_rows, NULL, np.int64)
    wanted, ids = _ids(rows), _ids(among)
    order = np.argsort(ids, kind="stable")
    found = order[np.clip(np.searchsorted(ids[order], wanted), 0, len(ids) - 1)]
    return np.where((ids[found] == wanted) & (wanted != NULL), found, NULL)


def qualities(table: pa.Table, task: Task) -> tuple[npt.NDArray[np.bool_], Floats]:
    """(n_rows,) each: whether a row can be judged, and its share of quality, whose mean is that of the rows.

    Quality is accuracy for classes; for numbers it is 1 - mean absolute error / that of answering the median, NaN where
    all labels are equal.
    """
    if task == "class":
        return hits(table)
    label, answer = (floats(plain(table[name])) for name in ("label", "predicted"))
    known = np.isfinite(label) & np.isfinite(answer)
    spread = np.abs(label[known] - np.median(label[known])).mean() if known.any() else 0.0
    return known, 1 - np.abs(label - answer) / spread if spread > 0 else np.full(len(label), np.nan)


def hits(table: pa.Table) -> tuple[npt.NDArray[np.bool_], Floats]:
    """(n_rows,) each: whether a row has a label, and 1.0 where it is answered with it, else 0.0."""
    sides = [as_text(plain(table[name])) for name in ("label", "predicted")]
    both = class_codes(
        pa.chunked_array([chunk for side in sides for chunk in side.chunks], type=pa.large_string())
    )[0]
    label, answer = both[: len(table)], both[len(table) :]
    return label != NULL, (label == answer).astype(np.float64)


def with_test_columns(table: pa.Table, test: pa.Table) -> pa.Table:
    """The predictions with the other columns of their test rows; null where the row is not among them."""
    found = places(table, test)
    rows: Any = pa.array(found, mask=found == NULL)
    for name in test.column_names:
        if name not in table.column_names:
            table = table.append_column(name, test[name].take(rows))
    return table


def groups_of(given: CheckInput, rows: pa.Table) -> Codes | None:
    """The group of each row, looked up among the test rows; -1 where it has none. None when there are no groups."""
    if given.group is None or given.group not in given.test.column_names or given.test.num_rows == 0:
        return None
    found = places(rows, given.test)
    return np.where(found == NULL, NULL, codes(given.test[given.group])[0][found])


def _ids(table: pa.Table) -> npt.NDArray[np.int64]:
    """The row ids, (n_rows,) int64, -1 where there is none."""
    ids: npt.NDArray[np.int64] = compute.fill_null(table[ROW_ID].cast(pa.int64()), NULL).to_numpy()
    return ids
