"""How well one column alone predicts the label: what leakage is recognised by.

Every measure is a proportional reduction in error. For classes it is the lambda of Goodman and Kruskal (JASA 49,
1954): 1 - errors / baseline_errors, where the baseline always answers the most frequent class. For numbers it is
1 - squared error / squared error of the mean. 0 is useless, 1 is perfect, and an imbalanced label cannot feign it.
A row is never predicted with its own label: either it is left out of the counts, or it is a test row and the counts
are of training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from everloop.checks.bounds import share_at_most
from everloop.checks.columns import NULL, Codes, Column, Floats, Values, compute, normalised

How = Literal["value", "presence", "range", "word", "name"]
A = TypeVar("A", bound=np.generic)

SAMPLE_ROWS = 20_000  # words are looked at in this many rows at most, evenly spread; more changes nothing
_RANGES = 256
_ROWS_A_RANGE = 8
_NAMES = 500  # classes at most whose names are searched for


@dataclass(frozen=True)
class Power:
    """What a column predicts, `how` it was read, on `rows` rows of which the baseline gets `baseline_errors` wrong.

    `skill` is 1 - errors / baseline_errors, None when the baseline makes no error. `at_least` is its lower bound at
    95 % confidence (0 when nothing is known). `cover` is the share of all labelled rows that `rows` are, `distinct`
    the number of values, and `new_share` the share of rows whose value occurs once: by Good and Turing (Biometrika
    40, 1953) about the probability that the next row brings a value never seen.
    """

    how: How
    skill: float | None
    at_least: float
    rows: int
    baseline_errors: int
    cover: float = 1.0
    distinct: int = 0
    new_share: float = 0.0


def by_value(values: Codes, labels: Codes, *, how: How = "value") -> Power:
    """Each row predicted by the most frequent label of the *other* rows with the same value.

    Rows without label or value and values that occur once are left out; a tie counts as an error, since it decides
    nothing.

    >>> import numpy as np
    >>> product, category = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    >>> by_value(product, category).skill  # all five repeated rows right, the baseline gets two of them wrong
    1.0
    """
    usable = (values != NULL) & (labels != NULL)
    values, labels = values[usable], labels[usable]
    if len(values) == 0:
        return _power(how, 0, 0, 0)
    values = np.unique(values, return_inverse=True)[1]
    a_value = np.bincount(values)
    pairs, counts = np.unique(values * (labels.max() + 1) + labels, return_counts=True)
    first, second = _two_largest(pairs // (labels.max() + 1), counts, len(a_value))
    # without its own row, the largest count must still be the largest
    right = int(first[(first - 1 > second) & (a_value > 1)].sum())
    is_repeated = a_value[values] > 1
    wrong_of_baseline = int((labels[is_repeated] != _majority(labels)).sum())
    rows = int(is_repeated.sum())
    return _power(
        how,
        rows - right,
        wrong_of_baseline,
        rows,
        cover=rows / max(1, len(usable)),
        distinct=len(a_value),
        new_share=float((a_value == 1).sum() / len(values)),
    )


def by_value_number(values: Codes, labels: Floats) -> Power:
    """As `by_value` for numbers: each row predicted by the mean label of the other rows with the same value."""
    usable = (values != NULL) & np.isfinite(labels)
    values, labels = values[usable], labels[usable]
    if len(values) == 0:
        return _power("value", 0, 0, 0)
    values = np.unique(values, return_inverse=True)[1]
    a_value = np.bincount(values)
    others = a_value[values] - 1
    keep = others > 0
    sums = np.bincount(values, weights=labels)
    predicted = (sums[values][keep] - labels[keep]) / others[keep]
    return _power_number(
        "value",
        labels[keep],
        predicted,
        float(labels.mean()),
        cover=float(keep.sum() / max(1, len(usable))),
        distinct=len(a_value),
        new_share=float((a_value == 1).sum() / len(values)),
    )


def by_range(train: Floats, train_labels: Codes, test: Floats, test_labels: Codes) -> Power:
    """Test rows predicted by the most frequent label of the training rows in the same range of values.

    The ranges are quantiles of the training rows, at most 256 and at least 8 rows each; null is a range of its own.
    """
    train, train_labels = train[train_labels != NULL], train_labels[train_labels != NULL]
    test, test_labels = test[test_labels != NULL], test_labels[test_labels != NULL]
    if len(train) == 0 or len(test) == 0:
        return _power("range", 0, 0, 0)
    edges = _edges(train)
    counts = np.zeros((len(edges) + 2, int(train_labels.max()) + 1), np.int64)
    np.add.at(counts, (_ranges(train, edges), train_labels), 1)
    majority = _majority(train_labels)
    answer = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), majority)
    errors = int((answer[_ranges(test, edges)] != test_labels).sum())
    return _power("range", errors, int((test_labels != majority).sum()), len(test))


def by_range_number(train: Floats, train_labels: Floats, test: Floats, test_labels: Floats) -> Power:
    """As `by_range` for numbers: on the line that joins the mean points of the ranges, straight in between."""
    train, train_labels = train[np.isfinite(train_labels)], train_labels[np.isfinite(train_labels)]
    test, test_labels = test[np.isfinite(test_labels)], test_labels[np.isfinite(test_labels)]
    if len(train) == 0 or len(test) == 0:
        return _power("range", 0, 0, 0)
    answer = _between_means(train, train_labels, test)
    return _power_number("range", test_labels, answer, float(train_labels.mean()))


def by_word(train: Column, train_labels: Codes, test: Column, test_labels: Codes) -> Power:
    """Test rows predicted by the one word in them that decided best among the training rows.

    A word's worth is (rows with its most frequent label) / (rows with it + 1); words in one training row only are
    not used, and a row without a known word gets the most frequent label.
    """
    train, train_labels = _sample(train, train_labels)
    test, test_labels = _sample(test, test_labels)
    if len(train) == 0 or len(test) == 0:
        return _power("word", 0, 0, 0)
    rows, words = _words(train)
    known = words.unique()
    rows, numbers = _pairs(rows, words, known)
    test_rows, test_numbers = _pairs(*_words(test), known)
    best, worth = _best_label(numbers, train_labels[rows], len(known))
    majority = _majority(train_labels)
    answer = np.full(len(test), majority)
    is_usable = worth[test_numbers] > 0
    test_rows, test_numbers = test_rows[is_usable], test_numbers[is_usable]
    order = np.argsort(worth[test_numbers], kind="stable")  # the last assignment to a row wins: its best word
    answer[test_rows[order]] = best[test_numbers[order]]
    errors = int((answer != test_labels).sum())
    return _power("word", errors, int((test_labels != majority).sum()), len(test))


def by_name(text: Column, labels: Codes, names: Sequence[str]) -> Power:
    """Whether the text contains its own label's name, word for word.

    A row without it is an error; the baseline's errors are those expected after shuffling the labels, so that a text
    that mentions every class says nothing.
    """
    text, labels = _sample(text, labels)
    if len(text) == 0 or len(names) > _NAMES:
        return _power("name", 0, 0, 0)
    empty, space = (pa.scalar(one, pa.large_string()) for one in ("", " "))
    padded = compute.binary_join_element_wise(empty, normalised(text), empty, space)
    spoken = normalised(pa.chunked_array([pa.array(names, pa.large_string())])).to_pylist()
    of_label = np.bincount(labels, minlength=len(names))
    own, by_chance = 0, 0.0
    for number in np.flatnonzero(of_label):
        if not spoken[number]:
            continue
        found = compute.match_substring(padded, f" {spoken[number]} ").to_numpy()
        own += int(found[labels == number].sum())
        by_chance += float(found.mean()) * int(of_label[number])
    return _power("name", len(text) - own, round(len(text) - by_chance), len(text))


def _power(
    how: How,
    errors: int,
    baseline_errors: int,
    rows: int,
    *,
    cover: float = 1.0,
    distinct: int = 0,
    new_share: float = 0.0,
) -> Power:
    skill = 1 - errors / baseline_errors if baseline_errors else None
    at_least = 1 - share_at_most(errors, baseline_errors) if baseline_errors else 0.0
    return Power(how, skill, max(0.0, at_least), rows, baseline_errors, cover, distinct, new_share)


def _power_number(
    how: How,
    labels: Floats,
    predicted: Floats,
    mean: float,
    *,
    cover: float = 1.0,
    distinct: int = 0,
    new_share: float = 0.0,
) -> Power:
    """`at_least` lets the residual be as much larger as a normal one is at 95 %: factor 1 + 1.645 sqrt(2 / n)."""
    rows = len(labels)
    total = float(((labels - mean) ** 2).sum())
    if rows == 0 or total <= 0 or not np.isfinite(total):
        return Power(how, None, 0.0, rows, 0, cover, distinct, new_share)
    unexplained = float(((labels - predicted) ** 2).sum()) / total
    bound = 1 - unexplained * (1 + 1.645 * float(np.sqrt(2 / rows)))
    return Power(how, 1 - unexplained, max(0.0, bound), rows, rows, cover, distinct, new_share)


def _majority(labels: Codes) -> int:
    return int(np.bincount(labels).argmax())


def _two_largest(
    owner: Codes, counts: npt.NDArray[np.int64], size: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Per owner its largest and second largest count, 0 where it has none; two arrays (size,) int64."""
    order = np.lexsort((-counts, owner))
    owner, counts = owner[order], counts[order]
    starts = np.flatnonzero(np.diff(owner, prepend=NULL))
    first, second = np.zeros(size, np.int64), np.zeros(size, np.int64)
    first[owner[starts]] = counts[starts]
    has_second = np.diff(starts, append=len(owner)) > 1
    second[owner[starts[has_second]]] = counts[starts[has_second] + 1]
    return first, second


