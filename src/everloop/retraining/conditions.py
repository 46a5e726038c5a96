"""Conditions: what has to have been found, as values that can be combined with & and |, stored and explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from everloop.errors import Invalid


@dataclass(frozen=True)
class Found:
    """What speaks for one condition since the last decision: how many, and the ids of findings among them."""

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
class Drifted(_Combinable):
    """Drift was found on the endpoint."""

    endpoint: str


@dataclass(frozen=True)
class Alarmed(_Combinable):
    """Accuracy, latency, failures or a KPI of the endpoint were found outside their bounds."""

    endpoint: str


@dataclass(frozen=True)
class Contradicted(_Combinable):
    """At least so many of the endpoint's predictions were said to be wrong."""

    endpoint: str
    at_least: int


@dataclass(frozen=True)
class Labelled(_Combinable):
    """At least so many rows were labelled, for the first time or again."""

    label_set: str
    at_least: int


@dataclass(frozen=True)
class Arrived(_Combinable):
    """At least so many rows of the dataset are new or changed."""

    dataset: str
    at_least: int


@dataclass(frozen=True)
class Both(_Combinable):
    left: Condition
    right: Condition


@dataclass(frozen=True)
class Either(_Combinable):
    left: Condition
    right: Condition


Single = Drifted | Alarmed | Contradicted | Labelled | Arrived
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


def _positive(what: str, number: int) -> int:
    if number < 1:
        raise Invalid(f"{what}() was given {number}; it takes the number that justifies training, 1 or more.")
    return number


def singles_of(condition: Condition) -> frozenset[Single]:
    """The conditions that a combined one is made of."""
    if isinstance(condition, Both | Either):
        return singles_of(condition.left) | singles_of(condition.right)
    return frozenset({condition})


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
        case Drifted() | Alarmed():
            return evidence[condition].count > 0
        case _:
            return evidence[condition].count >= condition.at_least


def in_words(condition: Condition, evidence: Evidence) -> str:
    """The condition with the numbers found, as a person reads it."""
    match condition:
        case Both(left, right):
            return f"{in_words(left, evidence)} and {in_words(right, evidence)}"
        case Either(left, right):
            return f"{in_words(left, evidence)} or {in_words(right, evidence)}"
    count = evidence[condition].count
    match condition:
        case Drifted(endpoint):
            return f"{count} drift findings on {endpoint}"
        case Alarmed(endpoint):
            return f"{count} alarms on {endpoint}"
        case Contradicted(endpoint, at_least):
            return f"{count} answers of {endpoint} contradicted (needs {at_least})"
        case Labelled(label_set, at_least):
            return f"{count} rows newly labelled in {label_set} (needs {at_least})"
        case Arrived(dataset, at_least):
            return f"{count} rows new or changed in {dataset} (needs {at_least})"


def to_value(condition: Condition) -> dict[str, Any]:
    """A JSON value that `from_value` reads back."""
    match condition:
        case Drifted(endpoint):
            return {"drifted": endpoint}
        case Alarmed(endpoint):
            return {"alarmed": endpoint}
        case Contradicted(endpoint, at_least):
            return {"contradicted": endpoint, "at_least": at_least}
        case Labelled(label_set, at_least):
            return {"labelled": label_set, "at_least": at_least}
        case Arrived(dataset, at_least):
            return {"arrived": dataset, "at_least": at_least}
        case Both(left, right):
            return {"both": [to_value(left), to_value(right)]}
        case Either(left, right):
            return {"either": [to_value(left), to_value(right)]}


def from_value(value: Mapping[str, Any]) -> Condition:
    match value:
        case {"drifted": str(endpoint)}:
            return Drifted(endpoint)
        case {"alarmed": str(endpoint)}:
            return Alarmed(endpoint)
        case {"contradicted": str(endpoint), "at_least": int(at_least)}:
            return Contradicted(endpoint, at_least)
        case {"labelled": str(label_set), "at_least": int(at_least)}:
            return Labelled(label_set, at_least)
        case {"arrived": str(dataset), "at_least": int(at_least)}:
            return Arrived(dataset, at_least)
        case {"both": [left, right]}:
            return Both(from_value(left), from_value(right))
        case {"either": [left, right]}:
            return Either(from_value(left), from_value(right))
    raise Invalid(
        f"the stored condition {dict(value)} is not one that this everloop knows. Apply the loop file again."
    )
