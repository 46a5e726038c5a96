"""What made-up rollouts on an endpoint take for granted: what somebody said, and for the rest what the endpoint did lately."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from everloop import feedback
from everloop.errors import Invalid
from everloop.rollout.bounded import divided
from everloop.rollout.evidence import of_units, units_of
from everloop.rollout.kpis import values_of
from everloop.rollout.made_up import Numbers
from everloop.rollout.means import ODDS_OF_A_CLASS, ODDS_OF_KPIS, ODDS_OF_TRUTHS
from everloop.rollout.plans import ArmKpi, Canary, is_truth
from everloop.rollout.records import Endpoint
from everloop.rollout.start import BEFORE, Past, past
from everloop.rollout.truths import Truth, is_about, known_by, truths_of
from everloop.workspace import Workspace

Floats = NDArray[np.float64]

_SLOW = 0.05  # of the requests before are above their 95th percentile, which is what slow means unless stated
_MOST_REPORTS = 1_000_000
_PLACES: Floats = np.linspace(0.0, 1.0, 17)  # a KPI's badness is put on these, its mean as it was
_DRAWN = 20_000  # values of a KPI whose mean and spread are assumed


@dataclass(frozen=True)
class Assumed:
    """What is said of both versions; what is left out is taken from the endpoint's last 28 days.

    Parameters
    ----------
    control, new
        By metric how often the version is bad: a share of the requests, of the audited answers for `wrong`, of those that say so
        for `wrong:CLASS`. By KPI the mean of its values, in its own unit.
    spread
        By KPI the standard deviation of its values. Without it, and without values of before, they are at either end, which is
        the most that they can spread.
    said, new_said
        By class the share of the answers that say so.
    audited, reviewed_share, reviewed_after_h
        The part of the answers that is drawn for review, the part of these that reviewers answer, and the hours that they take
        on average: each answer waits on its own, half for less than 0.7 of that.
    known_share, known_after_h
        By KPI, the part of the requests of which its value becomes known, and how many hours after the request.
    reported_after_h
        Hours on average until people report what `contradicted` counts, drawn as those of reviewers.
    per_hour
        Requests an hour.
    """

    control: Mapping[str, float] = field(default_factory=dict)
    new: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    said: Mapping[str, float] = field(default_factory=dict)
    new_said: Mapping[str, float] = field(default_factory=dict)
    audited: float | None = None
    reviewed_share: float = 1.0
    reviewed_after_h: float | None = None
    known_share: Mapping[str, float] = field(default_factory=dict)
    known_after_h: Mapping[str, float] = field(default_factory=dict)
    reported_after_h: float | None = None
    per_hour: float | None = None

    def check(self, plan: Canary) -> None:
        """Raises Invalid for what the plan does not judge, and for what cannot be."""
        metrics = [rule.metric for rule in plan.rules.metrics]
        kpis = [one.name for one in plan.kpis]
        classes = [one.partition(":")[2] for one in metrics if is_truth(one) and one != "wrong"]
        for option, given, names in (
            ("--control", self.control, metrics),
            ("--new", self.new, metrics),
            ("--spread", self.spread, kpis),
            ("--known-share", self.known_share, kpis),
            ("--known-after", self.known_after_h, kpis),
            ("--said", self.said, classes),
            ("--new-said", self.new_said, classes),
        ):
            if unknown := sorted(set(given) - set(names)):
                kind = {"--said": "classes", "--new-said": "classes"}.get(
                    option, "KPIs" if names is kpis else "metrics"
                )
                raise Invalid(
                    f"{option} names {', '.join(unknown)}; the {kind} that the plan judges are {', '.join(names) or 'none'}. Name one "
                    "of these, or give it a margin in the plan."
                )
        for option, shares in (
            ("--known-share", self.known_share),
            ("--said", self.said),
            ("--new-said", self.new_said),
            ("--reviewed-share", {"truths": self.reviewed_share}),
        ):
            for name, share in shares.items():
                if not 0 < share <= 1:
                    raise Invalid(
                        f"{option} of {name} is {share:g}; it is a part of all, above 0 and at most 1. Say it so, such as 0.3."
                    )
        delays = {"truths": self.reviewed_after_h or 0.0, "reports": self.reported_after_h or 0.0}
        for name, hours in {**delays, **self.known_after_h}.items():
            if not 0 <= hours < np.inf:
                raise Invalid(
                    f"{name} become known after {hours:g} h; that is a number of hours, 0 for at once. Say how long it takes on average."
                )
        for given in (self.control, self.new):
            for metric, rate in given.items():
                _check_rate(plan, metric, rate)


def _check_rate(plan: Canary, metric: str, rate: float) -> None:
    kpi = next((one for one in plan.kpis if one.name == metric), None)
    if kpi is not None and not kpi.low <= rate <= kpi.high:
        raise Invalid(
            f"the mean of {metric} is assumed to be {rate:g}; its values lie between {kpi.low:g} and {kpi.high:g}. Say a mean "
            "between these, in the KPI's own unit."
        )
    if kpi is None and not 0 <= rate <= 1:
        raise Invalid(
            f"the rate of {metric} is {rate:g}; it is a share of the requests, 0 to 1, such as 0.01. Divide a percentage by 100."
        )


@dataclass(frozen=True)
class Grounds:
    """What is taken for granted of an endpoint's live version, by metric, and of how its truths and values become known."""

    rates: dict[str, float]  # of a KPI the mean, in its own unit
    known: dict[str, tuple[int, int]]  # what the judge would expect, as at the start of a rollout
    told: dict[str, float]  # the part of the requests of which a mean becomes known
    said: dict[str, tuple[float, float]]  # of a class: by the new version, by the live one
    after_h: dict[str, float]  # hours until it is known: of truths and reports on average, of KPIs always
    shapes: dict[str, Floats]  # of a KPI: the chance of each of `_PLACES`
    per_hour: float | None

    def numbers(self, plan: Canary, rates: Mapping[str, tuple[float, float]]) -> dict[str, Numbers]:
        """What is drawn of the metrics that are means, by the rates of the live and the new version."""
        kpis = {one.name: one for one in plan.kpis}
        return {
            rule.metric: self._of_kpi(kpis[rule.metric], rates[rule.metric])
            if rule.metric in kpis
            else self._of_truths(rule.metric, rates[rule.metric])
            for rule in plan.rules.metrics
            if rule.is_mean
        }

    def _of_truths(self, metric: str, rates: tuple[float, float]) -> Numbers:
        said = self.said.get(metric, (1.0, 1.0))
        return Numbers(
            np.array([0.0, 1.0]),
            np.array(
                [
                    [self.told[metric] * part * (1.0 - rate), self.told[metric] * part * rate]
                    for part, rate in zip(said, reversed(rates), strict=True)
                ]
            ),
            after=(self.after(metric), self.after(metric)),
            on_odds=ODDS_OF_TRUTHS if metric == "wrong" else ODDS_OF_A_CLASS,
        )

    def _of_kpi(self, kpi: ArmKpi, rates: tuple[float, float]) -> Numbers:
        arms = [_moved(self.shapes[kpi.name], float(kpi.badness(np.array(mean)))) for mean in reversed(rates)]
        chances = self.told[kpi.name] * np.array(arms)
        has_any = chances.any(axis=0)
        return Numbers(
            _PLACES[has_any],
            chances[:, has_any],
            not_before=self.after(kpi.name),
            on_odds=ODDS_OF_KPIS,
            learns=False,
        )

    def after(self, metric: str) -> float:
        """After how many requests it is known."""
        return self.after_h.get(metric, 0.0) * (self.per_hour or 0.0)


