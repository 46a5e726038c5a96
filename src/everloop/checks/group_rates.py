"""What groups of rows get from a model: how often the answer, how often rightly, on weighted rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from everloop.checks.bootstrap import Estimate, bootstrap_all
from everloop.checks.columns import NULL, Codes, Floats

Mask = npt.NDArray[np.bool_]

SELECTED, TRUE_POSITIVE, FALSE_POSITIVE, GAP = range(4)
RATES = ("selected", "true_positive_rate", "false_positive_rate", "calibration_gap")

# Which of a group's rates a measure compares: its difference is the largest minus the smallest of the groups', its
# ratio the smallest over the largest; of two rates the worse counts.
MEASURES: Mapping[str, tuple[int, ...]] = {
    "demographic_parity": (SELECTED,),
    "equal_opportunity": (TRUE_POSITIVE,),
    "equalised_odds": (TRUE_POSITIVE, FALSE_POSITIVE),
    "calibration": (GAP,),
}
_BUCKETS = 100  # of probabilities: rows alike in all else are counted once, with the mean of theirs


@dataclass(frozen=True)
class GroupedAnswers:
    """Rows by group: whether they are labelled and answered with the favourable class, and its probability.

    All (n_rows,). `group` is -1 for rows that are not looked at, `label` is -1 where it is not known, `chance` NaN
    where there is no probability, and `truth` what `chance` foretells. `clusters` are drawn whole.
    """

    group: Codes
    label: npt.NDArray[np.int64]
    answer: Mask
    chance: Floats
    truth: Mask
    clusters: Codes | None = None


@dataclass(frozen=True)
class Spread:
    """How far apart the groups are by one measure; None where fewer than two groups have enough rows for it."""

    difference: Estimate | None
    ratio: Estimate | None


@dataclass(frozen=True)
class GroupRates:
    """(n_rates, n_groups) each: the rates, how many rows they rest on, whether that is enough; the spread per measure."""

    rates: Floats
    rows: Floats
    judged: Mask
    spreads: Mapping[str, Spread]


def group_rates(answers: GroupedAnswers, n_groups: int, *, min_rows: int) -> GroupRates:
    """The rates of groups, and how far apart they are by each measure, with a bootstrap.

    With A the group, Y the label, D the answer (1: the favourable class) and p its probability, a group has
    selected = P(D = 1 | A), true positive rate = P(D = 1 | Y = 1, A), false positive rate = P(D = 1 | Y = 0, A), and
    calibration gap = mean p - P(Y = 1) in A. Demographic parity asks for equal selection: Calders and Verwer, Data
    Mining and Knowledge Discovery 21 (2010); its ratio is the four-fifths rule of the Uniform Guidelines on Employee
    Selection Procedures, 29 CFR 1607.4 D. Equal opportunity asks for equal true positive rates, equalised odds for
    equal false positive rates besides: Hardt, Price and Srebro, NeurIPS 2016, definitions 2.1 and 2.2. Calibration
    within groups: Kleinberg, Mullainathan and Raghavan, ITCS 2017, section 1. A ratio of two rates that are 0 is 1.

    A group is compared by a rate that rests on at least `min_rows` of its rows: of the labelled 1 for the true positive
    rate, of the labelled 0 for the false positive rate, of those with a label and a probability for the gap.
    """
    cells, counts = _cells(answers)
    rates, rows = _rates(cells, n_groups, counts[None, :].astype(np.float64))
    judged = rows[0] >= max(1, min_rows)  # (n_rates, n_groups)
    estimates = bootstrap_all(
        lambda weights: _spreads(_rates(cells, n_groups, weights)[0], judged),
        rows=counts,
        groups=cells.clusters,
    )
    known = [None if np.isnan(one.value) else one for one in estimates]
    spreads = {measure: Spread(*known[2 * place : 2 * place + 2]) for place, measure in enumerate(MEASURES)}
    return GroupRates(np.where(rows[0] > 0, rates[0], np.nan), rows[0], judged, spreads)


def _cells(answers: GroupedAnswers) -> tuple[GroupedAnswers, npt.NDArray[np.int64]]:
    """Rows that are alike as one, with their number; each for itself where whole clusters are drawn."""
    keep = answers.group != NULL
    if answers.clusters is not None:
        kept = {name: values[keep] for name, values in vars(answers).items()}
        return GroupedAnswers(**kept), np.ones(int(keep.sum()), np.int64)
    group, label, answer, chance, truth = (
        one[keep] for one in (answers.group, answers.label, answers.answer, answers.chance, answers.truth)
    )
    has_chance = np.isfinite(chance)
    bucket = np.where(has_chance, np.clip(chance * _BUCKETS, 0, _BUCKETS), -1).astype(np.int64) + 1
    key = (((group * 3 + label + 1) * 2 + answer) * 2 + truth) * (_BUCKETS + 2) + bucket
    _, first, cell, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    sums = np.bincount(cell, weights=np.where(has_chance, chance, 0.0), minlength=len(first))
    mean = np.where(has_chance[first], sums / np.maximum(counts, 1), np.nan)
    return GroupedAnswers(group[first], label[first], answer[first], mean, truth[first]), counts.astype(
        np.int64
    )


def _rates(cells: GroupedAnswers, n_groups: int, weights: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    """(n_samples, n_rates, n_groups) float64 each: the rates, NaN without rows, and how many rows they rest on."""
    has_chance = np.isfinite(cells.chance) & (cells.label != NULL)
    gap = np.where(has_chance, np.nan_to_num(cells.chance) - cells.truth, 0.0)
    parts: list[tuple[Any, Any]] = [
        (cells.answer, np.ones(len(cells.group))),
        (cells.answer & (cells.label == 1), cells.label == 1),
        (cells.answer & (cells.label == 0), cells.label == 0),
        (gap, has_chance),
    ]
    member = (cells.group[:, None] == np.arange(n_groups)).astype(np.float64)  # (n_cells, n_groups)
    top, bottom = (
        np.stack([weights @ (member * part[side][:, None]) for part in parts], axis=1) for side in (0, 1)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return top / bottom, bottom


def _spreads(rates: Floats, judged: Mask) -> Floats:
    """(n_samples, 2 n_measures) float64: per measure the difference, then the ratio; NaN with fewer than two groups."""
    seen = np.where(judged & (judged.sum(axis=1) >= 2)[:, None], rates, np.nan)
    high, low = np.fmax.reduce(seen, axis=2), np.fmin.reduce(seen, axis=2)  # (n_samples, n_rates)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(high == 0, 1.0, low / high)
    ratio[:, GAP] = np.nan
    columns = [
        column
        for own in MEASURES.values()
        for column in ((high - low)[:, own].max(axis=1), ratio[:, own].min(axis=1))
    ]
    return np.stack(columns, axis=1)
