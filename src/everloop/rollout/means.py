"""Whether the mean of a bounded number is worse in the canary: a pure function of the numbers that both arms had.

For what is no yes or no of every request: a KPI of the user's, or whether the answers in the audit sample are wrong. Each
number is turned into badness, 0 (as good as can be) to 1.

Two kinds of evidence stand side by side, each with a part of the stake. By the *odds*: chance dealt the units and drew the
sample, so that it is known how often a bad one comes from the canary while both arms are alike (`eprocess`, `excess`); nothing
is stronger, and what changes in both arms alike changes nothing. By *bets* on each arm's own mean: these ask for no odds, so
that they also hold where units were looked at with different chances, or where the versions themselves decide what is
counted, such as the answers of one class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import NDArray

from everloop.rollout.bounded import MeanBounds, Told, mean_bounds, told_by
from everloop.rollout.eprocess import harm_log_e, log_mean_exp, sample_ratio_log_e
from everloop.rollout.evidence import Counts
from everloop.rollout.excess import excess_log_e, log_weights_of_rates, outcomes

Floats = NDArray[np.float64]

# What a bet on a difference stakes on each unit of the canary, all side by side, and on each of the control: as much in all,
# by the odds, or half or twice as much, for the odds may be off.
_STAKES: Floats = np.geomspace(0.02, 64.0, 15)
_LEANINGS: Floats = np.array([0.5, 1.0, 2.0])
_OF_LEANINGS: Floats = np.array([0.25, 0.5, 0.25])
_TRUST_IN_KNOWN = 0.7  # of the bets on a margin, when it is known what to expect
ALMOST_ALL = 0.999  # of what one has may be lost with one unit

_MEANS: Floats = np.concatenate([[0.0], np.geomspace(1e-4, 0.5, 30), np.linspace(0.5, 1.0, 17)[1:]])
_ROUNDS = 3  # each looks closer at where the least was
_HALVINGS = 18

# Parts of the stake that trust chance's odds. Answers of one class are dealt by the versions, which may say it more or less
# often; numbers that hardly vary are told sooner by bets.
ODDS_OF_TRUTHS, ODDS_OF_A_CLASS, ODDS_OF_KPIS = 0.9, 0.0, 0.5

# The odds are not trusted while the sample's own totals speak against them so strongly: reviewers do one arm first, say. A
# little doubt is enough, since doubt costs time and never validity.
ODDS_ARE_OFF = 4.0
ODDS_MAY_BE = (4.0, 100.0)  # concentrations: grossly other than they should, or a little


@dataclass(frozen=True)
class Badness:
    """What one arm had, a number a unit: badness, 0 to 1, and the inverse of the chance with which it was looked at."""

    values: Floats  # (n_units,)
    weights: Floats  # (n_units,)

    @property
    def told(self) -> Told:
        return told_by(self.values, self.weights)

    @property
    def mean(self) -> float | None:
        return self.told.mean

    @property
    def weight(self) -> float | None:
        """The weight that all units have, or None."""
        if not len(self.weights) or np.ptp(self.weights) > 1e-9 * self.weights[0]:
            return None
        return float(self.weights[0])


NOBODY = Badness(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Arms:
    """Both arms of one stage, and the share of the traffic that chance gave to the canary."""

    canary: Badness = NOBODY
    control: Badness = NOBODY
    share: float = 0.5

    @property
    def sampled_share(self) -> float | None:
        """The canary's share of what the sample looks at; None where units of one arm had different chances."""
        weights = [one.weight for one in (self.canary, self.control) if len(one.values)]
        if None in weights:
            return None
        canary, control = (one.weight or 1.0 for one in (self.canary, self.control))
        if not (len(self.canary.values) and len(self.control.values)):
            canary = control = 1.0
        looked_at = self.share / canary, (1.0 - self.share) / control
        return looked_at[0] / sum(looked_at)

    @property
    def counts(self) -> tuple[float, int, float, int]:
        """Badness and units of the canary, then of the control."""
        canary, control = self.canary.values, self.control.values
        return float(canary.sum()), len(canary), float(control.sum()), len(control)


@dataclass(frozen=True)
class MeanEvidence:
    """One metric: canary and control in each stage, and in the stage that is running, where a key may count again.

    `on_odds` is the part of the stake that trusts chance's odds: 0 where the versions decide what is counted. `known` is what
    was known of the control when the running stage began: badness and units, which only tells what to expect. A badness of 1
    is `span` in the metric's own unit, of 0 is `best`, rising or falling with it. `problem` says why there are no numbers.
    """

    metric: str
    stages: tuple[Arms, ...] = ()
    latest: Arms = Arms()
    on_odds: float = 0.0
    known: tuple[int, int] = (0, 0)
    best: float = 0.0
    span: float = 1.0  # negative where more is better
    problem: str | None = None

    def own(self, badness: float | None) -> float | None:
        """A mean in the metric's own unit."""
        return None if badness is None else self.best + self.span * badness

    @property
    def total(self) -> Counts:
        """Units of the whole rollout, and the badness that they add up to, rounded."""
        return sum((counts_of(arms) for arms in self.stages), Counts())


