"""Conditions: what has to have been found, as values that can be combined with & and |, stored and explained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, get_args

from everloop.errors import Invalid

EndState = Literal["done", "failed", "any"]


@dataclass(frozen=True)
class Found:
    """What speaks for one condition since the last decision: how many, and the ids of findings or events among them."""

    count: int
    findings: tuple[str, ...] = ()


class Named(Protocol):
    """Anything that carries the name of what a condition is about, such as its declaration."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class _Combinable:
    def __and__(self, other: Condition) -> Both:
        return Both(self, other)  # type: ignore[arg-type]  # only conditions inherit

    def __or__(self, other: Condition) -> Either:
        return Either(self, other)  # type: ignore[arg-type]  # as above


@dataclass(frozen=True)
class _Single(_Combinable, ABC):
    """A condition of one kind, which a number found is compared with."""

    @abstractmethod
    def words(self, count: int) -> str:
        """How many were found, of what, as a person reads it."""


@dataclass(frozen=True)
class Drifted(_Single):
    """Drift was found on the endpoint."""

    endpoint: str

    def words(self, count: int) -> str:
        return f"{count} drift findings on {self.endpoint}"


@dataclass(frozen=True)
class Alarmed(_Single):
    """Accuracy, latency, failures or a KPI of the endpoint were found outside their bounds."""

    endpoint: str

    def words(self, count: int) -> str:
        return f"{count} alarms on {self.endpoint}"


@dataclass(frozen=True)
class Contradicted(_Single):
    """At least so many of the endpoint's predictions were said to be wrong."""

    endpoint: str
    at_least: int

    def words(self, count: int) -> str:
        return f"{count} answers of {self.endpoint} contradicted (needs {self.at_least})"


@dataclass(frozen=True)
class Labelled(_Single):
    """At least so many rows were labelled, for the first time or again."""

    label_set: str
    at_least: int

    def words(self, count: int) -> str:
        return f"{count} rows newly labelled in {self.label_set} (needs {self.at_least})"


@dataclass(frozen=True)
class Arrived(_Single):
    """At least so many rows of the dataset are new or changed."""

    dataset: str
    at_least: int

    def words(self, count: int) -> str:
        return f"{count} rows new or changed in {self.dataset} (needs {self.at_least})"


@dataclass(frozen=True)
class Registered(_Single):
    """At least so many versions of the model were registered."""

    model: str
    at_least: int = 1

    def words(self, count: int) -> str:
        return f"{count} versions of {self.model} registered (needs {self.at_least})"


@dataclass(frozen=True)
class Promoted(_Single):
    """A version of the model was put into the stage, or taken out of it; `stage` None: any."""

    model: str
    stage: str | None = None

    def words(self, count: int) -> str:
        return f"{count} versions of {self.model} promoted{'' if self.stage is None else f' to {self.stage}'}"


@dataclass(frozen=True)
class Released(_Single):
    """A version of the model was released for use."""

    model: str

    def words(self, count: int) -> str:
        return f"{count} versions of {self.model} released"


@dataclass(frozen=True)
class RolledBack(_Single):
    """A rollout on the endpoint was taken back."""

    endpoint: str

    def words(self, count: int) -> str:
        return f"{count} rollbacks on {self.endpoint}"


@dataclass(frozen=True)
class Finished(_Single):
    """A run of the pipeline ended, in this state; `any`: whichever."""

    pipeline: str
    state: EndState = "done"

    def words(self, count: int) -> str:
        return f"{count} run{'' if count == 1 else 's'} of {self.pipeline} ended{'' if self.state == 'any' else f' {self.state}'}"


@dataclass(frozen=True)
class Called(_Single):
    """Somebody called the trigger that this is the condition of."""

    def words(self, count: int) -> str:
        return f"{count} calls"


@dataclass(frozen=True)
class Both(_Combinable):
    left: Condition
    right: Condition


@dataclass(frozen=True)
class Either(_Combinable):
    left: Condition
    right: Condition


Telling = Registered | Promoted | Released | RolledBack | Finished
"""Conditions that are met by what was told as an event."""
Single = Drifted | Alarmed | Contradicted | Labelled | Arrived | Telling | Called
Condition = Single | Both | Either
Evidence = Mapping[Single, Found]


def drifted(endpoint: Named) -> Drifted:
    """Drift of the inputs or of the predicted classes was found on the endpoint."""
    return Drifted(endpoint.name)


def alarmed(endpoint: Named) -> Alarmed:
    """A watch of the endpoint found accuracy, latency, failures or a KPI outside the bounds that it states."""
    return Alarmed(endpoint.name)


def contradicted(endpoint: Named, at_least: int) -> Contradicted:
    """Corrections contradict at least `at_least` predictions of the endpoint; those that confirm do not count."""
    return Contradicted(endpoint.name, _positive("contradicted", at_least))


