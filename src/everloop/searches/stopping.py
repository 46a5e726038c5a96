"""Which trials are not worth going on with: pure functions of what they and the others told at the same step."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everloop.errors import Invalid

History = Mapping[int, float]
"""What a trial told of the measure that counts, by step. Higher is better here."""


@dataclass(frozen=True)
class Median:
    """Stop a trial whose best so far is below the median of what the others had at that step on average.

    Not before step `from_step`, nor before `trials` others have told of it.
    """

    from_step: int = 1
    trials: int = 3

    def verdict(self, own: History, others: Sequence[History]) -> str | None:
        """Why the trial is stopped; None: it goes on."""
        step = max(own, default=-1)
        if step < self.from_step:
            return None
        at_step = [
            statistics.fmean(value for told, value in other.items() if told <= step)
            for other in others
            if max(other, default=-1) >= step
        ]
        if len(at_step) < self.trials:
            return None
        best, usual = max(own.values()), statistics.median(at_step)
        if best >= usual:
            return None
        return f"at step {step} its best was {best:.4g}, and the median of {len(at_step)} others {usual:.4g}"

    def as_json(self) -> dict[str, Any]:
        return {"median": [self.from_step, self.trials]}


@dataclass(frozen=True)
class Halving:
    """At the steps `least`, `least` x `factor`, ... only the best of each `factor` trials go on.

    A trial is compared with those that were there before it (asynchronous successive halving), so that none waits.
    """

    least: int = 1
    factor: int = 3

    def verdict(self, own: History, others: Sequence[History]) -> str | None:
        """As `Median.verdict`."""
        rung = self._rung(own)
        if rung is None:
            return None
        value = _at(own, rung)
        there = [value, *(_at(other, rung) for other in others if max(other, default=-1) >= rung)]
        if len(there) < self.factor:
            return None
        kept = sorted(there, reverse=True)[len(there) // self.factor - 1]
        if value >= kept:
            return None
        return f"at step {rung} it had {value:.4g}, and the best {len(there) // self.factor} of {len(there)} {kept:.4g} or more"

    def _rung(self, own: History) -> int | None:
        reached = max(own, default=-1)
        rung = self.least
        if reached < rung:
            return None
        while rung * self.factor <= reached:
            rung *= self.factor
        return rung

    def as_json(self) -> dict[str, Any]:
        return {"halving": [self.least, self.factor]}


Rule = Median | Halving


def median(*, from_step: int = 1, trials: int = 3) -> Median:
    """Stop trials that do worse than half of the others did; not before `from_step`, nor before so many `trials` told."""
    if trials < 1:
        raise Invalid(f"median(trials={trials}): a trial is compared with 1 other or more.")
    return Median(from_step, trials)


def halving(*, least: int = 1, factor: int = 3) -> Halving:
    """At the steps `least`, `least` x `factor`, ... let only the best of each `factor` trials go on."""
    if least < 1 or factor < 2:
        raise Invalid(f"halving(least={least}, factor={factor}): least is 1 or more, factor 2 or more.")
    return Halving(least, factor)


def rule_from_json(stored: Mapping[str, Any] | None) -> Rule | None:
    """A rule from its stored form."""
    if stored is None:
        return None
    return Median(*stored["median"]) if "median" in stored else Halving(*stored["halving"])


def _at(history: History, step: int) -> float:
    """The newest value that was told up to a step, else the first."""
    told = [one for one in history if one <= step]
    return history[max(told)] if told else history[min(history)]
