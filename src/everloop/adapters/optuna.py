"""Optuna's tree-structured Parzen estimator as a searcher: trials near those that did well (`everloop[optuna]`).

Optuna keeps nothing: each proposal is made from the trials that the search's own table has, so that a search which was
killed goes on as if nothing had happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from everloop.pipelines import Between
from everloop.searches import Choice, Plan, Trial

_STATES = {
    "done": TrialState.COMPLETE,
    "running": TrialState.RUNNING,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


class Tpe:
    """Proposes trials by what the earlier ones gave; those that run count as no better than the worst."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._space = {name: _distribution(one) for name, one in plan.space.items()}

    def propose(self, number: int, trials: Sequence[Trial]) -> dict[str, Any] | None:
        seed = (self._plan.seed * 1_000_003 + number) % (
            1 << 32
        )  # another one each time: the sampler is made anew
        study = optuna.create_study(
            direction="maximize" if self._plan.highest else "minimize",
            sampler=TPESampler(seed=seed, constant_liar=True),
        )
        study.add_trials([self._known(one) for one in trials])
        return dict(study.ask(self._space).params)

    def _known(self, trial: Trial) -> FrozenTrial:
        told = {} if trial.value is None or trial.reached is None else {trial.reached: trial.value}
        return create_trial(
            state=_STATES[trial.state],
            value=trial.value if trial.state == "done" else None,
            params=dict(trial.params),
            distributions=self._space,
            intermediate_values=told,
        )


def _distribution(one: Choice | Between) -> BaseDistribution:
    if isinstance(one, Choice):
        return CategoricalDistribution(one.values)
    if one.is_whole:
        return IntDistribution(int(one.low), int(one.high), log=one.log)
    return FloatDistribution(one.low, one.high, log=one.log)


# what is proposed is told by the search; Optuna says it on stderr, too, for each trial that is added
optuna.logging.set_verbosity(optuna.logging.WARNING)
