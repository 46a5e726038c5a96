"""What changed between a reference and a window, and which part of it moved.

A series has drifted when the change is significant *and* large enough to matter. Significance alone flags a quarter to
three quarters of all clean reports (raw p < 0.05 over many columns) and, with enough rows, any trifle; size alone flags
small windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.monitoring.bins import CategoryBins, CategoryCounts, NumberBins
from everloop.monitoring.reference import ColumnCounts, Counts, Profile, Reference, profile_of
from everloop.monitoring.two_samples import (
    adjusted,
    category_p_value,
    corrected_psi,
    ks_distance,
    number_p_value,
    pool_rare,
    total_variation,
)

Ints = NDArray[np.int64]
Statistic = Literal["ks", "total variation"]
Verdict = Literal["drifted", "stable", "too few rows"]

_PSI_GROUPS = 10  # the usual number; its usual marks (0.1 and 0.25) are about ten groups


@dataclass(frozen=True)
class ShareChange:
    """The share of rows that had a value, before and now; `value` None stands for all others together."""

    value: str | None
    reference: float
    current: float

    @property
    def change(self) -> float:
        return self.current - self.reference


@dataclass(frozen=True)
class SeriesDrift:
    """One series of one column: `values`, `missing`, or what a text or a size was turned into.

    `effect` is the Kolmogorov-Smirnov distance of numbers, the total variation of categories and of missing values:
    both are shares of rows, 0 to 1. `q_value` is `p_value` adjusted for all series of the report. `psi` has its
    small-sample bias taken off; it is None for categories so rare that it says nothing.
    """

    column: str
    series: str
    statistic: Statistic
    effect: float
    p_value: float
    q_value: float
    psi: float | None
    n_reference: int
    n_current: int
    verdict: Verdict
    medians: tuple[float, float] | None = None  # numbers: in the reference, now
    outside: float | None = None  # numbers: share of current rows beyond the reference's range
    changes: tuple[ShareChange, ...] = ()  # categories: the twelve largest, and the rest

    @property
    def name(self) -> str:
        return self.column if self.series == "values" else f"{self.column} ({self.series})"


@dataclass(frozen=True)
class DriftReport:
    """All series that were compared, in the order of the columns; `left_out` says which were not, and why."""

    n_reference: int
    n_current: int
    series: tuple[SeriesDrift, ...]
    left_out: Mapping[str, str]

    @property
    def drifted(self) -> tuple[SeriesDrift, ...]:
        """The series that have drifted, the largest effect first."""
        return tuple(
            sorted((one for one in self.series if one.verdict == "drifted"), key=lambda one: -one.effect)
        )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns with a drifted series, the largest effect first."""
        return tuple(dict.fromkeys(one.column for one in self.drifted))

    def as_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return asdict(self) | {"left_out": dict(self.left_out), "drifted": list(self.columns)}


def compare(
    reference: Reference,
    current: Profile | pa.Table,
    *,
    false_discoveries: float = 0.01,
    effect_at_least: float = 0.05,
    rows_at_least: int = 50,
) -> DriftReport:
    """Tell which series of the current rows differ from the reference's.

    Numbers by ranks and Kolmogorov-Smirnov together, categories and missing values by chi-square, over all series with
    Benjamini-Hochberg; drifted when the q-value is at most `false_discoveries` and the effect at least
    `effect_at_least`. When nothing changed, a report has a false flag with probability at most `false_discoveries`.
    The tests take rows as independent: many rows of one sender at once look more certain than they are.

    Raises
    ------
    Invalid
        The profile was counted in other bins; a table lacks a column or has it in another type.

    Examples
    --------
    >>> from everloop.monitoring.reference import learn_reference
    >>> reference = learn_reference(pa.table({"size": list(range(200)), "colour": ["red", "blue"] * 100}))
    >>> now = pa.table({"size": list(range(200)), "colour": ["red"] * 150 + ["green"] * 50})
    >>> report = compare(reference, now)
    >>> report.columns
    ('colour',)
    >>> [(one.value, one.reference, one.current) for one in report.drifted[0].changes]
    [('blue', 0.5, 0.0), ('green', 0.0, 0.25), ('red', 0.5, 0.75)]
    """
    profile = current if isinstance(current, Profile) else profile_of(current, reference.bins)
    if profile.bins_id != reference.bins.id:
        raise Invalid(
            f"the profile was counted in bins {profile.bins_id}, the reference's are {reference.bins.id}; "
            "only counts in the same bins compare. Count the rows with this reference's bins."
        )
    compared = [one for name in reference.bins.columns for one in _compare_column(name, reference, profile)]
    verdicts = _judge(
        compared,
        false_discoveries=false_discoveries,
        effect_at_least=effect_at_least,
        rows_at_least=rows_at_least,
    )
    return DriftReport(reference.profile.n_rows, profile.n_rows, tuple(verdicts), reference.bins.left_out)


def _judge(
    compared: Sequence[SeriesDrift], *, false_discoveries: float, effect_at_least: float, rows_at_least: int
) -> list[SeriesDrift]:
    judged = [one for one in compared if min(one.n_reference, one.n_current) >= rows_at_least]
    q_values = dict(zip(map(id, judged), adjusted([one.p_value for one in judged]).tolist(), strict=True))

    def verdict(one: SeriesDrift) -> SeriesDrift:
        if id(one) not in q_values:
            return one
        q = q_values[id(one)]
        has_drifted = q <= false_discoveries and one.effect >= effect_at_least
        return replace(one, q_value=q, verdict="drifted" if has_drifted else "stable")

    return [verdict(one) for one in compared]


