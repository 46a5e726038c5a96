"""What a plan would do, before it starts: many made-up rollouts under the judge's own rules.

The evidence is computed by the same functions that judge a real rollout; only the requests are drawn by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.rollout.eprocess import harm_log_e
from everloop.rollout.excess import excess_log_e, log_weights_of_rates, outcomes
from everloop.rollout.judge import MetricRule, Rules
from everloop.rollout.made_up import MeansSideBySide, Numbers

# Bad rates of control and canary at a number of requests since the rollout began.
RatesAt = Callable[[int], tuple[float, float]]

_BAD, _GOOD = (0, 2), (1, 3)  # positions of the canary's and the control's among the four outcomes
_NINE_IN_TEN = float(np.log(10.0))  # exponential delays, by their mean


@dataclass(frozen=True)
class Forecast:
    """How `n_rollouts` made-up rollouts ended; `rolled_back`, `passed` and `on_hold` add up to 1.

    Of those that were rolled back the part `by_deadline` was no worse as far as anybody could tell: its time was over. Times are the median and the 90th percentile over all rollouts; None where fewer than that ended so.
    """

    n_rollouts: int
    rolled_back: float
    passed: float  # through all stages
    on_hold: float  # when the requests ran out
    requests_to_roll_back: tuple[float | None, float | None]
    requests_to_pass: tuple[float | None, float | None]
    by_deadline: float = 0.0


def steady(control_rate: float, canary_rate: float) -> RatesAt:
    """Rates that do not change with time."""
    return lambda _: (control_rate, canary_rate)


def simulate(
    shares: Sequence[float],
    rules: Rules,
    *,
    rates: Mapping[str, RatesAt],
    numbers: Mapping[str, Numbers] | None = None,
    reported_after: Mapping[str, float] | None = None,
    requests_at_most: int,
    look_every: int = 100,
    known_before: Mapping[str, tuple[int, int]] | None = None,
    ends_after: int | None = None,
    n_rollouts: int = 2_000,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Forecast:
    """Tell the chance and the time of each outcome of a plan under assumed rates.

    Parameters
    ----------
    shares : the canary's share in each judged stage, such as (0.1, 0.25, 0.5); a last stage of 1 is not judged
    rates : for each metric of the rules that is a yes or no of every request
    numbers : for each metric that `is_mean`, what is drawn and when it becomes known
    reported_after : for metrics that people report, after how many requests on average they do; at once where it is not named
    known_before : bad and all requests (or truths) of the control before the rollout, by metric
    ends_after : the requests after which the deadline takes back what is not decided
    progress : told after each look which part of the requests is sent, 0 to 1
    """
    known = {False: rates.keys(), True: (numbers or {}).keys()}
    if missing := [rule.metric for rule in rules.metrics if rule.metric not in known[rule.is_mean]]:
        raise Invalid(
            f"no rates are assumed for {sorted(missing)}; each metric of the rules needs them, or numbers if it is a mean. Add them."
        )
    made_up = MadeUpRollouts(
        tuple(shares),
        rules,
        known_before or {},
        numbers=numbers,
        reported_after=reported_after,
        n_rollouts=n_rollouts,
        seed=seed,
    )
    for sent in range(look_every, requests_at_most + 1, look_every):
        goes_on = made_up.look(sent, n_new=look_every, rates=rates)
        if ends_after is not None and sent >= ends_after:
            made_up.end(sent)
            break
        if not goes_on:
            break
        if progress is not None:
            progress(sent / requests_at_most)
    return made_up.forecast()


class MadeUpRollouts:
    """All rollouts side by side; arrays have one row a rollout. `counts` by metric: what is known, (n, n_stages, 4)."""

    def __init__(
        self,
        shares: tuple[float, ...],
        rules: Rules,
        known_before: Mapping[str, tuple[int, int]],
        *,
        numbers: Mapping[str, Numbers] | None = None,
        reported_after: Mapping[str, float] | None = None,
        n_rollouts: int,
        seed: int,
    ) -> None:
        self.shares = np.array(shares)
        self.rules = rules
        self.random = np.random.default_rng(seed)
        self.stage = np.zeros(n_rollouts, dtype=np.int64)
        self.ended_at = np.zeros(n_rollouts)  # requests; 0 while running
        self.rolled_back = np.zeros(n_rollouts, dtype=bool)
        self.by_deadline = np.zeros(n_rollouts, dtype=bool)
        self.counted = tuple(rule for rule in rules.metrics if not rule.is_mean)
        self.counts = {rule.metric: np.zeros((n_rollouts, len(shares), 4)) for rule in self.counted}
        self.reports = {
            metric: LateReports(self.counts[metric], after)
            for metric, after in (reported_after or {}).items()
            if metric in self.counts and after
        }
        self.means = [
            MeansSideBySide(
                rule,
                (numbers or {})[rule.metric],
                shares=self.shares,
                before=known_before.get(rule.metric, (0, 0)),
                n_rollouts=n_rollouts,
                e_bound=rules.e_bound,
                confidence=rules.confidence,
            )
            for rule in rules.metrics
            if rule.is_mean
        ]
        self.known = {
            rule.metric: np.tile(known_before.get(rule.metric, (0, 0)), (n_rollouts, 1))
            for rule in self.counted
        }
        self.log_weights = {metric: self._weights(known) for metric, known in self.known.items()}

    @staticmethod
    def _weights(known: NDArray[np.int64]) -> NDArray[np.float64]:
        pairs, of = np.unique(known, axis=0, return_inverse=True)
        return np.stack([log_weights_of_rates(int(bad), int(total)) for bad, total in pairs])[of]

    def look(self, sent: int, *, n_new: int, rates: Mapping[str, RatesAt]) -> bool:
        """Draw new requests, judge every running rollout; False when none runs any more."""
        running = np.flatnonzero(self.ended_at == 0)
        stage = self.stage[running]
        in_canary = self.random.binomial(n_new, self.shares[stage])
        asked = np.stack([in_canary, n_new - in_canary], axis=1)
        for rule in self.counted:
            control_rate, canary_rate = rates[rule.metric](sent)
            bad = self.random.binomial(asked, (canary_rate, control_rate))
            reports = self.reports.get(rule.metric)
            if reports is None:
                self.counts[rule.metric][running, stage] += _outcomes(asked, bad)
            else:
                reports.draw(running, stage, asked, bad)
                reports.arrive(self.random, n_new)
        for one in self.means:
            one.draw(self.random, running, stage, asked)
            one.arrive(self.random, running, n_new)
        return self.judge(sent)

    def end(self, sent: int) -> None:
        """Take back every rollout that is not decided."""
        running = self.ended_at == 0
        self.by_deadline |= running
        self.rolled_back |= running
        self.ended_at[running] = sent

    def judge(self, sent: int) -> bool:
        """Judge every running rollout on its counts; False when none runs any more."""
        running = np.flatnonzero(self.ended_at == 0)
        is_harmful = self.is_harmful(running)
        has_margins = any(rule.excess_at_most is not None for rule in self.rules.metrics)
        is_shown = np.full(len(running), has_margins)
        for rule in self.counted:
            is_shown &= self._is_shown(rule, running, self.stage[running])
        for one in self.means:
            # only these can go on: the judge's own function is asked of no others
            open_ones = np.flatnonzero(is_shown & ~is_harmful)
            is_shown[open_ones] = one.is_shown(running[open_ones], self.stage[running[open_ones]])
        self._move(running, is_harmful=is_harmful, is_shown=is_shown, sent=sent)
        return bool((self.ended_at == 0).any())

    def is_harmful(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rollouts, running or passed, the test takes back on what is known now."""
        found = np.zeros(len(rows), dtype=bool)
        for rule in self.counted:
            found |= self._is_harmful(rule, self.counts[rule.metric][rows])
        for one in self.means:
            open_ones = np.flatnonzero(~found)
            last = np.minimum(self.stage[rows[open_ones]], len(self.shares) - 1)
            found[open_ones] = one.is_harmful(rows[open_ones], last)
        return found

    def _is_harmful(self, rule: MetricRule, counts: NDArray[np.float64]) -> NDArray[np.bool_]:
        bad_in_canary, bad_in_control = (counts[..., kind] for kind in _BAD)
        log_e = harm_log_e(
            bad_in_canary,
            bad_in_control,
            canary_share=self.shares,
            stage=np.arange(len(self.shares)),
            tolerated_ratio=rule.tolerated_ratio,
        )
        return np.asarray(log_e >= np.log(self.rules.e_bound), dtype=np.bool_)

    def _is_shown(
        self, rule: MetricRule, running: NDArray[np.int64], stage: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        if rule.excess_at_most is None:
            return np.ones(len(running), dtype=bool)
        shown = np.zeros(len(running), dtype=bool)
        for now, share in enumerate(self.shares):
            here = stage == now
            rows = running[here]
            log_e = excess_log_e(
                self.counts[rule.metric][rows, now],
                canary_share=float(share),
                margin=rule.excess_at_most,
                log_weights=self.log_weights[rule.metric][rows],
            )
            shown[here] = log_e >= -np.log(1.0 - self.rules.confidence)
        return shown

    def _move(
        self,
        running: NDArray[np.int64],
        *,
        is_harmful: NDArray[np.bool_],
        is_shown: NDArray[np.bool_],
        sent: int,
    ) -> None:
        self.rolled_back[running[is_harmful]] = True
        self.ended_at[running[is_harmful]] = sent
        ahead = running[is_shown & ~is_harmful]
        for metric, counts in self.counts.items():
            of_stage = counts[ahead, self.stage[ahead]]
            self.known[metric][ahead] += np.stack(
                [of_stage[:, 2], of_stage[:, 2:].sum(axis=1)], axis=1
            ).astype(np.int64)
            if ahead.size:
                self.log_weights[metric][ahead] = self._weights(self.known[metric][ahead])
        self.stage[ahead] += 1
        for one in self.means:
            one.next_stage(ahead)
        self.ended_at[ahead[self.stage[ahead] == len(self.shares)]] = sent

    def forecast(self) -> Forecast:
        passed = (self.ended_at > 0) & ~self.rolled_back
        return Forecast(
            n_rollouts=len(self.stage),
            rolled_back=float(self.rolled_back.mean()),
            passed=float(passed.mean()),
            on_hold=float((self.ended_at == 0).mean()),
            requests_to_roll_back=median_and_p90(self.ended_at[self.rolled_back], len(self.stage)),
            requests_to_pass=median_and_p90(self.ended_at[passed], len(self.stage)),
            by_deadline=float(self.by_deadline.mean()),
        )


class LateReports:
    """Bad requests of one metric that people tell of later, each on its own; `counts` is what the judge knows.

    As the judge does, a request counts when nine reports in ten would have come; what is told after that turns a good one bad.
    """

    def __init__(self, counts: NDArray[np.float64], after: float) -> None:
        self.counts, self.after = counts, after
        self.late = np.zeros((*counts.shape[:2], 2), dtype=np.int64)  # (n_rollouts, stage, arm)
        self.young: list[
            tuple[float, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
        ] = []
        self.sent = 0

    def draw(
        self,
        rows: NDArray[np.int64],
        stage: NDArray[np.int64],
        asked: NDArray[np.int64],
        bad: NDArray[np.int64],
    ) -> None:
        """Send requests, (n_rows, arm), of which so many will be told of as bad."""
        self.young.append((self.sent + self.after * _NINE_IN_TEN, rows, stage, asked, bad))

    def arrive(self, random: np.random.Generator, n_requests: int) -> None:
        """Let time go by in which so many requests come."""
        done = random.binomial(self.late, -np.expm1(-n_requests / self.after))
        self.late -= done
        self.counts[..., _BAD] += done
        self.counts[..., _GOOD] -= done
        while self.young and self.young[0][0] <= self.sent:
            _, rows, stage, asked, bad = self.young.pop(0)
            known = random.binomial(bad, 0.9)
            self.counts[rows, stage] += _outcomes(asked, known)
            self.late[rows, stage] += bad - known
        self.sent += n_requests


def _outcomes(asked: NDArray[np.int64], bad: NDArray[np.int64]) -> NDArray[np.float64]:
    """Requests and bad ones, (n_rows, arm), as the four kinds of outcome."""
    return outcomes(bad[:, 0], asked[:, 0], control_bad=bad[:, 1], control_total=asked[:, 1])


def median_and_p90(ended_at: NDArray[np.float64], n_rollouts: int) -> tuple[float | None, float | None]:
    """Median and 90th percentile of the time of an outcome over all rollouts, those without it counted as never.

    Examples
    --------
    >>> median_and_p90(np.array([100.0, 300.0, 500.0]), 4)
    (300.0, None)
    """
    in_order = np.sort(ended_at)
    ranks = [int(np.ceil(share * n_rollouts)) for share in (0.5, 0.9)]
    median, p90 = (float(in_order[rank - 1]) if rank <= in_order.size else None for rank in ranks)
    return median, p90
