"""Do the groups of a protected column get the model's answers alike?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.attributes import Attribute, attributes_of
from everloop.checks.bootstrap import Estimate
from everloop.checks.bounds import wilson
from everloop.checks.columns import (
    NULL,
    as_text,
    class_codes,
    floats,
    plain,
    row_ids,
)
from everloop.checks.group_rates import (
    GAP,
    MEASURES,
    RATES,
    SELECTED,
    TRUE_POSITIVE,
    GroupedAnswers,
    GroupRates,
    group_rates,
)
from everloop.checks.plots import Plot, Point, plot
from everloop.checks.proxies import Proxy, proxies
from everloop.checks.records import CheckInput, CheckResult, Gate, Verdict
from everloop.checks.scored import groups_of, places, with_test_columns

MIN_ROWS = 30
FOUR_FIFTHS = 0.8
_DETAILS = 200

RULE = (
    "Groups of 30 rows or more must get the favourable answer alike: the smallest share is at least 0.8 of the largest "
    "(the four-fifths rule), or what the gate says for its measure."
)
REMEDY = (
    "Look at the rows named and at the proxies; change inputs, training rows or decision thresholds, or state in a "
    "waiver why the difference is justified."
)
NUMBERS = {
    "value": "what the gate compares with its limit: a difference or a ratio, of the worst pair of groups",
    "limit": "of the gate",
    "low": "lower end of the value's 95 % interval, by a bootstrap",
    "high": "upper end of the value's 95 % interval",
    "parity_difference": "largest difference between groups in the share that gets the favourable answer",
    "parity_ratio": "smallest such share over the largest; the four-fifths rule asks for 0.8",
    "opportunity_difference": "largest difference in that share among rows that deserve it (true positive rate)",
    "odds_difference": "the same or, if larger, the difference in false positive rates (equalised odds)",
    "calibration_difference": "largest difference in how much the probabilities promise too much",
    "rows": "predictions",
    "groups": "groups that were compared, of all protected columns and pairs of them",
    "small_groups": "groups with fewer rows, named in the details and not judged",
    "proxies": "inputs and features that tell a protected column (Cramér's V of 0.3 or more)",
    "strongest_proxy": "the largest of these",
}


@dataclass(frozen=True)
class Judged:
    """One attribute by one favourable class."""

    attribute: Attribute
    favourable: str
    found: GroupRates


@dataclass(frozen=True)
class Decision:
    """What one limit says of one attribute and favourable class; `excess` above 0 fails."""

    judged: Judged
    kind: str  # difference or ratio
    estimate: Estimate
    limit: float
    excess: float


def fairness(
    given: CheckInput,
    *,
    by: Sequence[str] = (),
    measure: str = "demographic_parity",
    positive: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    confidence: float | None = None,
    min_rows: int = MIN_ROWS,
) -> CheckResult:
    """How alike the groups of protected columns, and of pairs of them, are treated by the model's answers.

    The protected columns need not be inputs. `positive` is the favourable class; without it that is the second of two
    in their order, and each of more than two. `at_most` limits the difference between groups, `at_least` their ratio.
    Without `confidence` the measured value decides, with it its bound does. Numbers of which there are many become
    four groups; missing values are a group.
    """
    if at_least is None and at_most is None and measure == "demographic_parity":
        at_least = FOUR_FIFTHS
    rule = _rule(measure, at_least, at_most, confidence, min_rows)
    table, problem = _answered(given, by, positive)
    if table is None:
        verdict: Verdict = "failed" if by else "skipped"
        remedy = "Score the model on test rows that hold the column, or correct the gate."
        return CheckResult("fairness", verdict, problem, rule, remedy, dict.fromkeys(NUMBERS))
    attributes = attributes_of(table, by, min_rows=min_rows)
    judged = [one for attribute in attributes for one in _judged(given, table, attribute, positive, min_rows)]
    decisions = [
        one
        for each in judged
        for one in _decided(each, measure, at_least=at_least, at_most=at_most, confidence=confidence)
    ]
    told = [
        one
        for name in by
        for one in proxies(given.train if name in given.train.column_names else table, name, given.columns)
    ]
    numbers = _numbers(table, attributes, judged, told)
    details = tuple(itertools.islice(_details(attributes, judged, told), _DETAILS))
    unjudged = [name for name in by if all(one.judged.attribute.by != name for one in decisions)]
    if (
        unjudged
    ):  # not even where another column was judged: a gate that names a column asks for an answer on it
        found = f"Fewer than two groups of {' or '.join(unjudged)} have {min_rows} rows for {measure}{_small(attributes)}."
        remedy = "Measure on more test rows, or lower the gate's min_rows."
        return CheckResult("fairness", "failed", found, rule, remedy, numbers, details=details)
    worst = max(decisions, key=lambda one: one.excess)
    is_met = worst.excess <= 0
    interval = worst.estimate.interval
    return CheckResult(
        name="fairness",
        verdict="passed" if is_met else "failed",
        found=_found(worst, measure) + _small(attributes) + "." + _told(told),
        rule=rule,
        remedy="Nothing to do." if is_met else REMEDY,
        numbers={
            **numbers,
            "value": worst.estimate.value,
            "limit": worst.limit,
            "low": interval[0] if interval else None,
            "high": interval[1] if interval else None,
        },
        evidence=() if is_met else _evidence(table, worst, measure),
        details=details,
        plot=_plot(decisions, worst, measure),
    )


def refused(gate: Gate) -> str:
    """Why a gate about fairness makes no sense; empty when it does."""
    if not gate.by:
        return "names no protected column. Name it, as in by=['sex']; two give their pairs as well."
    if gate.measure is not None and gate.measure not in MEASURES:
        return f"has the measure {gate.measure!r}; it is one of {', '.join(MEASURES)}. Name one of these."
    if gate.measure == "calibration" and gate.at_least is not None:
        return "has at_least for calibration, which has a difference and no ratio. Give at_most."
    if (
        gate.measure in MEASURES
        and gate.measure != "demographic_parity"
        and (gate.at_least, gate.at_most) == (None, None)
    ):
        return f"has no limit for {gate.measure}. Give at_most for the difference of groups, or at_least for their ratio."
    return ""


def _answered(given: CheckInput, by: Sequence[str], positive: str | None) -> tuple[pa.Table | None, str]:
    """The predictions with the columns of their test rows; or None and what is missing."""
    table = given.predictions
    if not by:
        return None, "The gate names no protected column."
    if given.task == "number":
        return None, "The labels are numbers; shares of an answer are compared for classes."
    if table is None or not {"label", "predicted"} <= set(table.column_names) or table.num_rows == 0:
        return None, "There are no predictions."
    table = with_test_columns(table, given.test).filter(pa.array(places(table, given.test) != NULL))
    if table.num_rows == 0:
        return None, "None of the predictions is for a test row."
    if missing := [name for name in by if name not in table.column_names]:
        return None, f"The test rows have no column {', '.join(missing)}."
    known = _classes(table)[1]
    if positive is not None and positive not in known:
        return None, f"No row is labelled or answered {positive!r}, which the gate calls favourable."
    return table, ""


def _judged(
    given: CheckInput, table: pa.Table, attribute: Attribute, positive: str | None, min_rows: int
) -> Iterator[Judged]:
    (label, answer), classes = _classes(table)
    has_score = given.predictions is not None and "score" in given.predictions.column_names
    score = floats(plain(table["score"])) if has_score else np.full(len(label), np.nan)
    clusters = groups_of(given, table)
    for favourable in _favourable(classes, positive) if attribute.names else []:
        code = classes.index(favourable)
        if len(classes) == 2:  # the probability of the favourable class is known from that of the answer
            chance, truth = np.where(answer == code, score, 1 - score), label == code
        else:
            chance, truth = score, label == answer
        rows = GroupedAnswers(
            group=attribute.group,
            label=np.where(label == NULL, NULL, (label == code).astype(np.int64)),
            answer=answer == code,
            chance=np.where(answer == NULL, np.nan, chance),
            truth=truth,
            clusters=clusters,
        )
        yield Judged(attribute, favourable, group_rates(rows, len(attribute.names), min_rows=min_rows))


def _favourable(classes: list[str], positive: str | None) -> list[str]:
    if positive is not None:
        return [positive]
    return sorted(classes)[1:] if len(classes) == 2 else sorted(classes)


def _classes(table: pa.Table) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Labels and answers as codes, (2, n_rows) int64, and the classes."""
    chunks = [chunk for name in ("label", "predicted") for chunk in as_text(plain(table[name])).chunks]
    found, names = class_codes(pa.chunked_array(chunks, type=pa.large_string()))
    return found.reshape(2, table.num_rows), names