def counts_of(arms: Arms) -> Counts:
    bad, n, control_bad, control_n = arms.counts
    return Counts(round(bad), n, round(control_bad), control_n)


def bounds_of(shares: Badness, *, confidence: float) -> MeanBounds:
    """The bounds of one arm's mean, as `bounded.mean_bounds`."""
    told = shares.told
    return mean_bounds(told.numbers, counts=told.often, weights=told.weights, confidence=confidence)


def harm_in_means(
    stages: Sequence[Arms], *, tolerated_ratio: float = 1.0, tolerated: float = 0.0, on_odds: float = 0.0
) -> float:
    """How strongly the numbers say that the canary's mean badness is above what is tolerated: the logarithm of an e-value.

    Null hypothesis: the canary's mean is at most ``ratio * c + tolerated``, where c is the control's. By the odds, badness is
    counted as bad requests are (`eprocess.harm_log_e`): as ``r**x <= 1 + x (r - 1)``, a number x between 0 and 1 may stand
    where a count does. By bets, a stake s on "the canary is above" and t on "the control is below" are paid
    ``(1 + s (x - ratio * c - tolerated)) (1 + t (c - x))``, which is expected to gain nothing at the true c; nobody knows c,
    so the smallest over all c counts (`bounded` names the source). Stages multiply, for the bets each with a c of its own.

    Examples
    --------
    >>> worse, good = Badness(np.full(60, 0.9), np.ones(60)), Badness(np.full(60, 0.1), np.ones(60))
    >>> harm_in_means([Arms(worse, good)]) > log(20), harm_in_means([Arms(good, worse)]) < log(20)
    (True, True)
    >>> harm_in_means([Arms(worse, good)], on_odds=0.9) > log(20)
    True
    """
    bets = sum(_harm(arms, ratio=tolerated_ratio, tolerated=tolerated) for arms in stages)
    shares = _odds(stages) if on_odds and not tolerated else None
    if shares is None:
        return bets
    return _side_by_side(
        -inf if _are_off(stages, shares) else _harm_by_odds(stages, shares, ratio=tolerated_ratio),
        bets,
        on_odds=on_odds,
    )


def excess_of_means(
    arms: Arms, *, confidence: float = 0.95, on_odds: float = 0.0, known: tuple[int, int] = (0, 0)
) -> float:
    """The largest difference of the means, canary's minus control's, that the numbers do not refute, at any look.

    1 where an arm is empty; never below 0.

    Examples
    --------
    >>> clean = Badness(np.zeros(700), np.ones(700))
    >>> 0.0 < excess_of_means(Arms(clean, clean)) < 0.02
    True
    >>> excess_of_means(Arms(clean, NOBODY))
    1.0
    """
    if not (len(arms.canary.values) and len(arms.control.values)):
        return 1.0
    needed = -log(1.0 - confidence)
    possible, refuted = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (possible + refuted) / 2
        if refutes_excess(arms, middle, on_odds=on_odds, known=known) >= needed:
            refuted = middle
        else:
            possible = middle
    return refuted


def refutes_excess(
    arms: Arms, difference: float, *, on_odds: float = 0.0, known: tuple[int, int] = (0, 0)
) -> float:
    """How strongly the numbers say that the canary's mean exceeds the control's by less: the logarithm of an e-value.

    As `harm_in_means`: by the odds it is `excess.excess_log_e`, for ``a**x b**(1 - x) <= x a + (1 - x) b``; by bets at the
    control's mean c "the canary is below c + difference" and "the control is above c".

    Examples
    --------
    >>> clean = Badness(np.zeros(700), np.ones(700))
    >>> refutes_excess(Arms(clean, clean), 0.02) > log(20) > refutes_excess(Arms(clean, clean), 0.002)
    True
    """
    bets = _excess(arms, difference, known=known)
    shares = _odds([arms]) if on_odds else None
    if shares is None:
        return bets
    return _side_by_side(
        -inf if _are_off([arms], shares) else _excess_by_odds(arms, shares[0], difference, known=known),
        bets,
        on_odds=on_odds,
    )


def _side_by_side(by_odds: float, by_bets: float, *, on_odds: float) -> float:
    """A mean of e-processes is one; the part that trusted odds that are off is lost."""
    if on_odds >= 1.0:
        return by_odds
    return float(np.logaddexp(log(on_odds) + by_odds, log(1.0 - on_odds) + by_bets))


# --- by the odds


def _odds(stages: Sequence[Arms]) -> list[float] | None:
    shares = [arms.sampled_share for arms in stages]
    known = [one for one in shares if one is not None]
    return known if len(known) == len(shares) else None


def _are_off(stages: Sequence[Arms], shares: Sequence[float]) -> bool:
    """Whether the units that are known came from the arms as chance alone would not have sent them: at once, or by and by."""
    counts = [arms.counts for arms in stages]
    canary, every = [n for _, n, _, _ in counts], [n + m for _, n, _, m in counts]
    grossly, slightly = (
        sample_ratio_log_e(canary, every, canary_share=shares, concentration=k) for k in ODDS_MAY_BE
    )
    return float(np.logaddexp(grossly, slightly)) >= log(2 * ODDS_ARE_OFF)