def labelled(label_set: Named, at_least: int) -> Labelled:
    """At least `at_least` rows got a label since the last decision, whoever gave it, relabelled ones included."""
    return Labelled(label_set.name, _positive("labelled", at_least))


def arrived(dataset: Named, at_least: int) -> Arrived:
    """At least `at_least` rows of the dataset's newest version are new or changed since the last decision."""
    return Arrived(dataset.name, _positive("arrived", at_least))


def registered(model: Named, at_least: int = 1) -> Registered:
    """At least `at_least` versions of the model were registered since the last decision."""
    return Registered(model.name, _positive("registered", at_least))


def promoted(model: Named, stage: str | None = None) -> Promoted:
    """A version of the model was put into the stage (any one, if none is named), or taken out of it."""
    return Promoted(model.name, stage)


def released(model: Named) -> Released:
    """A version of the model was released for use."""
    return Released(model.name)


def rolled_back(endpoint: Named) -> RolledBack:
    """A rollout on the endpoint was taken back to the version before."""
    return RolledBack(endpoint.name)


def finished(pipeline: Named, state: EndState = "done") -> Finished:
    """A run of the pipeline ended, in this state: `done`, `failed` or `any` of them."""
    if state not in get_args(EndState):
        raise Invalid(
            f"finished() was given the state {state!r}; it is one of {', '.join(get_args(EndState))}."
        )
    return Finished(pipeline.name, state)


def called() -> Called:
    """Somebody called the trigger: with POST /api/triggers/NAME or `everloop triggers fire NAME`."""
    return Called()


def _positive(what: str, number: int) -> int:
    if number < 1:
        raise Invalid(f"{what}() was given {number}; it takes the number that justifies training, 1 or more.")
    return number


def singles_of(condition: Condition) -> frozenset[Single]:
    """The conditions that a combined one is made of."""
    if isinstance(condition, Both | Either):
        return singles_of(condition.left) | singles_of(condition.right)
    return frozenset({condition})


def title_of(single: Single) -> str:
    """A single condition in words such as `contradicted category`, as evidence is kept under."""
    about = [str(value) for name, value in vars(single).items() if name != "at_least" and value is not None]
    return " ".join([type(single).__name__.lower(), *about])


def holds(condition: Condition, evidence: Evidence) -> bool:
    """Whether the evidence meets the condition.

    >>> seen = {Drifted("category"): Found(1, ("find_1",)), Contradicted("category", 50): Found(60)}
    >>> holds(Drifted("category") & Contradicted("category", 50), seen)
    True
    """
    match condition:
        case Both(left, right):
            return holds(left, evidence) and holds(right, evidence)
        case Either(left, right):
            return holds(left, evidence) or holds(right, evidence)
        case Contradicted() | Labelled() | Arrived() | Registered():
            return evidence[condition].count >= condition.at_least
        case _:
            return evidence[condition].count > 0


def in_words(condition: Condition, evidence: Evidence) -> str:
    """The condition with the numbers found, as a person reads it."""
    match condition:
        case Both(left, right):
            return f"{in_words(left, evidence)} and {in_words(right, evidence)}"
        case Either(left, right):
            return f"{in_words(left, evidence)} or {in_words(right, evidence)}"
        case _:
            return condition.words(evidence[condition].count)


_KINDS: dict[str, type[Single]] = {
    "drifted": Drifted,
    "alarmed": Alarmed,
    "contradicted": Contradicted,
    "labelled": Labelled,
    "arrived": Arrived,
    "registered": Registered,
    "promoted": Promoted,
    "released": Released,
    "rolled_back": RolledBack,
    "finished": Finished,
    "called": Called,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def to_value(condition: Condition) -> dict[str, Any]:
    """A JSON value that `from_value` reads back, such as `{"labelled": "kind", "at_least": 500}`."""
    match condition:
        case Both(left, right):
            return {"both": [to_value(left), to_value(right)]}
        case Either(left, right):
            return {"either": [to_value(left), to_value(right)]}
        case _:
            stated = vars(condition)
            about = next(iter(stated), None)
            rest = {name: value for name, value in stated.items() if name != about}
            return {_NAMES[type(condition)]: True if about is None else stated[about], **rest}


def from_value(value: Mapping[str, Any]) -> Condition:
    """The condition of a stored value. Raises Invalid for one of another everloop."""
    match value:
        case {"both": [left, right]}:
            return Both(from_value(left), from_value(right))
        case {"either": [left, right]}:
            return Either(from_value(left), from_value(right))
    for name, kind in _KINDS.items():
        if name in value:
            first = [one.name for one in fields(kind)][:1]
            stated = dict.fromkeys(first, value[name]) | {
                key: one for key, one in value.items() if key != name
            }
            try:
                return kind(**stated)
            except TypeError:
                break
    raise Invalid(
        f"the stored condition {dict(value)} is not one that this everloop knows. Apply the loop file again."
    )
