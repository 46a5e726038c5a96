"""What a search, its plan and a trial are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from everloop.errors import Invalid
from everloop.searches.space import Space, space_from_json
from everloop.searches.stopping import Rule, rule_from_json

State = Literal["running", "done", "failed"]
TrialState = Literal["running", "done", "stopped", "failed"]
_MOST_TRIALS, _MOST_PARALLEL = 10_000, 256


@dataclass(frozen=True)
class Plan:
    """What is searched for: by which measure the result is judged, among what, in which way and how much of it.

    `params` are those that all trials have. `method` is `grid`, `random` or the name of another searcher. `trials` None:
    the whole grid.
    """

    space: Space
    by: str
    method: str = "random"
    trials: int | None = None
    highest: bool = True
    parallel: int = 1
    seed: int = 0
    stop: Rule | None = None
    params: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not self.space:
            raise Invalid(
                "the space of a search is empty; name parameters: space={'c': el.between(0.1, 100, log=True)}."
            )
        if self.trials is None and self.method != "grid":
            raise Invalid(
                f"a search by {self.method!r} has no end of its own; state trials=, such as trials=20."
            )
        if self.trials is not None and not 1 <= self.trials <= _MOST_TRIALS:
            raise Invalid(f"a search is to have {self.trials} trials; that is 1 to {_MOST_TRIALS:,}.")
        if not 1 <= self.parallel <= _MOST_PARALLEL:
            raise Invalid(
                f"a search is to run {self.parallel} trials at once; that is 1 to {_MOST_PARALLEL}."
            )
        # the stored form has names in this order, and what is proposed depends on it
        object.__setattr__(self, "space", dict(sorted(self.space.items())))
        if twice := sorted({*self.space} & {*(self.params or {})}):
            raise Invalid(
                f"the parameter {twice[0]!r} is searched and given at once. Leave it out of one of them."
            )

    def as_json(self) -> dict[str, Any]:
        return {
            "space": {name: one.as_json() for name, one in self.space.items()},
            "by": self.by,
            "method": self.method,
            "trials": self.trials,
            "highest": self.highest,
            "parallel": self.parallel,
            "seed": self.seed,
            "stop": None if self.stop is None else self.stop.as_json(),
            "params": dict(self.params or {}),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        return cls(
            **{**stored, "space": space_from_json(stored["space"]), "stop": rule_from_json(stored["stop"])}
        )


@dataclass(frozen=True)
class Trial:
    """One run of the pipeline with parameters of its own. `value` is what is judged by, of a stopped one the newest.

    `reached` is the last step that it told of, and `told` why it failed or was stopped.
    """

    number: int
    run: str
    params: Mapping[str, Any]
    state: TrialState
    value: float | None
    reached: int | None
    told: str | None


@dataclass(frozen=True)
class Search:
    """A search. `run` is its tracking run, below which the trials are; `best` the trial that did best so far."""

    id: str
    run: str
    name: str
    pipeline: str
    plan: Plan
    code: str | None
    state: State
    started_at: datetime
    ended_at: datetime | None
    best: Trial | None
