"""Canary plans: how a new version takes over, and what it may do worse."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.rollout.judge import MetricRule, Rules

METRICS = ("errors", "timeouts", "slow", "refused", "contradicted", "wrong")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")  # of a KPI, of a rule


@dataclass(frozen=True)
class ArmKpi:
    """A number of the user's by prediction or by key, which both arms of a comparison have.

    Parameters
    ----------
    sql
        Returns `value` beside `prediction_id`, or beside `key` where keys stick, from the views of `el.kpi`; null: not known
        yet, and left out.
    low, high
        Between these a value lies; one outside counts as the nearer of them.
    better
        Which end is good.
    worse_at_most
        By how much the new version may be worse than the control, in the number's own unit, to be shown before each step;
        None lets the KPI roll back without having to prove itself.
    tolerated
        What is not taken for harm, in the same unit.
    """

    name: str
    sql: str
    low: float
    high: float
    better: Literal["higher", "lower"] = "higher"
    worse_at_most: float | None = None
    tolerated: float = 0.0

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or is_metric(self.name):
            raise Invalid(
                f"{self.name[:60]!r} cannot name a KPI of arms: it begins with a small letter and goes on with small letters, "
                f"digits, _ or -, 40 at most, and is not {', '.join(METRICS)}. Choose another."
            )
        if not -inf < self.low < self.high < inf:
            raise Invalid(
                f"the KPI {self.name!r} lies between {self.low:g} and {self.high:g}; low is below high, and the bounds rest on "
                "both. State the ends."
            )
        if self.better not in ("higher", "lower"):
            raise Invalid(f"the KPI {self.name!r} is better {self.better!r}; that is 'higher' or 'lower'.")
        span = self.high - self.low
        if not 0 <= self.tolerated < span or not (
            self.worse_at_most is None or 0 < self.worse_at_most < span
        ):
            raise Invalid(
                f"the KPI {self.name!r} tolerates {self.tolerated:g} and may be worse by {self.worse_at_most}; both are in its own "
                f"unit and below high - low = {span:g}, the margin above 0. State them so."
            )

    @property
    def best(self) -> float:
        return self.high if self.better == "higher" else self.low

    @property
    def span(self) -> float:
        """From the best to the worst value."""
        return self.low - self.high if self.better == "higher" else self.high - self.low

    def badness(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values as shares of the way from best to worst, 0 to 1; not-a-number stays so."""
        return np.clip((values - self.best) / self.span, 0.0, 1.0)

    @property
    def rule(self) -> MetricRule:
        span = self.high - self.low
        margin = None if self.worse_at_most is None else self.worse_at_most / span
        return MetricRule(self.name, margin, tolerated=self.tolerated / span, is_mean=True)


def kpi_of_arms(
    sql: str,
    *,
    name: str,
    low: float,
    high: float,
    better: Literal["higher", "lower"] = "higher",
    worse_at_most: float | None = None,
    tolerated: float = 0.0,
) -> ArmKpi:
    """A number to compare versions by: SQL text, or the name of an .sql file beside the loop file; see `ArmKpi`.

    Examples
    --------
    >>> kpi_of_arms("SELECT id AS prediction_id, inputs.price AS value FROM predictions", name="price", low=0, high=99).better
    'higher'
    """
    return ArmKpi(name, sql, float(low), float(high), better, worse_at_most, tolerated)


def is_truth(metric: str) -> bool:
    """Whether a metric is told by the audit sample."""
    return metric == "wrong" or (metric.startswith("wrong:") and len(metric) > len("wrong:"))


def is_metric(name: str) -> bool:
    return name in METRICS or is_truth(name)


