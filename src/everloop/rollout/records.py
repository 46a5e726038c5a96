"""Endpoints, their rules, rollouts and what happened in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal

from everloop.errors import Invalid
from everloop.predictions import LogPolicy
from everloop.rollout.plans import NAME, Canary
from everloop.serving import Limits

_HEADER = re.compile(r"[A-Za-z0-9-]{1,60}")
# what is a secret, or is the connection's own and would be wrong on the next one
_NO_RULES_BY = frozenset(
    {"authorization", "proxy-authorization", "cookie", "x-everloop-signature"}
    | {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
    }
    | {"transfer-encoding", "upgrade"}
)
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
    "rules",
    "holdback_ended",
]


def limits(
    *,
    deadline_ms: float | None = None,
    own_process: bool = False,
    memory_mb: int | None = None,
    cores: int | None = None,
    hang_s: float = 30.0,
    batch_rows: int = 256,
    wait_ms: float = 0.0,
    queue: int | None = None,
) -> Limits:
    """What an endpoint's models may take, such as `limits(memory_mb=500, deadline_ms=200)`; see `Limits`."""
    return Limits(
        deadline_ms=deadline_ms,
        own_process=own_process,
        memory_mb=memory_mb,
        cores=cores,
        hang_s=hang_s,
        batch_rows=batch_rows,
        wait_ms=wait_ms,
        queue=queue,
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
    dealt_as: str = ""  # the name by which chance knows it, its own when empty


def answering_and_standby(
    variants: Iterable[LiveVariant],
) -> tuple[tuple[LiveVariant, ...], tuple[LiveVariant, ...]]:
    """Part variants into those that answer and those that are only kept warm."""
    every = tuple(variants)
    return tuple(one for one in every if one.weight > 0), tuple(one for one in every if one.weight == 0)


@dataclass(frozen=True)
class LiveSegment:
    """The requests that a rollout is limited to for now: which, what share of all they were, and who answers the others."""

    when: str
    share: float | None  # None while nothing was asked
    rest: str


@dataclass(frozen=True)
class RoutingRule:
    """The requests that a version answers whatever chance would deal them, by a header or by an input.

    Parameters
    ----------
    to
        A version such as `category@3`, or what stands on the endpoint at the time: `candidate` (the new version of the
        rollout under way), `control`, `previous`, `holdback`, or an arm of a split. While there is none the rule does nothing.
    header, input
        Where to look; exactly one of them.
    values
        What is looked for; none: it is enough that the header or the input is there.
    release
        That of the version, once it is known.
    """

    name: str
    to: str
    header: str | None = None
    input: str | None = None
    values: tuple[str | int | float | bool, ...] = ()
    release: str | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise Invalid(
                f"{self.name[:60]!r} cannot name a rule: it begins with a small letter and goes on with small letters, digits, "
                "_ or -, 40 at most. Choose another."
            )
        if (self.header is None) == (self.input is None):
            found, then = (
                ("nothing", "Name what it looks at")
                if self.header is None
                else ("a header and an input", "Make two of it")
            )
            raise Invalid(
                f"the rule {self.name!r} looks at {found}; a rule looks at one of them. {then}: header= or input= in a loop file, "
                "--header or --input of everloop endpoints rule."
            )
        if "@" not in self.to and not NAME.fullmatch(self.to):
            raise Invalid(
                f"the rule {self.name!r} sends requests to {self.to!r}; that is a version such as category@3, or candidate, "
                "control, previous. Name one."
            )
        if self.header is not None:
            self._check_header(self.header)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "values": list(self.values)}

    def _check_header(self, header: str) -> None:
        if not _HEADER.fullmatch(header) or header.lower() in _NO_RULES_BY:
            raise Invalid(
                f"the rule {self.name!r} looks at the header {header[:60]!r}; a header that is a secret or belongs to the "
                "connection is not read for rules. Send one of your own, such as X-Beta."
            )
        if wrong := [one for one in self.values if not isinstance(one, str)]:
            raise Invalid(
                f"the rule {self.name!r} looks for {wrong[0]!r} in a header; headers hold texts. Write it as {str(wrong[0])!r}."
            )

    @property
    def when(self) -> str:
        """Which requests it places, in words."""
        what = f"header {self.header}" if self.header is not None else f"input {self.input}"
        return f"{what} is {' or '.join(map(str, self.values))}" if self.values else f"{what} is there"


def rule(
    name: str,
    *,
    to: str,
    header: str | None = None,
    input: str | None = None,  # noqa: A002  (the word for what a model takes)
    values: Sequence[str | int | float | bool] = (),
) -> RoutingRule:
    """A rule such as `rule("staff", to="candidate", header="X-Staff", values=["yes"])`; see `RoutingRule`."""
    if isinstance(values, str):
        raise Invalid(
            f"the values of the rule {name!r} are {values!r}; they are a list, such as [{values!r}]."
        )
    return RoutingRule(name, to, header, input, tuple(values))


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

    `standby` are the versions that are kept warm beside those that answer. `rules` are asked in their order, before chance.
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
    log: LogPolicy = field(default_factory=LogPolicy)
    rules: tuple[RoutingRule, ...] = ()
    limits: Limits = Limits()  # noqa: RUF009  (it is frozen)


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

    @property
    def is_held_back(self) -> bool:
        """Whether it has finished and a part of the traffic was left to the version before."""
        return self.state == "done" and 0 < self.weight < 100


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
    """Traffic shared between versions until a person ends it; the first arm is what answered before, the control.

    A holdback is one that a rollout left: its first arm is the version before, and it ends by itself at `until`.
    """

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
    rollout: str | None = None
    until: datetime | None = None
