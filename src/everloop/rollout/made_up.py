"""Means of many made-up rollouts at once: the audit sample's truths and the user's KPIs, drawn by chance and by and by known.

Who decides is the judge's own evidence (`means`). As it looks for the worst mean of the control, rollout by rollout, a limit of
it is computed for all at once first, at one mean; only where that limit would decide is the judge's function asked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everloop.rollout.eprocess import harm_log_e, log_mean_exp
from everloop.rollout.excess import excess_log_e, log_weights_of_rates
from everloop.rollout.judge import MetricRule
from everloop.rollout.means import (
    ALMOST_ALL,
    ODDS_OF_TRUTHS,
    Arms,
    Badness,
    harm_in_means,
    log_weights_of_bets,
    refutes_excess,
    stakes,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Numbers:
    """What both arms' numbers are supposed to be; of arms the canary comes first.

    `after` is how many requests come until a number is known, on average; each waits on its own, so that half are known after
    0.7 of that and nine in ten after 2.3 times. None is known before `not_before` requests have come. `learns` says whether what is known of the control tells what to expect.
    """

    values: Floats  # (n_values,) badness
    chances: (
        Floats  # (arm, n_values): of a request to have this value and to become known; the rest never does
    )
    weights: Floats | None = (
        None  # (arm, n_values): the inverse of the chance with which each was looked at; alike
    )
    after: tuple[float, float] = (0.0, 0.0)
    not_before: float = 0.0
    on_odds: float = ODDS_OF_TRUTHS
    learns: bool = True

    @property
    def weighed(self) -> Floats:
        return np.ones(self.chances.shape) if self.weights is None else self.weights

    @property
    def is_even(self) -> bool:
        """Whether all numbers of an arm were looked at with one chance, so that odds are known."""
        return bool((np.ptp(self.weighed, axis=1) == 0).all())


class MeansSideBySide:
    """One metric in all rollouts: what is known of each stage and what waits, both (n_rollouts, stage, arm, n_values)."""

    def __init__(
        self,
        rule: MetricRule,
        numbers: Numbers,
        *,
        shares: Floats,
        before: tuple[int, int],
        n_rollouts: int,
        e_bound: float,
        confidence: float,
    ) -> None:
        self.rule, self.numbers, self.shares = rule, numbers, shares
        self.to_harm, self.to_show = float(np.log(e_bound)), -float(np.log(1.0 - confidence))
        self.known = np.zeros((n_rollouts, len(shares), 2, len(numbers.values)), dtype=np.int64)
        self.waiting = self.known.copy()
        self.young: list[
            tuple[float, Ints, Ints, Ints]
        ] = []  # due after so many requests: rows, their stages, what waits
        self.sent = 0
        self.before = np.array(before, dtype=np.int64)  # known of the control, when the rollouts began
        self.expected = np.tile(self.before, (n_rollouts, 1))  # and when the running stage of each did
        self.of_rates, self.of_bets = self._weights(self.expected)

    def draw(self, random: np.random.Generator, rows: Ints, stage: Ints, asked: Ints) -> None:
        """Send new requests, `asked` (n_rows, arm), of which numbers become known later."""
        of = [
            random.multinomial(n, [*chances, max(0.0, 1.0 - chances.sum())])[:, :-1]
            for n, chances in zip(asked.T, self.numbers.chances, strict=True)
        ]
        self.young.append((self.sent + self.numbers.not_before, rows, stage, np.stack(of, axis=1)))

    def arrive(self, random: np.random.Generator, rows: Ints, n_requests: int) -> None:
        """Let time go by in which so many requests come."""
        while self.young and self.young[0][0] <= self.sent:
            _, of, stage, new = self.young.pop(0)
            self.waiting[of, stage] += new
        self.sent += n_requests
        soon = [1.0 if not after else -np.expm1(-n_requests / after) for after in self.numbers.after]
        waiting = self.waiting[rows]
        done = random.binomial(waiting, np.array(soon)[:, None]) if min(soon) < 1.0 else waiting
        self.waiting[rows] -= done
        self.known[rows] += done

    def is_harmful(self, rows: Ints, stage: Ints) -> Bools:
        """Which of these rollouts the test takes back, (n_rows,)."""
        known, shares = self.known[rows], self._sampled(self.shares)
        bad = known @ self.numbers.values  # (n_rows, stage, arm)
        by_odds = harm_log_e(
            bad[..., 0],
            bad[..., 1],
            canary_share=shares,
            stage=np.arange(len(shares)),
            tolerated_ratio=self.rule.tolerated_ratio,
        )
        bets = sum(
            self._limit(known[:, one], share, ratio=self.rule.tolerated_ratio, more=self.rule.tolerated)
            for one, share in enumerate(shares[: int(stage.max(initial=0)) + 1])
        )

        def exactly(at: int) -> float:
            return harm_in_means(
                [self._arms(known[at, one], float(self.shares[one])) for one in range(stage[at] + 1)],
                tolerated_ratio=self.rule.tolerated_ratio,
                tolerated=self.rule.tolerated,
                on_odds=self.numbers.on_odds,
            )

        on_odds = 0.0 if self.rule.tolerated else self.numbers.on_odds
        return self._decided(by_odds, np.asarray(bets), exactly, needed=self.to_harm, on_odds=on_odds)

    def is_shown(self, rows: Ints, stage: Ints) -> Bools:
        """In which of these rollouts the running stage shows the margin, (n_rows,)."""
        margin = self.rule.excess_at_most
        shown = np.ones(len(rows), dtype=bool)
        if margin is None:
            return shown
        for now in np.unique(stage):
            here = np.flatnonzero(stage == now)
            shown[here] = self._is_shown(rows[here], int(now), margin)
        return shown

    def _is_shown(self, rows: Ints, stage: int, margin: float) -> Bools:
        known, share = self.known[rows, stage], float(self._sampled(self.shares)[stage])
        n, bad = known.sum(axis=2), known @ self.numbers.values  # (n_rows, arm)
        by_odds = excess_log_e(
            np.stack([bad[:, 0], n[:, 0] - bad[:, 0], bad[:, 1], n[:, 1] - bad[:, 1]], axis=1),
            canary_share=share,
            margin=margin,
            log_weights=self.of_rates[rows],
        )
        bets = self._limit(known, share, more=margin, is_excess=True, log_weights=self.of_bets[rows])

        def exactly(at: int) -> float:
            bad, total = self.expected[rows[at]]
            return refutes_excess(
                self._arms(known[at], float(self.shares[stage])),
                margin,
                on_odds=self.numbers.on_odds,
                known=(int(bad), int(total)),
            )

        # an arm without numbers shows nothing
        bets, by_odds = (np.where((n > 0).all(axis=1), one, -np.inf) for one in (bets, by_odds))
        return self._decided(by_odds, bets, exactly, needed=self.to_show, on_odds=self.numbers.on_odds)

    def next_stage(self, rows: Ints) -> None:
        """These begin a stage: what is known of the control by now tells what to expect in it."""
        if not self.numbers.learns:
            return
        control = self.known[rows, :, 1].sum(axis=1)  # (n_rows, n_values)
        weighed, total = control * self.numbers.weighed[1], control.sum(axis=1)
        bad = total * (weighed @ self.numbers.values) / np.maximum(weighed.sum(axis=1), 1e-9)
        self.expected[rows] = self.before + np.stack([np.round(bad).astype(np.int64), total], axis=1)
        self.of_rates[rows], self.of_bets[rows] = self._weights(self.expected[rows])

    def _weights(self, expected: Ints) -> tuple[Floats, Floats]:
        """Those of the alternatives and of the bets on the margin, (n_rows, ...), by what is expected of the control."""
        if not len(expected):
            return self.of_rates[:0], self.of_bets[:0]
        pairs, of = np.unique(expected, axis=0, return_inverse=True)
        known = [(int(bad), int(total)) for bad, total in pairs]
        margin = self.rule.excess_at_most or 0.0
        return (
            np.array([log_weights_of_rates(*one) for one in known])[of.ravel()],
            np.array([log_weights_of_bets(margin, one) for one in known])[of.ravel()],
        )

    def _decided(
        self, by_odds: Floats, bets: Floats, exactly: Callable[[int], float], *, needed: float, on_odds: float
    ) -> Bools:
        trusted = on_odds if self.numbers.is_even else 0.0
        with np.errstate(divide="ignore"):
            at_most = np.logaddexp(np.log(trusted) + by_odds, np.log(1.0 - trusted) + bets)
        over = at_most >= needed
        over[over] = [exactly(int(at)) >= needed for at in np.flatnonzero(over)]
        return np.asarray(over, dtype=np.bool_)

    def _limit(
        self,
        known: Ints,
        share: float,
        *,
        ratio: float = 1.0,
        more: float = 0.0,
        is_excess: bool = False,
        log_weights: Floats | None = None,
    ) -> Floats:
        """The bets on one stage at one mean of the control, where both arms are as alike as they may be: at least the least."""
        values, weights = self.numbers.values, self.numbers.weighed
        seen = weights * (known > 0)
        scale = seen / np.maximum(seen.max(axis=2, keepdims=True), 1e-300)  # (n_rows, arm, n_values)
        weighed = known * weights
        sums, of = weighed @ values, weighed.sum(axis=2)  # (n_rows, arm)
        pooled = (sums.sum(axis=1) - of[:, 0] * more) / np.maximum(ratio * of[:, 0] + of[:, 1], 1e-9)
        control = np.clip(pooled, 1e-6, (1.0 - more if is_excess else 1.0) - 1e-6)
        capital = np.zeros((len(known), len(log_weights_of_bets())))
        for arm, (stake, mean) in enumerate(
            zip(stakes(share), (ratio * control + more, control), strict=True)
        ):
            is_above = (arm == 0) != is_excess
            room = np.maximum(mean if is_above else 1.0 - mean, 1e-9)[:, None]
            put = np.minimum(stake, ALMOST_ALL / room) * (1.0 if is_above else -1.0)
            paid = np.log1p((scale[:, arm] * (values - mean[:, None]))[:, :, None] * put[:, None, :])
            capital += np.einsum("rv,rvb->rb", known[:, arm], paid)
        return log_mean_exp(capital, log_weights_of_bets() if log_weights is None else log_weights)

    def _arms(self, known: Ints, share: float) -> Arms:
        """What one rollout knows of one stage, (arm, n_values), as the judge is told it."""
        canary, control = (
            Badness(np.repeat(self.numbers.values, of), np.repeat(weights, of))
            for of, weights in zip(known, self.numbers.weighed, strict=True)
        )
        return Arms(canary, control, share)

    def _sampled(self, shares: Floats) -> Floats:
        """The canary's shares of what is looked at, where that is known."""
        if not self.numbers.is_even:
            return shares
        canary, control = shares / self.numbers.weighed[0, 0], (1.0 - shares) / self.numbers.weighed[1, 0]
        return np.asarray(canary / (canary + control))