def _compare_column(name: str, reference: Reference, profile: Profile) -> list[SeriesDrift]:
    before, now = reference.profile.columns[name], profile.columns[name]
    compared = [
        _compare_series(name, series, bins, before.series[series], now.series[series])
        for series, bins in reference.bins.columns[name].series.items()
    ]
    if before.missing or now.missing:
        compared.append(_compare_missing(name, before, now, reference.profile.n_rows, profile.n_rows))
    return compared


def _compare_series(
    column: str, series: str, bins: NumberBins | CategoryBins, before: Counts, now: Counts
) -> SeriesDrift:
    if isinstance(bins, NumberBins):
        return _compare_numbers(column, series, bins, cast("Ints", before), cast("Ints", now))
    of_before, of_now = (by_value(bins, cast("CategoryCounts", counts)) for counts in (before, now))
    return _compare_categories(column, series, of_before, of_now)


def _compare_numbers(column: str, series: str, bins: NumberBins, before: Ints, now: Ints) -> SeriesDrift:
    medians = bins.median(before), bins.median(now)
    groups = _tenths(before)
    return SeriesDrift(
        column,
        series,
        "ks",
        effect=ks_distance(before, now),
        p_value=number_p_value(before, now),
        q_value=1.0,
        psi=corrected_psi(np.bincount(groups, weights=before), np.bincount(groups, weights=now)),
        n_reference=int(before.sum()),
        n_current=int(now.sum()),
        verdict="too few rows",
        medians=None if medians[0] is None or medians[1] is None else (medians[0], medians[1]),
        outside=bins.share_outside(now),
    )


def _tenths(counts: Ints) -> Ints:
    """Which tenth of the reference each bin belongs to, numbered without gaps."""
    middle = counts.cumsum() - counts / 2.0
    tenth = np.minimum(middle * _PSI_GROUPS // max(int(counts.sum()), 1), _PSI_GROUPS - 1)
    return np.unique(tenth, return_inverse=True)[1]


def _compare_categories(
    column: str, series: str, before: Mapping[str | None, int], now: Mapping[str | None, int]
) -> SeriesDrift:
    values = sorted({*before, *now}, key=lambda value: value or "")
    r = np.array([before.get(value, 0) for value in values], dtype=np.int64)
    c = np.array([now.get(value, 0) for value in values], dtype=np.int64)
    return SeriesDrift(
        column,
        series,
        "total variation",
        effect=total_variation(r, c),
        p_value=category_p_value(r, c),
        q_value=1.0,
        psi=_psi_of_common(r, c),
        n_reference=int(r.sum()),
        n_current=int(c.sum()),
        verdict="too few rows",
        changes=share_changes(before, now),
    )


def _psi_of_common(r: Ints, c: Ints) -> float | None:
    """The index over common values and the rare ones together; None where most rows have rare ones."""
    is_rare = pool_rare(r, c)
    if 2 * r[is_rare].sum() > r.sum() or 2 * c[is_rare].sum() > c.sum():
        return None
    return corrected_psi(np.append(r[~is_rare], r[is_rare].sum()), np.append(c[~is_rare], c[is_rare].sum()))


def _compare_missing(
    column: str, before: ColumnCounts, now: ColumnCounts, n_before: int, n_now: int
) -> SeriesDrift:
    r, c = [before.missing, n_before - before.missing], [now.missing, n_now - now.missing]
    return SeriesDrift(
        column,
        "missing",
        "total variation",
        effect=total_variation(r, c),
        p_value=category_p_value(r, c),
        q_value=1.0,
        psi=corrected_psi(r, c),
        n_reference=n_before,
        n_current=n_now,
        verdict="too few rows",
        changes=share_changes(
            {"missing": before.missing, "present": r[1]}, {"missing": now.missing, "present": c[1]}
        ),
    )


def by_value(bins: CategoryBins, counts: CategoryCounts) -> dict[str | None, int]:
    """Counts by value; None stands for all values that are not counted one by one."""
    named: dict[str | None, int] = dict(zip(bins.kept, counts.kept.tolist(), strict=True))
    named.update(counts.new.items())
    return {**named, None: counts.rest} if counts.rest else named


def share_changes(
    reference: Mapping[str | None, int] | Mapping[str, int],
    current: Mapping[str | None, int] | Mapping[str, int],
    *,
    top: int = 12,
) -> tuple[ShareChange, ...]:
    """Which values' shares moved, the largest change first, equals by name; all beyond the top ones as one.

    Examples
    --------
    >>> share_changes({"fridges": 1, "phones": 9}, {"fridges": 5, "phones": 5})
    (ShareChange(value='fridges', reference=0.1, current=0.5), ShareChange(value='phones', reference=0.9, current=0.5))
    """
    before: dict[str | None, int] = dict(reference.items())
    now: dict[str | None, int] = dict(current.items())
    n, m = sum(before.values()), sum(now.values())
    every = [
        ShareChange(value, before.get(value, 0) / n if n else 0.0, now.get(value, 0) / m if m else 0.0)
        for value in {**before, **now}
        if value is not None
    ]
    every.sort(key=lambda one: (-abs(one.change), one.value or ""))
    named = every[:top]
    rest = ShareChange(
        None,
        round(sum(one.reference for one in every[top:]) + (before.get(None, 0) / n if n else 0.0), 12),
        round(sum(one.current for one in every[top:]) + (now.get(None, 0) / m if m else 0.0), 12),
    )
    return (*named, rest) if rest.reference or rest.current else tuple(named)