@dataclass(frozen=True)
class Canary:
    """How a new version takes over: the traffic it gets step by step, and what it may do worse.

    Parameters
    ----------
    steps
        Percentages, rising, the last one 100. None at all: the new version is mirrored and never takes traffic.
    excess_at_most
        By metric (`errors`, `timeouts` among them, `slow`, `refused`, `contradicted`, `wrong` in the audit sample, `wrong:CLASS`
        of the audited answers that say so): how much more often than the version before the canary may be bad, absolute; None lets a metric roll back
        without having to prove itself before the next step.
    tolerated_ratio
        The test never takes back a version that is bad at most this many times as often.
    slow_above_ms
        What slow means; left out, the 95th percentile of what the endpoint took before the rollout.
    deadline_h, at_deadline
        What becomes of a rollout that is not decided so many hours after it began: `hold` alerts once and waits on,
        `roll_back` takes it back. None waits without an alert; little traffic never passes and never fails by itself.
    loads_first
        Nothing is switched before every serving process has loaded and warmed the new version.
    shadow, differs_at_most
        Before the first step, so many percent of the requests are answered by the new version, too, and nobody gets these
        answers: a pair for each, judged by the same margins. `differs_at_most` is the share of the pairs whose answers
        may differ; None only counts them.
    only
        By input: the values of the requests that meet the new version before the last step, such as
        `{"country": ["NO", "SE"]}`. The steps are shares of these requests, and these alone are compared.
    watch_h
        For so many hours after the last step the version before stays loaded, and is gone back to at once if the new
        one turns out to do harm; 0 lets it go at once.
    holdback, holdback_h
        So many percent of the traffic stay on the version before for so many hours after the last step, the same keys where
        keys stick, so that effects that take long can be measured: `everloop rollouts results`. The judge looks on meanwhile.
    kpis
        Numbers of your own that must not be worse: `el.kpi_of_arms(...)`.
    """

    steps: tuple[float, ...]
    excess_at_most: Mapping[str, float | None] = field(default_factory=lambda: {"errors": 0.01, "slow": 0.02})
    tolerated_ratio: float = 1.0
    false_rollback_at_most: float = 0.05
    slow_above_ms: float | None = None
    watch_h: float = 0.0
    deadline_h: float | None = None
    at_deadline: Literal["hold", "roll_back"] = "hold"
    loads_first: bool = False
    shadow: float = 0.0
    differs_at_most: float | None = None
    only: Mapping[str, Sequence[str | int | float | bool]] = field(default_factory=dict)
    holdback: float = 0.0
    holdback_h: float = 0.0
    kpis: tuple[ArmKpi, ...] = ()

    def __post_init__(self) -> None:
        rising = all(before < after for before, after in zip((0.0, *self.steps), self.steps, strict=False))
        if (self.steps and (not rising or self.steps[-1] != 100)) or not (self.steps or self.shadow):
            raise Invalid(
                f"the canary's steps are {list(self.steps)}; they are percentages that rise to 100, such as 10, 25, 50, 100."
            )
        if unknown := sorted(one for one in self.excess_at_most if not is_metric(one)):
            raise Invalid(
                f"excess_at_most names {', '.join(unknown)}; the judge knows {', '.join(METRICS)} and wrong:CLASS."
            )
        self._check_kpis()
        if not 0 <= self.shadow <= 100:
            raise Invalid(f"shadow is {self.shadow}; it is a percentage of the requests, 0 to 100.")
        if self.differs_at_most is not None and not (0 < self.differs_at_most < 1 and self.shadow):
            raise Invalid(
                f"differs_at_most is {self.differs_at_most} with shadow={self.shadow:g}; it is a share between 0 and 1 of the "
                "mirrored requests, such as 0.05. Say with shadow= how many percent are mirrored."
            )
        if any(isinstance(values, str) or not values for values in self.only.values()):
            raise Invalid(
                f"only is {dict(self.only)}; it names by input the values of the requests that meet the new version first, "
                'such as only={"country": ["NO", "SE"]}.'
            )
        if (self.holdback, self.holdback_h) != (0, 0):
            self._check_holdback()
        if not 0 <= self.watch_h < inf:
            raise Invalid(f"watch_h is {self.watch_h}; it is a number of hours, 0 for no watch.")
        if self.deadline_h is not None and not 0 < self.deadline_h < inf:
            raise Invalid(
                f"deadline_h is {self.deadline_h}; it is a number of hours above 0. Leave it out to wait without an end."
            )
        if self.at_deadline not in ("hold", "roll_back"):
            raise Invalid(f"at_deadline is {self.at_deadline!r}; it is 'hold' or 'roll_back'.")
        _ = self.rules  # its own checks

    def _check_kpis(self) -> None:
        if (self.kpis and len(self.steps) < 2) or {one.name for one in self.kpis} & set(self.excess_at_most):
            raise Invalid(
                f"the plan has the KPIs {', '.join(one.name for one in self.kpis)}; they are compared in steps below 100 %, since a "
                "version that answers nobody moves no KPI, and have names of their own. Give the new version a step, and each "
                "KPI another name than a metric."
            )

    def _check_holdback(self) -> None:
        if not (0 < self.holdback < 50 and 0 < self.holdback_h < inf):
            raise Invalid(
                f"holdback is {self.holdback:g} and holdback_h {self.holdback_h:g}; they are a percentage below 50 that stays on "
                "the version before, and for how many hours. State both, such as holdback=5, holdback_h=336."
            )
        if len(self.steps) < 2:
            raise Invalid(
                f"holdback is {self.holdback:g} with the steps {list(self.steps)}; what is held back is compared like a step. Give "
                "the new version a step before 100."
            )

    @property
    def rules(self) -> Rules:
        """What the judge is told."""
        return Rules(
            (*self._named, *(one.rule for one in self.kpis)),
            false_rollback_at_most=self.false_rollback_at_most,
            further_tests=len(self._paired) if self.shadow and self.steps else 0,
        )

    @property
    def paired_rules(self) -> Rules:
        """What the judge is told while the new version is mirrored; the budget is shared with the steps."""
        return Rules(
            self._paired,
            false_rollback_at_most=self.false_rollback_at_most,
            further_tests=len(self.excess_at_most) + len(self.kpis) if self.steps else 0,
        )

    @property
    def _named(self) -> tuple[MetricRule, ...]:
        return tuple(
            MetricRule(metric, margin, self.tolerated_ratio, is_mean=is_truth(metric))
            for metric, margin in self.excess_at_most.items()
        )

    @property
    def _paired(self) -> tuple[MetricRule, ...]:
        # people report on the answer that they got: that shows harm of another one, never that there is none
        known = tuple(
            replace(rule, excess_at_most=None) if rule.metric == "contradicted" else rule
            for rule in self._named
            if rule.metric in METRICS
        )
        return (*known, MetricRule("differs", excess_at_most=self.differs_at_most))

    @property
    def unpaired(self) -> tuple[str, ...]:
        """What the plan judges in its steps alone: a version that answers nobody cannot show it."""
        return (
            *(one for one in self.excess_at_most if one not in METRICS),
            *(one.name for one in self.kpis),
        )

    @property
    def segment(self) -> str | None:
        """Which requests meet the new version before the last step, in words; None: all do."""
        limits = [f"{name} is {' or '.join(map(str, values))}" for name, values in self.only.items()]
        return " and ".join(limits) or None

    def to_value(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "steps": list(self.steps),
            "excess_at_most": dict(self.excess_at_most),
            "only": {name: list(values) for name, values in self.only.items()},
            "kpis": [asdict(one) for one in self.kpis],
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Canary:
        kpis = tuple(ArmKpi(**one) for one in value.get("kpis", ()))
        return cls(**{**value, "steps": tuple(value["steps"]), "kpis": kpis})


def canary(
    *steps: float,
    excess_at_most: Mapping[str, float | None] | None = None,
    tolerated_ratio: float = 1.0,
    false_rollback_at_most: float = 0.05,
    slow_above_ms: float | None = None,
    watch_h: float = 24.0,
    deadline_h: float | None = None,
    at_deadline: Literal["hold", "roll_back"] = "hold",
    shadow: float = 0.0,
    differs_at_most: float | None = None,
    only: Mapping[str, Sequence[str | int | float | bool]] | None = None,
    holdback: float = 0.0,
    holdback_h: float = 0.0,
    kpis: Sequence[ArmKpi] = (),
) -> Canary:
    """A plan such as `canary(10, 25, 50, 100, excess_at_most={"errors": 0.01})`; see `Canary`."""
    margins = {"errors": 0.01, "slow": 0.02} if excess_at_most is None else dict(excess_at_most)
    made = Canary(
        tuple(map(float, steps)),
        margins,
        tolerated_ratio,
        false_rollback_at_most,
        slow_above_ms,
        watch_h,
        deadline_h,
        at_deadline,
        shadow=float(shadow),
        differs_at_most=differs_at_most,
        only={
            name: list(values) if not isinstance(values, str) else values
            for name, values in (only or {}).items()
        },
        holdback=float(holdback),
        holdback_h=float(holdback_h),
        kpis=tuple(kpis),
    )
    if not steps and (margins.get("contradicted") is not None or made.unpaired):
        cannot = ["the margin of contradicted"] * (margins.get("contradicted") is not None)
        raise Invalid(
            f"the plan mirrors the new version, which then answers nobody, and asks for {', '.join([*cannot, *made.unpaired])}; "
            "that is never shown by its answers. Leave it out, let contradicted only roll back (None), or add steps: "
            "el.canary(10, 100, shadow=...)."
        )
    return made


def shadow(
    percent: float,
    *,
    excess_at_most: Mapping[str, float | None] | None = None,
    differs_at_most: float | None = None,
    tolerated_ratio: float = 1.0,
    false_rollback_at_most: float = 0.05,
    slow_above_ms: float | None = None,
    deadline_h: float | None = None,
    at_deadline: Literal["hold", "roll_back"] = "hold",
) -> Canary:
    """A plan in which a new version answers a part of the requests too, nobody gets its answers, and that is all.

    It ends when every margin is shown on pairs of answers, or harm is. An endpoint's first version goes live all the same.
    """
    return canary(
        excess_at_most=excess_at_most,
        tolerated_ratio=tolerated_ratio,
        false_rollback_at_most=false_rollback_at_most,
        slow_above_ms=slow_above_ms,
        watch_h=0.0,
        deadline_h=deadline_h,
        at_deadline=at_deadline,
        shadow=percent,
        differs_at_most=differs_at_most,
    )


def all_at_once(*, watch_h: float = 24.0) -> Canary:
    """A plan that gives a new version all traffic the moment it is released: nothing is compared, only watched after."""
    return Canary((100.0,), {"errors": None}, watch_h=watch_h)


def blue_green(
    *,
    watch_h: float = 24.0,
    deadline_h: float | None = None,
    at_deadline: Literal["hold", "roll_back"] = "hold",
) -> Canary:
    """A plan that switches all traffic once every serving process has the new version loaded and warm beside the old one.

    The old one stays warm for `watch_h` hours, so that going back is as quick as the switch.
    """
    return Canary(
        (100.0,),
        {"errors": None},
        watch_h=watch_h,
        deadline_h=deadline_h,
        at_deadline=at_deadline,
        loads_first=True,
    )
