"""What a loop file declares of checks: a user's own, how a model must behave, and tests of features."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar, overload

import pyarrow as pa

from everloop.checks import behaviour
from everloop.checks.catalog import CHECKS
from everloop.checks.metrics import CLASS_METRICS, NUMBER_METRICS
from everloop.checks.own import TIMEOUT_S, own_check, unit_check
from everloop.checks.records import Check, Gate, OwnFunction
from everloop.errors import Conflict, Invalid

_OPTIONS = frozenset(field.name for field in fields(Gate)) - {"about", "source"}
Change = Callable[[pa.Table], pa.Table]
F = TypeVar("F", bound=Callable[..., Any])


@overload
def check(function: OwnFunction) -> Check: ...
@overload
def check(
    *, question: str = ..., rule: str = ..., remedy: str = ..., timeout_s: float = ...
) -> Callable[[OwnFunction], Check]: ...
def check(
    function: OwnFunction | None = None,
    *,
    question: str = "",
    rule: str = "",
    remedy: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Check | Callable[[OwnFunction], Check]:
    """Make a function of a `CheckInput` a check that gates may name.

    It returns whether it holds, or a `CheckResult` with numbers and rows, or it asserts. One that raises has failed. It
    is named as the function; its first line of documentation is the question unless one is given. It runs where the
    model is trained, in a process of its own that is killed after `timeout_s`, never in the one that answers the API.
    Defining it again, as a notebook does, replaces it.

    Raises
    ------
    Conflict
        The name is that of a built-in check or of a metric.
    Invalid
        It is not a plain function of one value, with defaults for the options of its gate.
    """

    def registered(function: OwnFunction) -> Check:
        told = {"question": question, "rule": rule, "remedy": remedy}
        return _registered(own_check(function, _OPTIONS, told, timeout_s=_limit(timeout_s)))

    return registered if function is None else registered(function)


def invariance(function: Change) -> Check:
    """Make a change of rows a check: the model's answers must not depend on it.

    The function gets test rows and returns them changed, in the same order. Of the rows that it changes in something the
    model sees, a share of `at_least` (0.95 unless the gate says otherwise) must be answered as before; numbers may move by
    `at_most`. Named as the function; its first line of documentation is the question.

    Raises Conflict and Invalid as `check` does.
    """
    return _registered(
        own_check(function, behaviour.INVARIANCE_OPTIONS, _told(function), how=behaviour.invariance)
    )


def direction(moves: Literal["up", "down"], *, of: str | None = None) -> Callable[[Change], Check]:
    """Make a change of rows a check: it must move the model's score up, or down.

    The score is the probability of the class `of`; for a model of numbers it is the answer. Of the rows that the function
    changes, a share of `at_least` (0.95 unless the gate says otherwise) must move that way.

    Raises Conflict and Invalid as `check` does.
    """
    if moves not in ("up", "down"):
        raise Invalid(f"a direction is {moves!r}; a score moves 'up' or 'down'. Name one of these.")

    def registered(function: Change) -> Check:
        return _registered(
            own_check(
                function, behaviour.DIRECTION_OPTIONS, _told(function), how=behaviour.direction(moves, of)
            )
        )

    return registered


@overload
def feature_test(function: F) -> F: ...
@overload
def feature_test(*, timeout_s: float) -> Callable[[F], F]: ...
def feature_test(function: F | None = None, *, timeout_s: float = TIMEOUT_S) -> F | Callable[[F], F]:
    """Make a test of a feature (or of anything else in the project) a check that gates may name.

    A function without parameters that asserts: an example, or a property that hypothesis' `@given` turns into one. It is
    returned as it is, so that pytest collects and runs it too. A gate runs it with a fixed seed.

    Raises Conflict and Invalid as `check` does.
    """

    def registered(function: F) -> F:
        _registered(unit_check(function, timeout_s=_limit(timeout_s)))
        return function

    return registered if function is None else registered(function)


def _registered(made: Check) -> Check:
    if made.name in (*CLASS_METRICS, *NUMBER_METRICS) or (
        made.name in CHECKS and not CHECKS[made.name].is_users
    ):
        raise Conflict(
            f"{made.name!r} is a built-in check or metric; a check's name is its own. Rename the function."
        )
    CHECKS[made.name] = made
    return made


def _told(function: Change) -> Mapping[str, str]:
    return {"question": (inspect.getdoc(function) or "").partition("\n")[0], "rule": "", "remedy": ""}


def _limit(timeout_s: float) -> float:
    if not timeout_s > 0:
        raise Invalid(f"timeout_s is {timeout_s}; a check needs some seconds. Give a number above 0.")
    return timeout_s
