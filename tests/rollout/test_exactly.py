"""The chance of ever reaching a bound, added up path by path instead of simulated: no look between requests is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from everloop.rollout.bounded import refutes_at_least, refutes_at_most
from everloop.rollout.eprocess import harm_log_e, sample_ratio_log_e
from everloop.rollout.means import Arms, Badness, harm_in_means

Floats = NDArray[np.float64]


def ever(log_e: Callable[[int, Floats], Floats], *, chance: float, n: int, bound: float) -> float:
    """The probability that `log_e(n, k)` of k hits in n reaches log(bound) at one n at least, if a hit has this chance."""
    alive = np.ones(1)  # the probability of each number of hits without having reached it
    reached = 0.0
    for done in range(1, n + 1):
        alive = np.append(alive * (1 - chance), 0.0) + np.append(0.0, alive * chance)
        over = log_e(done, np.arange(done + 1.0)) >= np.log(bound)
        reached += float(alive[over].sum())
        alive[over] = 0.0
    return reached


def harm(share: float, ratio: float) -> Callable[[int, Floats], Floats]:
    return lambda n, k: harm_log_e(
        k[:, None], (n - k)[:, None], canary_share=[share], stage=[0], tolerated_ratio=ratio
    )


@pytest.mark.parametrize("share", [0.02, 0.1, 0.25, 0.5])
@pytest.mark.parametrize("ratio", [1.0, 1.2, 2.0])
def test_a_version_at_the_edge_is_taken_back_by_one_in_twenty_at_most(share: float, ratio: float) -> None:
    """Looked at after each of 600 bad requests; how many good ones there were makes no difference."""
    edge = share * ratio / (share * ratio + 1 - share)
    found = ever(harm(share, ratio), chance=edge, n=600, bound=20)
    assert 0.004 < found <= 0.05


def test_five_metrics_share_that_chance() -> None:
    assert 5 * ever(harm(0.1, 1.0), chance=0.1, n=600, bound=5 / 0.05) <= 0.05


def test_three_times_the_harm_is_found_after_few_bad_requests() -> None:
    tripled = 0.1 * 3 / (0.1 * 3 + 0.9)
    assert ever(harm(0.1, 1.0), chance=tripled, n=40, bound=20) > 0.5


@pytest.mark.parametrize("mean", [0.01, 0.1, 0.5])
def test_a_bound_is_ever_wrong_by_one_in_twenty_at_most(mean: float) -> None:
    def too_low(n: int, k: Floats) -> Floats:
        return np.array(
            [refutes_at_least([0, 1], mean, counts=[n - one, one]) if one < mean * n else 0.0 for one in k]
        )

    def too_high(n: int, k: Floats) -> Floats:
        return np.array(
            [refutes_at_most([0, 1], mean, counts=[n - one, one]) if one > mean * n else 0.0 for one in k]
        )

    assert ever(too_low, chance=mean, n=120, bound=20) <= 0.05
    assert ever(too_high, chance=mean, n=120, bound=20) <= 0.05


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_a_right_split_is_called_off_by_one_in_a_thousand_at_most(share: float) -> None:
    def off(n: int, k: Floats) -> Floats:
        return np.array([sample_ratio_log_e([int(one)], [n], canary_share=[share]) for one in k])

    assert ever(off, chance=share, n=250, bound=1_000) <= 0.001


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_bets_on_two_arms_ever_take_equal_ones_for_worse_by_one_in_twenty_at_most(rate: float) -> None:
    """Truths of both arms in turn, one of the canary's after four of the control's; looked at after each five of them."""
    alive = np.ones(
        (1, 1)
    )  # the probability of each number of wrong ones in both arms without having reached it
    reached = 0.0
    for n in range(1, 13):
        alive = stats.binom.pmf(np.subtract.outer(np.arange(n + 1), np.arange(n)), 1, rate) @ alive
        alive = (
            alive @ stats.binom.pmf(np.subtract.outer(np.arange(4 * n + 1), np.arange(4 * n - 3)), 4, rate).T
        )
        for bad, control_bad in np.argwhere(alive > 1e-9).tolist():
            if bad / n > control_bad / (4 * n):  # else it says nothing
                canary, control = (
                    Badness(np.repeat([1.0, 0.0], [one, of - one]), np.ones(of))
                    for one, of in ((bad, n), (control_bad, 4 * n))
                )
                if harm_in_means([Arms(canary, control, share=0.2)]) >= np.log(20):
                    reached += float(alive[bad, control_bad])
                    alive[bad, control_bad] = 0.0
    assert 0.001 < reached <= 0.05
