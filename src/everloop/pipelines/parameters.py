"""Whether values for a pipeline's parameters are what its signature says, before anything runs."""

from __future__ import annotations

import math
import random
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union

from everloop.errors import Invalid

_SIMPLE: Mapping[object, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}
_LISTS = (list, Sequence, Iterable)


@dataclass(frozen=True)
class Between:
    """Numbers from `low` to `high`, both included; whole ones if both are. `log`: each doubling is as likely."""

    low: float
    high: float
    log: bool = False

    @property
    def ge(self) -> float:
        """The lower end as `annotated_types` calls it."""
        return self.low

    @property
    def le(self) -> float:
        """The upper end as `annotated_types` calls it."""
        return self.high

    @property
    def is_whole(self) -> bool:
        return type(self.low) is int and type(self.high) is int

    def draw(self, chance: random.Random) -> float:
        """One of them by chance."""
        if not self.log:
            return (
                chance.randint(int(self.low), int(self.high))
                if self.is_whole
                else chance.uniform(self.low, self.high)
            )
        # for whole numbers each stands for the reals that round to it, so that the ends are not half as likely
        half = 0.5 if self.is_whole else 0.0
        drawn = math.exp(chance.uniform(math.log(self.low - half), math.log(self.high + half)))
        bounded = min(max(round(drawn) if self.is_whole else drawn, self.low), self.high)
        return int(bounded) if self.is_whole else bounded

    def all_values(self) -> tuple[int, ...] | None:
        """All of them, when they can be counted."""
        return tuple(range(int(self.low), int(self.high) + 1)) if self.is_whole and not self.log else None

    def as_json(self) -> dict[str, Any]:
        return {"between": [self.low, self.high], "log": self.log}


def between(low: float, high: float, *, log: bool = False) -> Between:
    """Numbers from `low` to `high`, both included; whole ones if both are.

    For `typing.Annotated` the range that a parameter has to be in, and in a search the numbers that may be tried.

    Parameters
    ----------
    log
        In a search small numbers are as likely as large ones: for what matters by its order of magnitude.

    Raises
    ------
    Invalid
        Nothing is in it.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low >= high:
        raise Invalid(f"between({low}, {high}) has no numbers in it; state the lower one first.")
    if log and low <= 0:
        raise Invalid(f"between({low}, {high}, log=True): a logarithm needs numbers above 0.")
    return Between(low, high, log)


def check(pipeline: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    """Compare values with the annotations of a function's parameters.

    int, float, str, bool, None, Literal, unions, lists and dictionaries are looked at, and of Annotated the ranges of
    `between` and what `annotated_types` says (Ge, Gt, Le, Lt, Interval, Len). Whatever else is annotated is not.

    Raises
    ------
    Invalid
        A value is not of its parameter's type, or out of its range.
    """
    for name, value in values.items():
        hint = _resolved(function, name)
        if not _fits(value, hint):
            wanted = _worded(hint)
            shown = f"{value!r}, which is {type(value).__name__}" if _is_typed(hint) else repr(value)
            quoted = (
                f" On the command line it is in quotes: --param '{name}=\"{value}\"'." if hint is str else ""
            )
            raise Invalid(
                f"pipeline {pipeline} takes {name} as {wanted} and got {shown}. Give it such a value.{quoted}"
            )


def _resolved(function: Callable[..., Any], name: str) -> Any:
    """The annotation of one parameter; Any when it says nothing, or names what is not there when it runs."""
    annotation = getattr(function, "__annotations__", {}).get(name, Any)
    holder = type("holder", (), {"__annotations__": {name: annotation}})
    names = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=names, localns={}, include_extras=True)[name]
    except (NameError, AttributeError, TypeError, SyntaxError):  # imported for type checkers alone, say
        return Any


def _fits(value: Any, hint: Any) -> bool:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(value, inside[0]) and all(_is_in(value, limit) for limit in inside[1:])
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inside)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inside)
    if hint is None or hint is type(None):
        return value is None
    if hint in _LISTS or origin in _LISTS:
        return isinstance(value, list | tuple) and all(_fits(item, one) for item in value for one in inside)
    if hint in (dict, Mapping) or origin in (dict, Mapping):
        of_key, of_value = inside or (Any, Any)
        return isinstance(value, dict) and all(
            _fits(key, of_key) and _fits(item, of_value) for key, item in value.items()
        )
    try:
        allowed = _SIMPLE.get(hint)
    except TypeError:  # what cannot be looked up is none of them
        return True
    return allowed is None or type(value) in allowed


def _is_in(value: Any, limit: object) -> bool:
    """Whether a value keeps to what stands beside its type in Annotated."""
    numbers: dict[str, Callable[[Any, Any], bool]] = {
        "ge": lambda one, end: one >= end,
        "gt": lambda one, end: one > end,
        "le": lambda one, end: one <= end,
        "lt": lambda one, end: one < end,
        "min_length": lambda one, end: len(one) >= end,
        "max_length": lambda one, end: len(one) <= end,
    }
    if value is None:  # it is optional, or of another type than annotated
        return True
    ends = {name: getattr(limit, name, None) for name in numbers}
    try:
        return all(numbers[name](value, end) for name, end in ends.items() if end is not None)
    except TypeError:  # text has no place among numbers, a number no length
        return False


def _is_typed(hint: Any) -> bool:
    return hint in (int, float, str, bool)


def _worded(hint: Any) -> str:
    """A type as the error names it."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return " ".join([_worded(inside[0]), *filter(None, map(_limits, inside[1:]))])
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inside))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_worded, inside))
    if hint is None or hint is type(None):
        return "None"
    if inside:
        name = getattr(origin, "__name__", str(origin))
        return f"{name}[{', '.join(map(_worded, inside))}]"
    return str(getattr(hint, "__name__", hint))


def _limits(limit: object) -> str:
    words = {
        "ge": "from {}",
        "gt": "above {}",
        "le": "up to {}",
        "lt": "below {}",
        "min_length": "of at least {}",
        "max_length": "of at most {}",
    }
    ends = {name: getattr(limit, name, None) for name in words}
    return " ".join(words[name].format(end) for name, end in ends.items() if end is not None)
