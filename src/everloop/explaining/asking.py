"""What each input adds, of a model that is only asked: Shapley values between a row and another that it is compared with.

An input's Shapley value is what it changes when it goes from the other row's value to the given one, averaged over the orders in
which the inputs may change one after the other (Shapley 1953; Lundberg and Lee, NIPS 2017, with one row for a background).
Up to 8 inputs that differ all orders count; with more, orders drawn by chance and their reverses (Castro, Gomez and Tejada
2009). Either way they add up to the difference of the two scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.explaining.origins import NotExplainedError
from everloop.explaining.records import Contribution, Explanation

MOST_QUESTIONS = 256
_MOST_DIFFERENT = 512
_AT_ONCE = 64  # a model may be asked by others as well, who wait no longer than for so many rows
Rows = NDArray[Any]
Scores = NDArray[np.float64]


def by_asking(
    score: Callable[[Rows], Scores],
    row: Sequence[Any],
    other: Sequence[Any],
    *,
    names: Sequence[str],
    of: str,
    label: str | None = None,
) -> Explanation:
    """Explain a row's score by that of another row and rows in between.

    Parameters
    ----------
    score
        (n_rows, n_columns) object to (n_rows,): what is explained, such as the probability of the answered class.

    Raises NotExplainedError when over 512 inputs differ.
    """
    differs = [place for place in range(len(row)) if not _same(row[place], other[place])]
    if len(differs) > _MOST_DIFFERENT:
        raise NotExplainedError(
            f"{len(differs):,} inputs differ from the row that it is compared with, over {_MOST_DIFFERENT}"
        )
    is_exact = 2 ** len(differs) <= MOST_QUESTIONS
    values, base, total = (_all_orders if is_exact else _some_orders)(
        lambda masks: _asked(score, _mixed(row, other, differs, masks)), len(differs)
    )
    amounts = dict(zip(differs, values, strict=True))
    found = [Contribution(name, amounts.get(place, 0.0)) for place, name in enumerate(names)]
    return Explanation(
        "shapley" if is_exact else "sampled shapley",
        of,
        total,
        base,
        tuple(sorted(found, key=lambda one: -abs(one.contribution))),
        label,
        dict(zip(names, other, strict=True)),
    )


Ask = Callable[[NDArray[np.bool_]], Scores]


def _all_orders(ask: Ask, count: int) -> tuple[list[float], float, float]:
    """Each input's value from the scores of all subsets, weighted by how many orders pass through them."""
    numbers = np.arange(2**count)
    masks = (numbers[:, None] >> np.arange(count) & 1).astype(bool)  # (2 ** count, count)
    scores, sizes = ask(masks), masks.sum(axis=1)
    weights = np.array(
        [factorial(size) * factorial(count - size - 1) / factorial(count) for size in range(count)]
    )
    values = []
    for place in range(count):
        without = numbers[~masks[:, place]]
        values.append(float(weights[sizes[without]] @ (scores[without | 1 << place] - scores[without])))
    return values, float(scores[0]), float(scores[-1])


def _some_orders(ask: Ask, count: int) -> tuple[list[float], float, float]:
    rng = np.random.default_rng(0)  # the same row has the same explanation
    drawn = [rng.permutation(count) for _ in range(max(1, MOST_QUESTIONS // (2 * count)))]
    orders = [order for one in drawn for order in (one, one[::-1])]
    masks = np.zeros((len(orders) * (count + 1), count), dtype=bool)
    for number, order in enumerate(orders):
        for step, place in enumerate(order, start=1):
            masks[number * (count + 1) + step : (number + 1) * (count + 1), place] = True
    scores = ask(masks).reshape(len(orders), count + 1)
    values = np.zeros(count)
    for order, each in zip(orders, scores, strict=True):
        values[order] += np.diff(each)
    return (values / len(orders)).tolist(), float(scores[0, 0]), float(scores[0, -1])


def _mixed(row: Sequence[Any], other: Sequence[Any], differs: list[int], masks: NDArray[np.bool_]) -> Rows:
    rows = np.empty((len(masks), len(row)), dtype=object)
    rows[:] = [list(other)]
    for number, place in enumerate(differs):
        for place_in in np.flatnonzero(masks[:, number]):
            rows[place_in, place] = row[place]
    return rows


def _asked(score: Callable[[Rows], Scores], rows: Rows) -> Scores:
    found = [np.asarray(score(rows[first : first + _AT_ONCE])) for first in range(0, len(rows), _AT_ONCE)]
    return np.concatenate(found)


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)
