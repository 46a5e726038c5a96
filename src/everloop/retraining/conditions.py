"""Conditions: what has to have been found, as values that can be combined with & and |, stored and explained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from everloop.errors import Invalid


@dataclass(frozen=True)
class Evidence:
    """What is known of one endpoint since the live model's labels were frozen.

    `drift_findings` are ids of findings of drift; `contradictions` counts distinct predictions that a correction
    says were wrong. Corrections that confirm an answer are no reason to train.
    """

    drift_findings: tuple[str, ...]
    contradictions: int


class Named(Protocol):
    """Anything that carries an endpoint's name, such as its declaration."""

    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class _Combinable:
    def __and__(self, other: Condition) -> Both:
        return Both(self, other)  # type: ignore[arg-type]  # only the four conditions inherit

    def __or__(self, other: Condition) -> Either:
        return Either(self, other)  # type: ignore[arg-type]  # as above


@dataclass(frozen=True)
class Drifted(_Combinable):
    """Drift was found on the endpoint."""

    endpoint: str


@dataclass(frozen=True)
class Contradicted(_Combinable):
    """At least so many of the endpoint's predictions were said to be wrong."""

    endpoint: str
    at_least: int


@dataclass(frozen=True)
class Both(_Combinable):
    left: Condition
    right: Condition


@dataclass(frozen=True)
class Either(_Combinable):
    left: Condition
    right: Condition


Condition = Drifted | Contradicted | Both | Either


def drifted(endpoint: Named) -> Drifted:
    """Drift of the inputs or of the predicted classes was found on the endpoint."""
    return Drifted(endpoint.name)


def contradicted(endpoint: Named, at_least: int) -> Contradicted:
    """Corrections contradict at least `at_least` predictions of the endpoint."""
    if at_least < 1:
        raise Invalid(
            f"contradicted() was given {at_least}; it takes the number of contradictions that justify training, 1 or more."
        )
    return Contradicted(endpoint.name, at_least)


def endpoints_of(condition: Condition) -> frozenset[str]:
    """The endpoints that a condition speaks of."""
    if isinstance(condition, Both | Either):
        return endpoints_of(condition.left) | endpoints_of(condition.right)
    return frozenset({condition.endpoint})


def holds(condition: Condition, evidence: Mapping[str, Evidence]) -> bool:
    """Whether the evidence, by endpoint, meets the condition.

    >>> seen = {"category": Evidence(drift_findings=("find_1",), contradictions=60)}
    >>> holds(Drifted("category") & Contradicted("category", 50), seen)
    True
    """
    match condition:
        case Drifted(endpoint):
            return bool(evidence[endpoint].drift_findings)
        case Contradicted(endpoint, at_least):
            return evidence[endpoint].contradictions >= at_least
        case Both(left, right):
            return holds(left, evidence) and holds(right, evidence)
        case Either(left, right):
            return holds(left, evidence) or holds(right, evidence)


def in_words(condition: Condition, evidence: Mapping[str, Evidence]) -> str:
    """The condition with the numbers found, as a person reads it."""
    match condition:
        case Drifted(endpoint):
            return f"{len(evidence[endpoint].drift_findings)} drift findings on {endpoint}"
        case Contradicted(endpoint, at_least):
            return (
                f"{evidence[endpoint].contradictions} answers of {endpoint} contradicted (needs {at_least})"
            )
        case Both(left, right):
            return f"{in_words(left, evidence)} and {in_words(right, evidence)}"
        case Either(left, right):
            return f"{in_words(left, evidence)} or {in_words(right, evidence)}"


def to_value(condition: Condition) -> dict[str, Any]:
    """A JSON value that `from_value` reads back."""
    match condition:
        case Drifted(endpoint):
            return {"drifted": endpoint}
        case Contradicted(endpoint, at_least):
            return {"contradicted": endpoint, "at_least": at_least}
        case Both(left, right):
            return {"both": [to_value(left), to_value(right)]}
        case Either(left, right):
            return {"either": [to_value(left), to_value(right)]}


def from_value(value: Mapping[str, Any]) -> Condition:
    match value:
        case {"drifted": str(endpoint)}:
            return Drifted(endpoint)
        case {"contradicted": str(endpoint), "at_least": int(at_least)}:
            return Contradicted(endpoint, at_least)
        case {"both": [left, right]}:
            return Both(from_value(left), from_value(right))
        case {"either": [left, right]}:
            return Either(from_value(left), from_value(right))
    raise Invalid(
        f"the stored condition {dict(value)} is not one that this everloop knows. Apply the loop file again."
    )
