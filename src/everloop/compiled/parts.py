"""What a compiled plan is put together from: parts that turn a row into numbers, and the two ways to say no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["value", "cells", "entries"]
Entries = tuple[list[int], list[float]]
_LARGEST = float(np.finfo(np.float64).max)


class NotCompiledError(Exception):
    """A model has a piece that no plan is known for; the message names it, after 'is not compiled: '."""


class UnreadableError(Exception):
    """A model is not what its library makes, or is of a version that names things otherwise."""


class UnsureError(Exception):
    """A row holds what a plan does not stand for; the original answers it, or says what is wrong with it."""


@dataclass(frozen=True)
class Part:
    """One step from a row's values towards the numbers that a model sees.

    `run` takes the whole row. It gives one thing for `value` (a text column by its number), a sequence of `width` for
    `cells`, and for `entries` the places below `width` that are not zero, each once, and their values.
    """

    kind: Kind
    width: int
    run: Callable[[Sequence[Any]], Any]


def number(cell: Any) -> float:
    """A cell as scikit-learn makes a float of it; null is not a number. Raises UnsureError for what it would refuse."""
    if cell is None:
        return np.nan
    value: float = cell if type(cell) is float else _as_float(cell)
    if -_LARGEST <= value <= _LARGEST or value != value:
        return value
    raise UnsureError


def _as_float(cell: Any) -> float:
    if isinstance(cell, int | float | np.number | np.bool_):
        return float(cell)
    raise UnsureError


def numbers(cells: Sequence[Any]) -> list[float]:
    return [number(cell) for cell in cells]


def require(holds: object, reason: str) -> None:
    """Raise NotCompiledError with the reason unless it holds."""
    if not holds:
        raise NotCompiledError(reason)


def name_of(step: object) -> str:
    return type(step).__name__