def _decided(
    judged: Judged,
    measure: str,
    *,
    at_least: float | None,
    at_most: float | None,
    confidence: float | None,
) -> Iterator[Decision]:
    spread = judged.found.spreads[measure]
    if at_most is not None and spread.difference is not None:
        one = spread.difference
        decisive = one.value if confidence is None or not len(one.samples) else one.at(confidence)
        yield Decision(judged, "difference", one, at_most, decisive - at_most)
    if at_least is not None and spread.ratio is not None:
        one = spread.ratio
        decisive = one.value if confidence is None or not len(one.samples) else one.at(1 - confidence)
        yield Decision(judged, "ratio", one, at_least, at_least - decisive)


def _numbers(
    table: pa.Table, attributes: Sequence[Attribute], judged: Sequence[Judged], told: Sequence[Proxy]
) -> dict[str, float | int | None]:
    spreads = [one.found.spreads["demographic_parity"].ratio for one in judged]
    ratios = [one.value for one in spreads if one is not None]
    return {
        **dict.fromkeys(NUMBERS),
        "parity_difference": _largest(judged, "demographic_parity"),
        "parity_ratio": min(ratios, default=None),
        "opportunity_difference": _largest(judged, "equal_opportunity"),
        "odds_difference": _largest(judged, "equalised_odds"),
        "calibration_difference": _largest(judged, "calibration"),
        "rows": table.num_rows,
        "groups": sum(len(one.names) for one in attributes),
        "small_groups": sum(len(one.small) for one in attributes),
        "proxies": len({one.column for one in told}),
        "strongest_proxy": max((one.association for one in told), default=None),
    }