def grounds(ws: Workspace, target: Endpoint, assumed: Assumed) -> Grounds:
    """What simulations of the endpoint's plan start from. Raises Invalid where something is neither said nor known."""
    plan = target.canary
    assumed.check(plan)
    seen = past(ws, target)
    truths = list(truths_of(ws, target.name, start=ws.now() - BEFORE, end=ws.now()).values())
    found = Grounds({}, {}, {}, {}, {}, {}, assumed.per_hour or seen.per_hour)
    reports = feedback.corrections(ws, target.name, start=ws.now() - BEFORE, limit=_MOST_REPORTS)
    found.rates.update(_counted(target, seen, reports))
    found.after_h["contradicted"] = _mean_h(
        assumed.reported_after_h, [one.at - one.predicted_at for one in reports]
    )
    if seen.failed.size and "errors" not in assumed.control:
        found.known["errors"] = int(seen.failed.sum()), seen.failed.size
    if any(is_truth(rule.metric) for rule in plan.rules.metrics):
        _add_truths(found, plan, truths, seen, assumed)
    for kpi in plan.kpis:
        _add_kpi(ws, found, target, kpi, seen, assumed)
    found.rates.update(assumed.control)
    _require(found, target, seen)
    late = (assumed.reviewed_after_h, assumed.reported_after_h, *assumed.known_after_h.values())
    if found.per_hour is None and any(late):
        raise Invalid(
            "something becomes known hours later, and nobody knows how many requests come meanwhile: the endpoint has less than an "
            "hour of traffic. Say it: --per-hour 1000"
        )
    metrics = [rule.metric for rule in plan.rules.metrics]
    return replace(
        found,
        rates={metric: found.rates[metric] for metric in metrics},
        after_h={metric: found.after_h[metric] for metric in metrics if found.after_h.get(metric)},
    )