def _edges(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.empty(0)
    ranges = max(1, min(_RANGES, len(known) // _ROWS_A_RANGE))
    return np.unique(np.quantile(known, np.linspace(0, 1, ranges + 1)[1:-1]))


def _ranges(values: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    places = np.searchsorted(edges, values, side="right").astype(np.int64)
    places[~np.isfinite(values)] = len(edges) + 1
    return places


def _between_means(train: Floats, labels: Floats, test: Floats) -> Floats:
    """The labels of test rows on the line through each range's mean value and mean label."""
    edges = _edges(train)
    places, size = _ranges(train, edges), len(edges) + 2
    number = np.bincount(places, minlength=size)
    means = np.bincount(places, weights=labels, minlength=size) / np.maximum(number, 1)
    is_known = np.isfinite(train)
    centres = np.bincount(places[is_known], weights=train[is_known], minlength=size) / np.maximum(number, 1)
    used = np.flatnonzero(number[:-1])
    of_null = float(means[-1] if number[-1] else labels.mean())
    if len(used) == 0:
        return np.full(len(test), of_null)
    line = np.interp(test, centres[used], means[used])
    return np.where(np.isfinite(test), line, of_null)


def _sample(text: Column, labels: Codes) -> tuple[Column, Codes]:
    """The labelled rows, evenly thinned to SAMPLE_ROWS; null text is empty text."""
    keep = np.flatnonzero(labels != NULL)
    if len(keep) > SAMPLE_ROWS:
        keep = keep[np.linspace(0, len(keep) - 1, SAMPLE_ROWS).astype(np.int64)]
    kept: Column = compute.fill_null(text.cast(pa.large_string()).take(keep), "")
    return kept, labels[keep]


def _words(text: Column) -> tuple[npt.NDArray[np.int64], Values]:
    """Every word of every text: the row it stands in, and the word."""
    lists = compute.split_pattern(normalised(text), " ").combine_chunks()
    rows, words = compute.list_parent_indices(lists), compute.list_flatten(lists)
    is_word = compute.not_equal(words, "")
    return rows.filter(is_word).to_numpy().astype(np.int64), words.filter(is_word)


def _pairs(rows: npt.NDArray[np.int64], words: Values, known: Values) -> tuple[npt.NDArray[np.int64], Codes]:
    """The distinct (row, word) pairs, words as positions in `known`; others are left out."""
    found = compute.index_in(words, value_set=known).cast(pa.int64())
    numbers: Codes = compute.fill_null(found, NULL).to_numpy(zero_copy_only=False)
    rows, numbers = rows[numbers != NULL], numbers[numbers != NULL]
    pairs = np.unique(rows * max(1, len(known)) + numbers)
    return pairs // max(1, len(known)), pairs % max(1, len(known))


def _best_label(words: Codes, labels: Codes, size: int) -> tuple[Codes, Floats]:
    """Per word the label it most often comes with, and its worth; 0 for a word in fewer than two rows."""
    base = int(labels.max()) + 1 if len(labels) else 1
    pairs, counts = np.unique(words * base + labels, return_counts=True)
    order = np.lexsort((-counts, pairs // base))
    pairs, counts = pairs[order], counts[order]
    starts = np.flatnonzero(np.diff(pairs // base, prepend=NULL))
    best, worth = np.zeros(size, np.int64), np.zeros(size)
    owner = pairs[starts] // base
    total = np.bincount(words, minlength=size)
    best[owner] = pairs[starts] % base
    worth[owner] = np.where(total[owner] > 1, counts[starts] / (total[owner] + 1), 0.0)
    return best, worth
