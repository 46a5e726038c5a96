from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score  # noqa: TID253  (referee)

from everloop.labels.agreement import IntArray, agreeing_pairs, cohen_kappa, krippendorff_alpha

# Four observers, twelve units, five values, some missing (0): Krippendorff, Computing Krippendorff's
# Alpha-Reliability (2011), section C. Its nominal alpha is .743.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3],
        [0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0],
    ]
)

opinions = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), min_size=2, max_size=40)


def arrays(pairs: list[tuple[int, int]]) -> tuple[IntArray, IntArray]:
    items, values = np.array(pairs, dtype=np.int64).T
    return items, values


def alpha_by_definition(items: IntArray, values: IntArray) -> float | None:
    """Alpha from every single pair, as the definition says: slow and plain."""
    groups = [values[items == item] for item in np.unique(items)]
    groups = [group for group in groups if len(group) > 1]
    every = [value for group in groups for value in group]
    pairs = list(combinations(every, 2))
    if not pairs or (expected := float(np.mean([a != b for a, b in pairs]))) == 0:
        return None
    observed = sum(
        float(np.mean([a != b for a, b in combinations(group, 2)])) * len(group) for group in groups
    )
    return 1 - observed / len(every) / expected


def test_alpha_of_the_published_example() -> None:
    _, units = PUBLISHED.shape
    items = np.broadcast_to(np.arange(units), PUBLISHED.shape)[PUBLISHED > 0]
    alpha = krippendorff_alpha(items, PUBLISHED[PUBLISHED > 0])
    assert alpha == pytest.approx(0.743, abs=0.0005)


def test_alpha_is_that_of_nltk() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 60)
    opinions = []
    for _annotator in range(3):
        for item, value in enumerate(truth):
            if rng.random() < 0.8:
                opinions.append((item, int(value) if rng.random() < 0.75 else int(rng.integers(0, 4))))
    # nltk.metrics.agreement.AnnotationTask(data).alpha(), NLTK 3.10.4, on these 143 opinions
    assert krippendorff_alpha(*arrays(opinions)) == pytest.approx(0.6774095005345959, abs=1e-12)


def test_alpha_by_hand() -> None:
    # Two annotators, four items, one disagreement: coincidences aa 4, bb 2, ab 1, ba 1, so D_o = 2/8;
    # five a and three b: D_e = 2 * 5 * 3 / (8 * 7) = 30/56.
    items, values = arrays([(0, 0), (0, 0), (1, 0), (1, 0), (2, 1), (2, 1), (3, 0), (3, 1)])
    assert krippendorff_alpha(items, values) == pytest.approx(1 - (2 / 8) / (30 / 56))


@given(opinions)
def test_alpha_is_its_definition(pairs: list[tuple[int, int]]) -> None:
    items, values = arrays(pairs)
    assert krippendorff_alpha(items, values) == pytest.approx(alpha_by_definition(items, values))


@given(opinions, st.permutations(range(4)), st.randoms())
def test_alpha_ignores_order_and_names_of_classes(
    pairs: list[tuple[int, int]], names: list[int], random: np.random.Generator
) -> None:
    items, values = arrays(pairs)
    renamed = [(item, names[value]) for item, value in pairs]
    random.shuffle(renamed)
    assert krippendorff_alpha(*arrays(renamed)) == pytest.approx(krippendorff_alpha(items, values))


def test_alpha_of_guesses_is_near_zero() -> None:
    rng = np.random.default_rng(7)
    items = np.repeat(np.arange(20_000), 3)
    values = rng.choice(4, size=len(items), p=[0.6, 0.2, 0.15, 0.05])
    # its standard error here is about 0.005
    assert krippendorff_alpha(items, values) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("pairs", [[(0, 1), (1, 1)], [(0, 1), (0, 1)], [(0, 2), (0, 2), (1, 2), (1, 2)]])
def test_alpha_is_undefined_without_pairs_or_variety(pairs: list[tuple[int, int]]) -> None:
    assert krippendorff_alpha(*arrays(pairs)) is None


def test_nothing_said_agrees_about_nothing() -> None:
    nothing = np.array([], dtype=np.int64)
    assert krippendorff_alpha(nothing, nothing) is None
    assert agreeing_pairs(nothing, nothing) is None
    assert cohen_kappa(nothing, nothing) is None


def test_kappa_by_hand() -> None:
    # Cohen's layout: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = .7, p_e = .5 * .6 + .5 * .4 = .5.
    first = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    second = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    assert cohen_kappa(first, second) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    first, second = arrays(pairs)
    if len(np.unique(np.concatenate([first, second]))) == 1:
        assert cohen_kappa(first, second) is None
    else:
        assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=60))
def test_kappa_is_the_same_both_ways_and_at_most_one(pairs: list[tuple[int, int]]) -> None:
    first, second = arrays(pairs)
    kappa = cohen_kappa(first, second)
    assert kappa == pytest.approx(cohen_kappa(second, first))
    assert kappa is None or kappa <= 1 + 1e-12


def test_agreeing_pairs_counts_each_pair_once() -> None:
    # item 0: three pairs, one agrees; item 1: one pair, agrees; item 2: nobody to compare with
    items, values = arrays([(0, 0), (0, 0), (0, 1), (1, 2), (1, 2), (2, 0)])
    assert agreeing_pairs(items, values) == pytest.approx(2 / 4)