def _counted(
    target: Endpoint, seen: Past, reports: Sequence[feedback.Correction]
) -> Iterator[tuple[str, float]]:
    n, limit_ms = seen.failed.size, target.canary.slow_above_ms
    if not n:
        return
    yield "errors", float(seen.failed.mean())
    yield "timeouts", float(seen.timed_out.mean())
    yield "refused", seen.refused
    if limit_ms is None or not seen.latencies_ms.size:
        yield "slow", _SLOW
    else:
        yield "slow", float((seen.latencies_ms > limit_ms).mean())
    wrong = {report.prediction_id for report in reports if report.contradicts}
    yield "contradicted", min(1.0, len(wrong) / n)


def _add_truths(found: Grounds, plan: Canary, truths: Sequence[Truth], seen: Past, assumed: Assumed) -> None:
    n = seen.failed.size
    audited = assumed.audited
    if audited is None:
        audited = min(1.0, len(truths) * seen.logged / n) if n else 0.0
    if not 0 < audited <= 1:
        raise Invalid(
            f"the truth of {100 * audited:g} % of the answers becomes known, and the plan judges wrong by the audit sample: nothing "
            "would ever be shown. Say how many are reviewed: --audited 0.05"
        )
    after_h = _mean_h(assumed.reviewed_after_h, [one.known_at - one.asked_at for one in truths])
    weight = sum(one.weight for one in truths)
    for metric in (rule.metric for rule in plan.rules.metrics if is_truth(rule.metric)):
        bad, total = known_by(truths, metric)
        if total:
            found.rates[metric] = bad / total
        if total and metric not in assumed.control:
            found.known[metric] = bad, total
        found.told[metric] = audited * assumed.reviewed_share
        found.after_h[metric] = after_h
        answer = metric.partition(":")[2]
        if answer:
            known = sum(one.weight for one in truths if is_about(one, metric)) / weight if weight else 0.0
            said = assumed.said.get(answer, known)
            found.said[metric] = assumed.new_said.get(answer, said), said


def _mean_h(said: float | None, delays: Sequence[timedelta]) -> float:
    """Hours on average, as was said, or as it was."""
    if said is not None or not delays:
        return said or 0.0
    return max(0.0, sum(delays, timedelta()) / len(delays) / timedelta(hours=1))


