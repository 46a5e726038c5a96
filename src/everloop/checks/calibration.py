"""Do the model's probabilities say how often it is right?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bootstrap import SAMPLES, Estimate, bootstrap_all
from everloop.checks.bounds import wilson
from everloop.checks.columns import Codes, Floats, floats, plain, row_ids
from everloop.checks.plots import Point, plot
from everloop.checks.records import CheckInput, CheckResult, Gate, Verdict
from everloop.checks.scored import groups_of, hits

MEASURES = ("expected_error", "brier")
_BINS = 15
_ROWS_A_BIN = 20
_BUCKETS = 200  # of probabilities: rows alike in all else are counted once
_RELEVANT = 0.05
_FALSE_ALARMS = 0.01

RULE = (
    "The probability that the model gives to its answer must be the share of such answers that are right: on average the "
    "two are apart by no more than the gate's limit. Without a limit, 0.05 or more than that and more than chance "
    "explains (in 1 % of reports with right probabilities) is a warning."
)
REMEDY = "Calibrate the classifier (scikit-learn's CalibratedClassifierCV around it), or do not act on its probabilities."
NUMBERS = {
    "value": "what the gate compares with its limit: the expected error or the Brier score",
    "limit": "of the gate; none without one",
    "low": "lower end of the value's 95 % interval, by a bootstrap",
    "high": "upper end of the value's 95 % interval",
    "expected_error": "expected calibration error: mean distance of probability and share of right answers, 0 to 1",
    "by_chance": "what that exceeds in 1 % of samples when the probabilities are right",
    "brier": "mean squared distance of the probability from 1 for a right and 0 for a wrong answer (Brier score)",
    "mean_probability": "mean probability given to the answers",
    "right": "share of the answers that are right",
    "rows": "labelled predictions with a probability",
    "bins": "groups of equally many rows by their probability; the details show each",
}


@dataclass(frozen=True)
class _Cells:
    """Rows by the bin of their probability; rows alike are one, `counts` says how many. All (n_cells,)."""

    bins: Codes
    chance: Floats
    hit: Floats
    squared: Floats
    counts: npt.NDArray[np.int64]
    clusters: Codes | None

    @property
    def number(self) -> int:
        return int(self.bins.max(initial=-1)) + 1


def calibration(
    given: CheckInput,
    *,
    measure: str = "expected_error",
    at_most: float | None = None,
    confidence: float | None = None,
) -> CheckResult:
    """How far the probabilities of the answers are from how often these are right.

    Fails when `measure` (expected_error or brier) is above `at_most`: as measured, or with `confidence` its bound.
    """
    rule = RULE if at_most is None else _rule(measure, at_most, confidence)
    found = _probabilities(given)
    if isinstance(found, str):
        return CheckResult("calibration", "failed", found, rule, REMEDY, dict.fromkeys(NUMBERS))
    table, chance, hit = found
    cells = _cells(given, table, chance, hit)
    estimates = dict(zip(MEASURES, _estimates(cells), strict=True))
    error, brier = estimates["expected_error"], estimates["brier"]
    by_chance = _by_chance(cells)
    told = estimates[measure]
    decisive = told.value if confidence is None or not len(told.samples) else told.at(confidence)
    verdict: Verdict = "passed"
    if at_most is not None:
        verdict = "passed" if decisive <= at_most else "failed"
    elif error.value >= _RELEVANT and error.value > by_chance:
        verdict = "warned"
    interval = told.interval
    return CheckResult(
        name="calibration",
        verdict=verdict,
        found=f"Probabilities are off by {error.value:.4f} on average{_shown(error)}; {by_chance:.4f} would be chance. The "
        f"Brier score is {brier.value:.4f}{_shown(brier)}. Answers with a mean probability of {chance.mean():.3f} are right "
        f"in {hit.mean():.3f} of {len(hit)} rows.",
        rule=rule,
        remedy="Nothing to do." if verdict == "passed" else REMEDY,
        numbers={
            "value": told.value,
            "limit": at_most,
            "low": interval[0] if interval else None,
            "high": interval[1] if interval else None,
            "expected_error": error.value,
            "by_chance": by_chance,
            "brier": brier.value,
            "mean_probability": float(chance.mean()),
            "right": float(hit.mean()),
            "rows": len(hit),
            "bins": cells.number,
        },
        evidence=() if verdict == "passed" else _surest_errors(table, chance, hit),
        details=_details(chance, hit),
        plot=plot(
            "curve",
            _points(chance, hit),
            at="mean probability of the answer",
            value="share of right answers",
        ),
    )


def refused(gate: Gate) -> str:
    """Why a gate about calibration makes no sense; empty when it does."""
    if gate.measure is not None and gate.measure not in MEASURES:
        return f"has the measure {gate.measure!r}; it is one of {', '.join(MEASURES)}. Name one of these."
    if gate.at_most is None and (gate.measure, gate.confidence) != (None, None):
        return "has no limit to compare with. Give at_most."
    return ""


def _probabilities(given: CheckInput) -> tuple[pa.Table, Floats, Floats] | str:
    """The labelled predictions with a probability, that, and whether they are right; or what is missing."""
    table = given.predictions
    if given.task == "number":
        return "The labels are numbers; there are no probabilities."
    if table is None or not {"label", "predicted", "score"} <= set(table.column_names):
        return "There are no predictions with probabilities."
    labelled, right = hits(table)
    chance = floats(plain(table["score"]))
    keep = labelled & np.isfinite(chance)
    if not keep.any():
        return "The model gives no probabilities, or no row is labelled."
    if outside := int(((chance[keep] < 0) | (chance[keep] > 1)).sum()):
        return f"{outside} rows have a probability outside 0 to 1."
    return table.filter(pa.array(keep)), chance[keep], right[keep]


def _bins(chance: Floats) -> Codes:
    """(n_rows,) int64: up to 15 bins of equally many rows, at least 20 each; equal probabilities share a bin."""
    number = max(1, min(_BINS, len(chance) // _ROWS_A_BIN))
    edges = np.unique(np.quantile(chance, np.linspace(0, 1, number + 1)[1:-1]))
    return np.unique(np.searchsorted(edges, chance, side="right"), return_inverse=True)[1].astype(np.int64)


def _cells(given: CheckInput, table: pa.Table, chance: Floats, hit: Floats) -> _Cells:
    bins, squared, clusters = _bins(chance), (chance - hit) ** 2, groups_of(given, table)
    if clusters is not None:
        return _Cells(bins, chance, hit, squared, np.ones(len(hit), np.int64), clusters)
    key = (bins * 2 + hit.astype(np.int64)) * (_BUCKETS + 1) + (chance * _BUCKETS).astype(np.int64)
    _, first, cell, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    mean, mean_squared = (np.bincount(cell, weights=one) / counts for one in (chance, squared))
    return _Cells(bins[first], mean, hit[first], mean_squared, counts.astype(np.int64), None)


def _estimates(cells: _Cells) -> list[Estimate]:
    """The expected calibration error and the Brier score, with a bootstrap.

    Expected calibration error: sum over bins of n_b / n |mean p in b - share right in b|, Naeini, Cooper and Hauskrecht,
    AAAI 2015, here with bins of equally many rows (Nguyen and O'Connor, EMNLP 2015, section 3), of the probability given
    to the answer (Guo et al., ICML 2017, section 2). Brier score: mean (p - right)^2, Brier, Monthly Weather Review 78
    (1950); with two classes it is that of either class. Drawing rows anew adds noise, and noise adds to a mean distance:
    the samples of the expected error are moved so that their mean is the measured one, and cut at 0.
    """

    def both(weights: npt.NDArray[np.float64]) -> Floats:
        return np.stack(
            [_error(cells, weights, weights @ _of_bins(cells, cells.hit)), _mean(cells.squared, weights)],
            axis=1,
        )

    error, brier = bootstrap_all(both, rows=cells.counts, groups=cells.clusters)
    if len(error.samples):
        centred = np.maximum(0.0, error.samples - error.samples.mean() + error.value)
        error = replace(error, samples=centred)
    return [error, brier]


def _error(cells: _Cells, weights: npt.NDArray[np.float64], right: Floats) -> Floats:
    """(n_samples,) float64 from weights (n_samples, n_cells) and the right answers in each bin (n_samples, n_bins)."""
    promised = weights @ _of_bins(cells, cells.chance)
    error: Floats = np.abs(promised - right).sum(axis=1) / weights.sum(axis=1)
    return error


def _of_bins(cells: _Cells, values: Floats) -> Floats:
    """(n_cells, n_bins) float64: each cell's value in the column of its bin."""
    placed: Floats = (cells.bins[:, None] == np.arange(cells.number)) * values[:, None]
    return placed


def _mean(values: Floats, weights: npt.NDArray[np.float64]) -> Floats:
    mean: Floats = (weights @ values) / weights.sum(axis=1)
    return mean


def _by_chance(cells: _Cells) -> float:
    """What the expected error exceeds in 1 % of samples when every probability is right.

    Right and wrong are drawn by the probabilities themselves: Bröcker and Smith, Increasing the reliability of
    reliability diagrams, Weather and Forecasting 22 (2007), section 3.
    """
    random = np.random.default_rng(0)
    drawn = random.binomial(cells.counts, np.clip(cells.chance, 0, 1), size=(SAMPLES, len(cells.counts)))
    right = drawn @ _of_bins(cells, np.ones(len(cells.counts)))
    return float(
        np.quantile(_error(cells, cells.counts[None, :].astype(np.float64), right), 1 - _FALSE_ALARMS)
    )


def _details(chance: Floats, hit: Floats) -> tuple[dict[str, Any], ...]:
    bins = _bins(chance)
    means: Mapping[str, Callable[[npt.NDArray[np.bool_]], float]] = {
        "from": lambda own: chance[own].min(),
        "to": lambda own: chance[own].max(),
        "probability": lambda own: chance[own].mean(),
        "right": lambda own: hit[own].mean(),
    }
    return tuple(
        {
            "rows": int((bins == one).sum()),
            **{name: round(float(mean(bins == one)), 4) for name, mean in means.items()},
        }
        for one in range(int(bins.max()) + 1)
    )


def _points(chance: Floats, hit: Floats) -> list[Point]:
    """The reliability diagram: what each bin promised (also as `expected`), and how often it was right."""
    bins, points = _bins(chance), []
    for one in range(int(bins.max()) + 1):
        own = bins == one
        promised, right = float(chance[own].mean()), float(hit[own].mean())
        low, high = wilson(int(hit[own].sum()), int(own.sum()))
        points.append(
            Point(
                promised,
                right,
                low,
                high,
                expected=promised,
                rows=int(own.sum()),
                is_marked=not low <= promised <= high,
            )
        )
    return points


def _surest_errors(table: pa.Table, chance: Floats, hit: Floats) -> tuple[int, ...]:
    wrong = np.flatnonzero(hit == 0)
    return row_ids(table, wrong[np.argsort(-chance[wrong], kind="stable")])


def _shown(one: Estimate) -> str:
    return f" (95 %: {one.interval[0]:.4f} to {one.interval[1]:.4f})" if one.interval else ""


def _rule(measure: str, at_most: float, confidence: float | None) -> str:
    name = {"expected_error": "The expected calibration error", "brier": "The Brier score"}[measure]
    return f"{name} must be at most {at_most:g}{'' if confidence is None else f' with {confidence:.0%} confidence'}."
