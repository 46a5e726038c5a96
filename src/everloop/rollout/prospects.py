"""How a plan would go on an endpoint, before anything goes live: made-up rollouts at its own rates and traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from everloop import feedback
from everloop.errors import Invalid
from everloop.rollout.endpoints import endpoint
from everloop.rollout.records import Canary, Endpoint
from everloop.rollout.simulate import Forecast, simulate, steady
from everloop.rollout.start import BEFORE, Past, past
from everloop.rollout.truths import Truth, known_by, truths_of
from everloop.workspace import Workspace

_SLOW = 0.05  # of the requests before are above their 95th percentile, which is what slow means unless stated
_LEAST_WORSE = 0.01  # what "twice as bad" means where nothing was bad
_MOST_REPORTS = 1_000_000
_LOOKS = 200

Hours = tuple[float | None, float | None]


@dataclass(frozen=True)
class Prospect:
    """How made-up rollouts of one kind of version ended; hours are None where the endpoint's traffic is not known.

    `told` is the part of the requests of which a metric becomes known, where that is not all: truths of the audit sample.
    """

    name: str
    rates: dict[str, tuple[float, float]]  # by metric: the version that is live, the new one
    forecast: Forecast
    hours_to_roll_back: Hours
    hours_to_pass: Hours
    told: dict[str, float] = field(default_factory=dict)


def prospects(
    ws: Workspace,
    endpoint_name: str,
    *,
    canary: Canary | None = None,
    control: Mapping[str, float] | None = None,
    new: Mapping[str, float] | None = None,
    per_hour: float | None = None,
    audited: float | None = None,
    requests_at_most: int = 20_000,
    n_rollouts: int = 400,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> list[Prospect]:
    """Tell the chance and the time of each outcome of a plan: for a version that is no worse, and for worse ones.

    Parameters
    ----------
    canary : the endpoint's own plan, when left out
    control : bad rates of the live version by metric; what is not given is taken from the last 28 days
    new : bad rates of the new version; without them versions that are twice and three times as bad are tried
    per_hour : requests an hour; of the last 28 days, when left out
    audited : the part of the answers whose truth becomes known, for `wrong`; of the last 28 days, when left out. How long
        reviewers take comes on top.
    progress : told the part that is done, 0 to 1

    Raises
    ------
    Invalid
        The plan compares nothing, or a rate is neither given nor known.
    """
    target = endpoint(ws, endpoint_name)
    plan = canary or target.canary
    shares = tuple(step / 100 for step in plan.steps if step < 100)
    if not shares:
        raise Invalid(
            f"the plan of {endpoint_name!r} has no step below 100 %, so that nothing is compared and there is nothing to "
            "simulate. Give steps: --steps 10,50,100"
        )
    seen = past(ws, target)
    before = _rates(ws, replace(target, canary=plan), seen, given=control or {})
    _check(new or {}, plan)
    told = _told(ws, replace(target, canary=plan), seen, audited=audited)
    known = {"errors": (int(seen.failed.sum()), seen.failed.size)} if "errors" not in (control or {}) else {}
    hourly = per_hour if per_hour is not None else seen.per_hour
    cases = _cases(before, new)
    found = []
    for number, (name, worse) in enumerate(cases):
        rates = {metric: (rate, worse.get(metric, rate)) for metric, rate in before.items()}
        forecast = simulate(
            shares,
            plan.counted_rules,
            rates={metric: steady(*both) for metric, both in rates.items()},
            requests_at_most=requests_at_most,
            look_every=max(1, requests_at_most // _LOOKS),
            known_before=known,
            told=told,
            ends_after=_ends_after(plan, hourly),
            n_rollouts=n_rollouts,
            seed=seed,
            progress=_part(progress, number, len(cases)),
        )
        found.append(
            Prospect(
                name,
                rates,
                forecast,
                _hours(forecast.requests_to_roll_back, hourly),
                _hours(forecast.requests_to_pass, hourly),
                told,
            )
        )
    return found


def _rates(ws: Workspace, target: Endpoint, seen: Past, *, given: Mapping[str, float]) -> dict[str, float]:
    """How often the live version is bad, by metric of the plan."""
    _check(given, target.canary)
    n = seen.failed.size
    known: dict[str, float] = {}
    if n:
        limit_ms = target.canary.slow_above_ms
        known["errors"] = float(seen.failed.mean())
        known["slow"] = (
            _SLOW
            if limit_ms is None or not seen.latencies_ms.size
            else float((seen.latencies_ms > limit_ms).mean())
        )
        reports = feedback.corrections(ws, target.name, start=ws.now() - BEFORE, limit=_MOST_REPORTS)
        wrong = {report.prediction_id for report in reports if report.contradicts}
        known["contradicted"] = min(1.0, len(wrong) / n)
        wrong_of_audited, audited = known_by(_truths(ws, target), "wrong")
        if audited:
            known["wrong"] = wrong_of_audited / audited
    known |= given
    metrics = [rule.metric for rule in target.canary.counted_rules.metrics]
    if missing := [metric for metric in metrics if metric not in known]:
        done = f"has told nothing of {', '.join(missing)}" if n else "has answered nothing"
        raise Invalid(
            f"endpoint {target.name!r} {done} in {BEFORE.days} days, so that nobody knows how often it is bad. "
            f"Say it: {' '.join(f'--control {metric}=0.01' for metric in missing)}"
        )
    return {metric: known[metric] for metric in metrics}


def _told(ws: Workspace, target: Endpoint, seen: Past, *, audited: float | None) -> dict[str, float]:
    """Of which part of the requests the truth becomes known, where the plan asks for it."""
    if "wrong" not in target.canary.excess_at_most:
        return {}
    if audited is None:
        n = seen.failed.size
        audited = len(_truths(ws, target)) * seen.logged / n if n else 0.0
    if not 0 < audited <= 1:
        raise Invalid(
            f"the truth of {100 * audited:g} % of the answers becomes known, and the plan judges wrong by the audit sample: nothing "
            "would ever be shown. Say how many are reviewed: --audited 0.05"
        )
    return {"wrong": min(1.0, audited)}


def _truths(ws: Workspace, target: Endpoint) -> list[Truth]:
    return list(truths_of(ws, target.name, start=ws.now() - BEFORE, end=ws.now()).values())


def _ends_after(plan: Canary, per_hour: float | None) -> int | None:
    """The requests after which the plan takes back what is not decided; None where it waits, or nobody knows the traffic."""
    if plan.deadline_h is None or plan.at_deadline != "roll_back" or not per_hour:
        return None
    return max(1, round(plan.deadline_h * per_hour))


def _check(rates: Mapping[str, float], plan: Canary) -> None:
    counted = [rule.metric for rule in plan.counted_rules.metrics]
    if unknown := sorted(set(rates) - set(counted)):
        raise Invalid(
            f"a rate was given for {', '.join(unknown)}; of what the plan judges, {', '.join(counted)} can be simulated. Name one "
            "of these."
        )
    for metric, rate in rates.items():
        if not 0 <= rate <= 1:
            raise Invalid(
                f"the rate of {metric} is {rate}; it is a share of the requests, 0 to 1, such as 0.01."
            )


def _cases(
    before: Mapping[str, float], new: Mapping[str, float] | None
) -> list[tuple[str, Mapping[str, float]]]:
    equal: tuple[str, Mapping[str, float]] = ("no worse", {})
    if new:
        return [equal, ("as given", new)]
    metric = "errors" if "errors" in before else next(iter(before))
    rate = before[metric]
    worse = [min(1.0, max(times * rate, (times - 1) * _LEAST_WORSE)) for times in (2, 3)]
    return [equal, *((f"{metric} {100 * one:.2g} % for {100 * rate:.2g} %", {metric: one}) for one in worse)]


def _part(progress: Callable[[float], None] | None, number: int, of: int) -> Callable[[float], None] | None:
    return None if progress is None else lambda done: progress((number + done) / of)


def _hours(requests: tuple[float | None, float | None], per_hour: float | None) -> Hours:
    if not per_hour:
        return None, None
    median, p90 = (None if one is None else one / per_hour for one in requests)
    return median, p90
