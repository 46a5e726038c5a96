"""What a rerun says of its original: the same bits, equal within a tolerance, or different, and why.

Pure: it is given what both runs were made of and what came of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["identical", "equal", "different"]


@dataclass(frozen=True)
class StepOutputs:
    """What a step gave in both runs, as digests; None where it was skipped, `after` too when it did not end."""

    step: str
    before: str | None
    after: str | None

    @property
    def is_same(self) -> bool:
        return self.before == self.after


@dataclass(frozen=True)
class Numbers:
    """The numbers of a step's result in both runs by name, None when it has none to be compared by.

    `rest_is_same` says that what is no number is the same, `is_same` that all bits are.
    """

    step: str
    before: Mapping[str, float] | None
    after: Mapping[str, float] | None
    rest_is_same: bool = True
    is_same: bool = False

    @property
    def is_comparable(self) -> bool:
        return self.is_same or bool(self.before and self.after and self.rest_is_same)


@dataclass(frozen=True)
class NumberDifference:
    """A number that differs: a metric of the model that a step made, or a number in the pipeline's result."""

    step: str
    name: str
    before: float | None
    after: float | None
    is_within: bool


@dataclass(frozen=True)
class Judged:
    """A verdict, with the steps whose outputs differ in the order of the plan, and the numbers that differ."""

    verdict: Verdict
    differing: tuple[str, ...]
    numbers: tuple[NumberDifference, ...]


def judge(outputs: Sequence[StepOutputs], numbers: Iterable[Numbers], *, tolerance: float) -> Judged:
    """Compare what came of two runs.

    `identical`: every step gave the same bits. `equal`: all `numbers` (the metrics of each model, and the numbers of the
    pipeline's result) are within the tolerance, and there are some. A number is within it when it is off by at most
    `tolerance`, or by that part of the greater one: `math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)`.

    >>> judge([StepOutputs("fit", "a", "b")], [Numbers("fit", {"f1": 0.5}, {"f1": 0.501})], tolerance=0.01).verdict
    'equal'
    """
    differing = tuple(one.step for one in outputs if not one.is_same)
    if not differing:
        return Judged("identical", (), ())
    compared = list(numbers)
    found = tuple(
        difference for one in compared for difference in number_differences(one, tolerance=tolerance)
    )
    is_comparable = bool(compared) and all(one.is_comparable for one in compared)
    is_whole = all(one.after is not None for one in outputs)
    is_equal = is_whole and is_comparable and all(one.is_within for one in found)
    return Judged("equal" if is_equal else "different", differing, found)


def number_differences(one: Numbers, *, tolerance: float) -> list[NumberDifference]:
    """The numbers that differ, in order of their names, each with whether it is within the tolerance (see `judge`)."""
    before, after = one.before or {}, one.after or {}
    found = []
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if not _is_close(old, new, 0.0):
            found.append(NumberDifference(one.step, name, old, new, _is_close(old, new, tolerance)))
    return found


def numbers_in(value: Any) -> tuple[dict[str, float], Any]:
    """The numbers in a JSON value by where they are, and the value without them.

    >>> numbers_in({"loss": [0.5, "nats"], "is_done": True})
    ({'loss.0': 0.5}, {'loss': [0.0, 'nats'], 'is_done': True})
    """
    found: dict[str, float] = {}
    return found, _without_numbers(value, "", found)


def _without_numbers(value: Any, place: str, found: dict[str, float]) -> Any:
    if isinstance(value, dict):
        return {key: _without_numbers(item, f"{place}{key}.", found) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_numbers(item, f"{place}{number}.", found) for number, item in enumerate(value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        found[place.removesuffix(".") or "value"] = float(value)
        return 0.0
    return value


def _is_close(old: float | None, new: float | None, tolerance: float) -> bool:
    if old is None or new is None:
        return False
    if math.isnan(old) or math.isnan(new):
        return math.isnan(old) and math.isnan(new)
    return math.isclose(old, new, rel_tol=tolerance, abs_tol=tolerance)
