"""Endpoints, canary plans, rollouts and what happened in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import inf
from typing import Any, Literal

from everloop.errors import Invalid
from everloop.rollout.judge import MetricRule, Rules

METRICS = ("errors", "slow", "refused", "contradicted", "wrong")
PAIRED_METRICS = ("errors", "slow")  # nobody gets a shadow's answer, so that nobody contradicts it
State = Literal["running", "paused", "done", "rolled_back"]
Act = Literal[
    "first",
    "started",
    "look",
    "advanced",
    "finished",
    "rolled_back",
    "paused",
    "resumed",
    "watched",
    "overdue",
    "split",
    "split_ended",
]


@dataclass(frozen=True)
class Canary:
    """How a new version takes over: the traffic it gets step by step, and what it may do worse.

    Parameters
    ----------
    steps
        Percentages, rising, the last one 100. None at all: the new version is mirrored and never takes traffic.
    excess_at_most
        By metric (`errors`, `slow`, `refused`, `contradicted`, `wrong`): how much more often than the version before the canary may be
        bad, absolute; None lets a metric roll back without having to prove itself before the next step.
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

    def __post_init__(self) -> None:
        rising = all(before < after for before, after in zip((0.0, *self.steps), self.steps, strict=False))
        if (self.steps and (not rising or self.steps[-1] != 100)) or not (self.steps or self.shadow):
            raise Invalid(
                f"the canary's steps are {list(self.steps)}; they are percentages that rise to 100, such as 10, 25, 50, 100."
            )
        if unknown := sorted(set(self.excess_at_most) - set(METRICS)):
            raise Invalid(f"excess_at_most names {', '.join(unknown)}; the judge knows {', '.join(METRICS)}.")
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
        if not 0 <= self.watch_h < inf:
            raise Invalid(f"watch_h is {self.watch_h}; it is a number of hours, 0 for no watch.")
        if self.deadline_h is not None and not 0 < self.deadline_h < inf:
            raise Invalid(
                f"deadline_h is {self.deadline_h}; it is a number of hours above 0. Leave it out to wait without an end."
            )
        if self.at_deadline not in ("hold", "roll_back"):
            raise Invalid(f"at_deadline is {self.at_deadline!r}; it is 'hold' or 'roll_back'.")
        _ = self.rules  # its own checks

    @property
    def rules(self) -> Rules:
        """What the judge is told."""
        return Rules(
            tuple(
                MetricRule(metric, excess_at_most=margin, tolerated_ratio=self.tolerated_ratio)
                for metric, margin in self.excess_at_most.items()
            ),
            false_rollback_at_most=self.false_rollback_at_most,
            further_tests=len(self._paired) if self.shadow and self.steps else 0,
        )

    @property
    def paired_rules(self) -> Rules:
        """What the judge is told while the new version is mirrored; the budget is shared with the steps."""
        return Rules(
            self._paired,
            false_rollback_at_most=self.false_rollback_at_most,
            further_tests=len(self.excess_at_most) if self.steps else 0,
        )

    @property
    def _paired(self) -> tuple[MetricRule, ...]:
        known = tuple(
            MetricRule(metric, excess_at_most=margin, tolerated_ratio=self.tolerated_ratio)
            for metric, margin in self.excess_at_most.items()
            if metric in PAIRED_METRICS
        )
        return (*known, MetricRule("differs", excess_at_most=self.differs_at_most))

    def to_value(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "steps": list(self.steps),
            "excess_at_most": dict(self.excess_at_most),
            "only": {name: list(values) for name, values in self.only.items()},
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> Canary:
        return cls(**{**value, "steps": tuple(value["steps"])})


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
) -> Canary:
    """A plan such as `canary(10, 25, 50, 100, excess_at_most={"errors": 0.01})`; see `Canary`."""
    margins = {"errors": 0.01, "slow": 0.02} if excess_at_most is None else dict(excess_at_most)
    return Canary(
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
    )


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


@dataclass(frozen=True)
class LiveVariant:
    """A version on an endpoint, with its share of the traffic in percent; 0: it is loaded and warm, and answers nothing.

    Of the requests that others answer it gets `mirrored` percent, too.
    """

    name: str  # control, canary, previous, shadow; the arms of a split after the first are b, c, ...
    version: str
    release: str
    weight: float
    mirrored: float = 0.0


def answering_and_standby(
    variants: Iterable[LiveVariant],
) -> tuple[tuple[LiveVariant, ...], tuple[LiveVariant, ...]]:
    """Part variants into those that answer and those that are only kept warm."""
    every = tuple(variants)
    return tuple(one for one in every if one.weight > 0), tuple(one for one in every if one.weight == 0)


@dataclass(frozen=True)
class LiveVersion:
    """A version that answers on an endpoint, with its share of the traffic in percent, since when, and what let it."""

    endpoint: str
    version: str
    variant: str
    weight: float
    since: datetime
    by: str
    reason: str


@dataclass(frozen=True)
class Endpoint:
    """Where a model answers. `epoch` is that of its last change; `variants` is empty until the first release.

    `standby` are the versions that are kept warm beside those that answer.
    """

    name: str
    model: str
    key: str | None
    stickiness: Literal["request", "key"]
    canary: Canary
    salt: str
    variants: tuple[LiveVariant, ...]
    standby: tuple[LiveVariant, ...]
    epoch: int
    created_at: datetime


@dataclass(frozen=True)
class Stage:
    """One step of a plan: the canary's share of the traffic in percent, what is mirrored to it, and how it is left."""

    number: int
    weight: float
    leaves: str
    mirrored: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What a rollout will do, before it does it; `deadline` says what happens when nothing decides it.

    `segment` says which requests meet the new version before the last step, when not all do.
    """

    endpoint: str
    version: str
    release: str
    from_version: str | None
    from_release: str | None
    stages: tuple[Stage, ...]
    deadline: str | None = None
    segment: str | None = None


@dataclass(frozen=True)
class Rollout:
    """A plan under way or ended. `epochs` are the route table's epochs at which its stages began.

    A rollout that is done may be watched until `watch_until`; `watched_at` is when that was last looked at.
    """

    id: str
    endpoint: str
    version: str
    release: str
    from_version: str | None
    from_release: str | None
    stages: tuple[Stage, ...]
    canary: Canary
    slow_above_ms: float | None
    before: dict[str, tuple[int, int]]
    state: State
    stage: int
    epochs: tuple[int, ...]
    reason: str
    outcome: str | None
    started_at: datetime
    ended_at: datetime | None
    watch_until: datetime | None = None
    watched_at: datetime | None = None

    @property
    def weight(self) -> float:
        """The canary's share of the traffic now, in percent."""
        return self.stages[self.stage].weight


@dataclass(frozen=True)
class RolloutEvent:
    """Something that a rollout did, with the numbers that decided it; `variants` where traffic changed.

    `standby` are the versions that are kept warm from then on.
    """

    id: str
    endpoint: str
    rollout: str | None
    at: datetime
    act: Act
    actor: str
    stage: int | None
    reason: str
    decision: dict[str, Any] | None
    variants: tuple[LiveVariant, ...] | None
    epoch: int | None
    standby: tuple[LiveVariant, ...] = ()


@dataclass(frozen=True)
class TrafficSplit:
    """Traffic shared between versions until a person ends it; the first arm is what answered before, the control."""

    id: str
    endpoint: str
    arms: tuple[LiveVariant, ...]
    stickiness: Literal["request", "key"]
    slow_above_ms: float | None
    state: Literal["running", "ended"]
    epoch: int
    reason: str
    outcome: str | None
    started_at: datetime
    ended_at: datetime | None