def _add_kpi(
    ws: Workspace, found: Grounds, target: Endpoint, kpi: ArmKpi, seen: Past, assumed: Assumed
) -> None:
    """Its values of before, or what is said of them: the share that becomes known, their mean, how they spread."""
    sticky = target.stickiness == "key"
    ids, keys = [str(one) for one in seen.rows["id"].to_pylist()], seen.rows["key"].to_pylist()
    start = ws.now() - BEFORE
    told = values_of(ws, kpi, target.name, start=start, end=None, ids=set(ids), sticky=sticky)
    if told.problem is not None and kpi.name not in assumed.control:
        raise Invalid(f"{told.problem} To simulate without its values say their mean: {_hint(kpi)}")
    badness = kpi.badness(told.of(ids, keys))
    units = units_of(ids, seen.rows["request"].to_pylist(), keys, sticky=sticky)
    is_known = ~np.isnan(badness)
    values = of_units(units[is_known], badness[is_known], sticky=sticky)
    found.told[kpi.name] = assumed.known_share.get(
        kpi.name, len(values) / len(np.unique(units)) if len(values) else 1.0
    )
    found.after_h[kpi.name] = assumed.known_after_h.get(kpi.name, 0.0)
    if len(values):
        found.rates[kpi.name] = kpi.best + kpi.span * float(values.mean())
    mean = assumed.control.get(kpi.name, found.rates.get(kpi.name))
    if mean is None:
        return
    spread = assumed.spread.get(kpi.name)
    as_badness = float(kpi.badness(np.array(mean)))
    if spread is not None:
        found.shapes[kpi.name] = _spread_out(kpi, mean=mean, spread=spread)
    elif len(values):
        found.shapes[kpi.name] = _moved(_placed(values), as_badness)
    else:
        found.shapes[kpi.name] = _placed(np.array([0.0, 1.0]), weights=[1.0 - as_badness, as_badness])


def _require(found: Grounds, target: Endpoint, seen: Past) -> None:
    metrics = [rule.metric for rule in target.canary.rules.metrics]
    kpis = {one.name: one for one in target.canary.kpis}
    missing = [one for one in metrics if one not in found.rates]
    never_said = [one for one, (_, said) in found.said.items() if not said]
    if not missing and not never_said:
        return
    hints = [_hint(kpis[one]) if one in kpis else f"--control {quote(f'{one}=0.01')}" for one in missing]
    hints += [f"--said {quote(one.partition(':')[2] + '=0.1')}" for one in never_said]
    done = (
        f"has told nothing of {', '.join(dict.fromkeys(missing + never_said))}"
        if seen.failed.size
        else "has answered nothing"
    )
    raise Invalid(
        f"endpoint {target.name!r} {done} in {BEFORE.days} days, so that nobody knows how often it is bad. Say it: {' '.join(hints)}"
    )


def _hint(kpi: ArmKpi) -> str:
    return f"--control {kpi.name}={(kpi.low + kpi.high) / 2:g}"


def _placed(badness: Floats, *, weights: Sequence[float] | None = None) -> Floats:
    """The chance of each of `_PLACES`, with the mean as it was; every value divided between its two neighbours."""
    places, parts = divided(badness, _PLACES)
    each = np.ones(len(badness)) if weights is None else np.asarray(weights)
    chances = np.bincount(
        np.searchsorted(_PLACES, places), weights=parts * np.tile(each, 2), minlength=len(_PLACES)
    )
    return np.asarray(chances / chances.sum(), dtype=np.float64)


def _moved(chances: Floats, mean: float) -> Floats:
    """With this mean instead: as many values as that takes become the worst, or the best, that there can be."""
    now = float(chances @ _PLACES)
    end = -1 if mean > now else 0
    part = min(1.0, abs(mean - now) / max(abs(_PLACES[end] - now), 1e-12))
    moved = np.asarray((1.0 - part) * chances, dtype=np.float64)
    moved[end] += part
    return moved


def _spread_out(kpi: ArmKpi, *, mean: float, spread: float) -> Floats:
    """Values between the ends with this mean and standard deviation: of a beta distribution."""
    worse, deviation = float(kpi.badness(np.array(mean))), spread / abs(kpi.span)
    most = float(np.sqrt(worse * (1.0 - worse)))
    if not 0 < deviation < most:
        raise Invalid(
            f"the values of {kpi.name} are assumed to spread by {spread:g} about {mean:g}; between {kpi.low:g} and {kpi.high:g} that is "
            f"above 0 and below {most * abs(kpi.span):.3g}. Say a smaller one; without --spread they are at either end."
        )
    both = worse * (1.0 - worse) / deviation**2 - 1.0
    return _moved(_placed(np.random.default_rng(0).beta(worse * both, (1.0 - worse) * both, _DRAWN)), worse)
