"""How a plan would go on an endpoint, before anything goes live: made-up rollouts at its own rates and traffic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from everloop.errors import Invalid
from everloop.rollout.assumed import Assumed, grounds
from everloop.rollout.endpoints import endpoint
from everloop.rollout.plans import ArmKpi, Canary
from everloop.rollout.simulate import Forecast, simulate, steady
from everloop.workspace import Workspace

_LEAST_WORSE = 0.01  # what "twice as bad" means where nothing was bad
_OF_THE_SPAN = 0.1  # by which a KPI without a margin is made worse

Hours = tuple[float | None, float | None]


@dataclass(frozen=True)
class Prospect:
    """How made-up rollouts of one kind of version ended; hours are None where the endpoint's traffic is not known.

    `told` is the part of the requests of which a metric becomes known, where that is not all, and `after_h` how many hours later:
    truths of the audit sample and reports on average, KPIs always.
    """

    name: str
    rates: dict[
        str, tuple[float, float]
    ]  # by metric: the version that is live, the new one; of a KPI the means
    forecast: Forecast
    hours_to_roll_back: Hours
    hours_to_pass: Hours
    told: dict[str, float] = field(default_factory=dict)
    after_h: dict[str, float] = field(default_factory=dict)


def prospects(
    ws: Workspace,
    endpoint_name: str,
    *,
    canary: Canary | None = None,
    assumed: Assumed | None = None,
    requests_at_most: int = 20_000,
    n_rollouts: int = 400,
    looks: int = 200,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> list[Prospect]:
    """Tell the chance and the time of each outcome of a plan: for a version that is no worse, and for worse ones.

    Parameters
    ----------
    canary : the endpoint's own plan, when left out
    assumed : where no rate of a new version is given, versions are tried that are worse in one metric each
    looks : how often the judge looks at each rollout, evenly
    progress : told the part that is done, 0 to 1

    Raises
    ------
    Invalid
        The plan compares nothing, what is assumed makes no sense, or something is neither given nor known.
    """
    target = endpoint(ws, endpoint_name)
    plan = canary or target.canary
    shares = tuple(step / 100 for step in plan.steps if step < 100)
    if not shares:
        raise Invalid(
            f"the plan of {endpoint_name!r} has no step below 100 %, so that nothing is compared and there is nothing to "
            "simulate. Give steps: --steps 10,50,100"
        )
    said = assumed or Assumed()
    known = grounds(ws, replace(target, canary=plan), said)
    told = {
        metric: part * known.said.get(metric, (1.0, 1.0))[1]
        for metric, part in known.told.items()
        if part * known.said.get(metric, (1.0, 1.0))[1] < 1
    }
    cases = list(_cases(known.rates, plan, said.new))
    found = []
    for number, (name, worse) in enumerate(cases):
        rates = {metric: (rate, worse.get(metric, rate)) for metric, rate in known.rates.items()}
        forecast = simulate(
            shares,
            plan.rules,
            rates={metric: steady(*both) for metric, both in rates.items()},
            numbers=known.numbers(plan, rates),
            reported_after={"contradicted": known.after("contradicted")},
            requests_at_most=requests_at_most,
            look_every=max(1, requests_at_most // looks),
            known_before=known.known,
            ends_after=_ends_after(plan, known.per_hour),
            n_rollouts=n_rollouts,
            seed=seed,
            progress=_part(progress, number, len(cases)),
        )
        found.append(
            Prospect(
                name,
                rates,
                forecast,
                _hours(forecast.requests_to_roll_back, known.per_hour),
                _hours(forecast.requests_to_pass, known.per_hour),
                told,
                known.after_h,
            )
        )
    return found


def _ends_after(plan: Canary, per_hour: float | None) -> int | None:
    """The requests after which the plan takes back what is not decided; None where it waits, or nobody knows the traffic."""
    if plan.deadline_h is None or plan.at_deadline != "roll_back" or not per_hour:
        return None
    return max(1, round(plan.deadline_h * per_hour))


def _cases(
    before: Mapping[str, float], plan: Canary, new: Mapping[str, float]
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Versions by name, and in what they differ from the live one: the first metric twice and thrice as bad, others in turn."""
    yield "no worse", {}
    if new:
        yield "as given", new
        return
    kpis = {one.name: one for one in plan.kpis}
    first = "errors" if "errors" in before else next(iter(before))
    for metric in (first, *(one for one in before if one != first)):
        rate = before[metric]
        if metric in kpis:
            mean = _worse(kpis[metric], rate)
            yield f"{metric} {mean:.3g} for {rate:.3g}", {metric: mean}
            continue
        for times in (2, 3) if metric == first else (3,):
            worse = min(1.0, max(times * rate, (times - 1) * _LEAST_WORSE))
            yield f"{metric} {100 * worse:.2g} % for {100 * rate:.2g} %", {metric: worse}


def _worse(kpi: ArmKpi, mean: float) -> float:
    """By twice the margin, or by a part of its span; not beyond its end."""
    by = (
        2 * kpi.worse_at_most
        if kpi.worse_at_most is not None
        else _OF_THE_SPAN * abs(kpi.span) + kpi.tolerated
    )
    return max(mean - by, kpi.low) if kpi.better == "higher" else min(mean + by, kpi.high)


def _part(progress: Callable[[float], None] | None, number: int, of: int) -> Callable[[float], None] | None:
    return None if progress is None else lambda done: progress((number + done) / of)


def _hours(requests: tuple[float | None, float | None], per_hour: float | None) -> Hours:
    if not per_hour:
        return None, None
    median, p90 = (None if one is None else one / per_hour for one in requests)
    return median, p90