def _largest(judged: Sequence[Judged], measure: str) -> float | None:
    spreads = [one.found.spreads[measure].difference for one in judged]
    return max((one.value for one in spreads if one is not None), default=None)


def _details(
    attributes: Sequence[Attribute], judged: Sequence[Judged], told: Sequence[Proxy]
) -> Iterator[dict[str, Any]]:
    """Proxies, then the measures with their intervals, then the groups, small ones last."""
    for proxy in told:
        yield {"proxy": proxy.column, "of": proxy.of, "association": round(proxy.association, 4)}
    for one in judged:
        for measure, spread in one.found.spreads.items():
            if spread.difference is not None:
                yield {
                    "by": one.attribute.by,
                    "favourable": one.favourable,
                    "measure": measure,
                    **_shown("difference", spread.difference),
                    **_shown("ratio", spread.ratio),
                }
    for one in judged:
        for place, name in enumerate(one.attribute.names):
            rates = one.found.rates[:, place]
            yield {
                "by": one.attribute.by,
                "favourable": one.favourable,
                "group": name,
                "rows": int(one.found.rows[SELECTED, place]),
                **{
                    rate: None if np.isnan(value) else round(float(value), 4)
                    for rate, value in zip(RATES, rates, strict=True)
                },
            }
    for attribute in attributes:
        for name, rows in attribute.small:
            yield {"by": attribute.by, "group": name, "rows": rows, "judged": False}


