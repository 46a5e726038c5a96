"""What is annotated in one way may be what another takes; only what can never be is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from everloop.pipelines import step
from everloop.pipelines.annotations import can_fit, hints_of

T = TypeVar("T")


class Sized(Protocol):
    def size(self) -> int: ...


class Animal: ...


class Dog(Animal): ...


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (int, int),
        (int, float),
        (float, int),  # 2.0 is a float, and so is 2
        (bool, int),
        (np.float64, float),
        (list[int], list[int]),
        (list[int], list),
        (list[int], list[float]),
        (list[int], Sequence[int]),
        (list[int], Iterable[str]),  # only lists are looked into
        (dict[str, int], Mapping[str, int]),
        (Sequence[int], list[int]),  # it may be one
        (Dog, Animal),
        (Animal, Dog),
        (pa.Table, pa.Table),
        (NDArray[np.float64], np.ndarray),
        (int, int | None),
        (int | None, int),
        (int, Any),
        (object, int),
        (int, T),
        (int, Sized),
        (None, int),  # not annotated
    ],
)
def test_what_may_fit_is_let_through(given: Any, taken: Any) -> None:
    assert can_fit(given, taken)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (int, str),
        (str, Path),
        (type(None), int),
        (list[int], str),
        (list[int], list[str]),
        (dict[str, int], list[int]),
        (pa.Table, np.ndarray),
    ],
)
def test_what_can_never_fit_is_not(given: Any, taken: Any) -> None:
    assert not can_fit(given, taken)


def test_annotations_that_name_what_is_not_there_say_nothing() -> None:
    @step
    def odd(value: NotThere) -> int:  # type: ignore[name-defined]  # noqa: F821  (that is the point)
        return 1

    assert hints_of(odd) == {}
