"""Holding a model's own answers to its signature: as many as rows, of the right kind, of its classes, and numbers that are numbers.

A model may be anybody's code. What it gives is looked at before it is told, logged or compared, so that a wrong answer is a
failure with its reason and never another row's answer, nor a number that JSON has no word for.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.serving.loaded import Rows

_SHARE_OFF = 0.01  # by which a row's probabilities may miss 1: libraries count in single precision


class WrongAnswerError(ValueError):
    """A model answered, and not what its signature says."""


class WrongShapeError(WrongAnswerError):
    """Not as many answers as rows, or answers of another kind: wrong whatever was asked."""


def held_numbers(found: Any, rows: int) -> list[str | float]:
    """(n_rows,) or (n_rows, 1) of numbers, which may not be finite; that is each row's own matter."""
    values = _one_a_row(found, rows)
    if values.dtype.kind not in "fiub":
        for value in values.tolist():
            if not isinstance(value, int | float | np.number):
                raise WrongShapeError(f"the model answered {_shown(value)}; its signature says a number")
    return [float(value) for value in values.tolist()]


def held_classes(found: Any, rows: int, classes: Collection[str] | None) -> list[str | float]:
    """(n_rows,) or (n_rows, 1) of classes as texts; all of them known, where the classes are."""
    told: list[str | float] = []
    for value in _one_a_row(found, rows).tolist():
        if not isinstance(value, str | int | float | np.generic) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise WrongAnswerError(f"the model answered {_shown(value)}; its signature says a class")
        name = str(value)
        if classes is not None and name not in classes:
            raise WrongAnswerError(
                f"the model answered {_shown(name)}, which is none of its {len(classes)} classes"
            )
        told.append(name)
    return told


def held_shares(found: Any, rows: int, classes: int) -> NDArray[np.float64]:
    """(n_rows, n_classes) probabilities."""
    shares = np.asarray(found, dtype=np.float64)
    if shares.shape != (rows, classes):
        raise WrongShapeError(
            f"the model answered {rows} rows of {classes} classes with probabilities of the shape {shares.shape}"
        )
    totals = shares.sum(axis=1)
    if not (shares.min(initial=0.0) >= 0.0 and np.abs(totals - 1.0).max(initial=0.0) <= _SHARE_OFF):
        worst = shares[int(np.argmax(~((np.abs(totals - 1.0) <= _SHARE_OFF) & (shares >= 0).all(axis=1))))]
        raise WrongAnswerError(
            f"the model's probabilities are {worst[:5].tolist()}, which are no shares of 1"
        )
    return shares


def _one_a_row(found: Any, rows: int) -> Rows:
    values = np.asarray(found)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape != (rows,):
        raise WrongShapeError(
            f"the model answered {rows} rows with the shape {values.shape}; its signature says one answer a row"
        )
    return values


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