def _harm_by_odds(stages: Sequence[Arms], shares: Sequence[float], *, ratio: float) -> float:
    counts = np.array([arms.counts for arms in stages]).reshape(-1, 4)
    return float(
        harm_log_e(
            counts[:, 0],
            counts[:, 2],
            canary_share=shares,
            stage=np.arange(len(stages)),
            tolerated_ratio=ratio,
        )
    )


def _excess_by_odds(arms: Arms, share: float, difference: float, *, known: tuple[int, int]) -> float:
    bad, n, control_bad, control_n = arms.counts
    seen = outcomes(bad, n, control_bad=control_bad, control_total=control_n)
    weights = log_weights_of_rates(*known)
    return float(excess_log_e(seen, canary_share=share, margin=difference, log_weights=weights))


# --- by bets


def _harm(arms: Arms, *, ratio: float, tolerated: float) -> float:
    canary, control = arms.canary.told, arms.control.told
    on_canary, on_control = stakes(arms.sampled_share or arms.share)
    return _least(
        falls=lambda means: _above(canary, ratio * means + tolerated, on_canary),
        rises=lambda means: _below(control, means, on_control),
        upto=1.0,
        log_weights=log_weights_of_bets(),
    )


def _excess(arms: Arms, difference: float, *, known: tuple[int, int]) -> float:
    canary, control = arms.canary.told, arms.control.told
    on_canary, on_control = stakes(arms.sampled_share or arms.share)
    return _least(
        falls=lambda means: _above(control, means, on_control),
        rises=lambda means: _below(canary, means + difference, on_canary),
        upto=1.0 - difference,
        log_weights=log_weights_of_bets(difference, known),
    )


def log_weights_of_bets(difference: float = 0.0, known: tuple[int, int] = (0, 0)) -> Floats:
    """Logarithm of the weight of each bet, (n_bets,): alike, or more on what pays best where both arms do what was known.

    Against a mean that is d higher that is ``d / (m (1 - m))`` of what one has, m the higher mean (Kelly 1956).
    """
    weights = np.full(len(_STAKES), 1.0 / len(_STAKES))
    bad, total = known
    if total and difference:
        mean = min((bad + 1.0) / (total + 2.0) + difference, 0.99)
        bell = np.exp(-0.5 * np.log(_STAKES * mean * (1.0 - mean) / difference) ** 2 / 0.5**2)
        weights = (1.0 - _TRUST_IN_KNOWN) * weights + _TRUST_IN_KNOWN * bell / bell.sum()
    return np.asarray(np.log(np.outer(weights, _OF_LEANINGS).ravel()), dtype=np.float64)


def stakes(share: float) -> tuple[Floats, Floats]:
    """On each unit of the canary and of the control, (n_bets,) each: what both arms win from an equal rise evens out.

    `share` is the canary's of what is looked at.
    """
    odds = share / max(1.0 - share, 1e-9)
    return np.repeat(_STAKES, len(_LEANINGS)), np.outer(_STAKES, odds * _LEANINGS).ravel()


def _above(told: Told, means: Floats, bets: Floats) -> Floats:
    """What bets on "the mean is above" made of 1, for each of `means`; it falls with them; (n_means, n_bets), logarithms."""
    at_most = ALMOST_ALL / np.maximum(means, 1e-9)
    return _capital(told, means, np.minimum(bets, at_most[:, None]))


def _below(told: Told, means: Floats, bets: Floats) -> Floats:
    """As `_above`, on "the mean is below"; it rises with the means."""
    at_most = ALMOST_ALL / np.maximum(1.0 - means, 1e-9)
    return _capital(told, means, -np.minimum(bets, at_most[:, None]))


def _capital(told: Told, means: Floats, bets: Floats) -> Floats:
    capital = np.zeros(bets.shape)
    if not len(told.numbers):
        return capital
    scale = told.weights / told.weights.max()
    for number, often, part in zip(told.numbers, told.often, scale, strict=True):
        capital += often * np.log1p(part * bets * (number - means)[:, None])
    return capital


def _least(
    *, falls: Callable[[Floats], Floats], rises: Callable[[Floats], Floats], upto: float, log_weights: Floats
) -> float:
    """The least of the mean over all bets, at any mean from 0 to `upto`: never more than it is.

    Between two means the sum is at least what falls at the upper one and what rises at the lower one. Each round parts the
    range in which such a bound is below what was found at a point.
    """
    means = upto * _MEANS
    least = inf
    for _ in range(_ROUNDS):
        down, up = falls(means), rises(means)
        at_points = log_mean_exp(down + up, log_weights)
        between = log_mean_exp(down[1:] + up[:-1], log_weights)
        least = float(between.min())
        near = np.flatnonzero(between <= at_points.min())
        means = np.linspace(means[near[0]], means[near[-1] + 1], len(_MEANS))
    return least
