"""A step is its function until a pipeline runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from everloop.errors import Invalid
from everloop.pipelines import Pinned, step
from everloop.workspace import Workspace


@step
def double(value: int, *, times: int = 2) -> int:
    """Twice, or more."""
    return value * times


@dataclass(frozen=True)
class Rows:
    name: str = "rows"

    def pin(self, ws: Workspace) -> Pinned:
        raise NotImplementedError

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        raise NotImplementedError


def test_a_step_called_outside_a_pipeline_is_its_function() -> None:
    assert double(4) == 8
    assert double(4, times=3) == 12


def test_a_step_looks_like_its_function() -> None:
    assert (double.name, double.__doc__, double.__module__) == ("double", "Twice, or more.", __name__)
    assert list(inspect.signature(double).parameters) == ["value", "times"]


def test_options_have_defaults_and_are_kept() -> None:
    made = step(retries=2, timeout_s=30, cache=False, back_off_s=0)(double.function)
    assert (made.retries, made.timeout_s, made.cache, made.back_off_s) == (2, 30, False, 0)
    assert (double.retries, double.timeout_s, double.cache) == (0, None, True)


def test_a_declaration_has_no_rows_outside_a_pipeline() -> None:
    with pytest.raises(Invalid, match="declaration 'rows'"):
        double(Rows())  # type: ignore[arg-type]  # that is the mistake


async def _later() -> int:
    return 1


def _many() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: step(_later), "async"),
        (lambda: step(_many), "generator"),
        (lambda: step(print), "made with def"),
        (lambda: step(retries=-1)(double.function), "retries=-1"),
        (lambda: step(back_off_s=-1)(double.function), "back_off_s=-1"),
        (lambda: step(timeout_s=0)(double.function), "timeout_s=0"),
    ],
)
def test_wrong_steps_are_refused_where_they_are_declared(make: Callable[[], object], found: str) -> None:
    with pytest.raises(Invalid, match=found):
        make()