def _shown(name: str, estimate: Estimate | None) -> dict[str, float]:
    if estimate is None:
        return {}
    low, high = estimate.interval or (estimate.value, estimate.value)
    return {name: round(estimate.value, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}


def _ends(decision: Decision, measure: str) -> tuple[int, int, int]:
    """The rate in which the groups differ most, and the groups with its smallest and largest value."""
    found, ends = decision.judged.found, []
    for rate in MEASURES[measure]:
        judged = np.flatnonzero(found.judged[rate])
        order = judged[np.argsort(found.rates[rate, judged], kind="stable")]
        low, high = float(found.rates[rate, order[0]]), float(found.rates[rate, order[-1]])
        apart = high - low if decision.kind == "difference" or high == 0 else 1 - low / high
        ends.append((apart, rate, int(order[0]), int(order[-1])))
    return max(ends)[1:]


def _found(worst: Decision, measure: str) -> str:
    one, (rate, low, high) = worst.judged, _ends(worst, measure)
    said = {
        "selected": f"Answer {one.favourable!r} is given",
        "true_positive_rate": f"Rows labelled {one.favourable!r} are answered so",
        "false_positive_rate": f"Rows labelled otherwise are answered {one.favourable!r}",
        "calibration_gap": "Probabilities are too high",
    }[RATES[rate]]
    shares = [
        f"{one.found.rates[rate, group]:.3f} for {one.attribute.by} = {one.attribute.names[group]!r} "
        f"({int(one.found.rows[rate, group])} rows)"
        for group in (low, high)
    ]
    interval = worst.estimate.interval
    shown = f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    how = "by" if rate == GAP else "at a rate of"
    return f"{said} {how} {shares[0]} and {shares[1]}: {worst.kind} {worst.estimate.value:.3f}{shown}"


def _small(attributes: Sequence[Attribute]) -> str:
    small = [f"{one.by} = {name!r} ({rows})" for one in attributes for name, rows in one.small]
    if not small:
        return ""
    more = f" and {len(small) - 5} more" if len(small) > 5 else ""
    return f"; too small to judge: {', '.join(small[:5])}{more}"


def _told(told: Sequence[Proxy]) -> str:
    if not told:
        return ""
    shown = ", ".join(f"{one.column} for {one.of} ({one.association:.2f})" for one in told[:5])
    more = f" and {len(told) - 5} more" if len(told) > 5 else ""
    return f" Proxies among the inputs: {shown}{more}."


def _plot(decisions: Sequence[Decision], worst: Decision, measure: str) -> Plot | None:
    """Each judged group's rates, those of the worst attribute first; the two that the verdict rests on are marked."""
    order = dict.fromkeys(id(one.judged) for one in sorted(decisions, key=lambda one: -one.excess))
    by_id = {id(one.judged): one.judged for one in decisions}
    rate, low, high = _ends(worst, measure)
    points = [
        _point(
            by_id[each],
            place,
            group,
            is_marked=each == id(worst.judged) and (place, group) in ((rate, low), (rate, high)),
        )
        for each in order
        for place in MEASURES[measure]
        for group in np.flatnonzero(by_id[each].found.judged[place]).tolist()
    ]
    names = {GAP: "mean probability minus share that is true"}
    return plot("intervals", points, at="group", value=names.get(rate, "share of rows that get the answer"))


def _point(one: Judged, rate: int, group: int, *, is_marked: bool) -> Point:
    value, rows = float(one.found.rates[rate, group]), int(one.found.rows[rate, group])
    low, high = (None, None) if rate == GAP else wilson(round(value * rows), rows)
    name = f"{one.attribute.by} = {one.attribute.names[group]}"
    series = f"{RATES[rate]} of {one.favourable}"
    return Point(name, value, low, high, rows=rows, series=series, is_marked=is_marked)


def _rule(
    measure: str, at_least: float | None, at_most: float | None, confidence: float | None, min_rows: int
) -> str:
    limits = [f"differ by {at_most:g} at most"] if at_most is not None else []
    limits += [f"have a ratio of {at_least:g} or more"] if at_least is not None else []
    certainly = "" if confidence is None else f" with {confidence:.0%} confidence"
    return f"By {measure}, groups of {min_rows} rows or more must {' and '.join(limits) or 'be alike'}{certainly}."


def _evidence(table: pa.Table, worst: Decision, measure: str) -> tuple[int, ...]:
    """Rows of the group that gets least: first those that deserved the answer and did not get it."""
    one, (rate, low, high) = worst.judged, _ends(worst, measure)
    group = low if rate in (SELECTED, TRUE_POSITIVE) else high
    found, classes = _classes(table)
    label, answer = found == classes.index(one.favourable)
    is_wrong = label & ~answer if rate in (SELECTED, TRUE_POSITIVE) else ~label & answer
    inside = np.flatnonzero(one.attribute.group == group)
    return row_ids(table, inside[np.argsort(~is_wrong[inside], kind="stable")])
