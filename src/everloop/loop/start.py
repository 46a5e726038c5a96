"""What starts pipelines by itself: schedules, retraining policies, triggers and limits, and the job behind triggers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from everloop import jobs, pipelines, retraining, triggers
from everloop.errors import Conflict, Invalid, NotFound
from everloop.jobs import CatchUp, Lane, Lease
from everloop.loop.declare import (
    AllMissed,
    Collection,
    DeclaredLimit,
    DeclaredPool,
    DeclaredRetraining,
    DeclaredScoring,
    DeclaredTrigger,
)
from everloop.loop.loading import Loop
from everloop.retraining import Called, Finished, singles_of
from everloop.storage import Tx
from everloop.triggers import PIPELINE, Trigger, lane_of, schedule_of
from everloop.workspace import Workspace

_CANCEL_EVERY_S = 0.5
SCORING = (
    "score "  # before the dataset of the answers, in place of a pipeline's name: no function is called so
)


def check_starts(loop: Loop) -> None:
    """Raises Invalid for triggers that cannot do what they say: parameters that do not fit, circles, names that clash."""
    for declared in loop.declared.of(DeclaredTrigger):
        if declared.pipeline.name not in loop.pipelines:
            raise Invalid(
                f"the trigger {declared.name!r} runs the pipeline {declared.pipeline.name!r}, which the loop file does not "
                "name. Define or import it at the top level."
            )
        may_be_given = declared.when is not None and Called() in singles_of(declared.when)
        takes = triggers.takes_of(declared.pipeline)
        is_called = may_be_given or (declared.cron is None and declared.when is None)
        params = {name: value for name, value in declared.params.items() if value != triggers.INSTANT}
        given = dict.fromkeys((name for name in declared.params if name not in params), "")
        triggers.check_params(declared.pipeline.name, takes, {**params, **given}, some_follow=is_called)
        if declared.cron is not None:
            jobs.check_cron(declared.cron, declared.time_zone)
            _catch_up(declared)
    for scored in loop.declared.of(DeclaredScoring):
        if scored.cron is not None:
            jobs.check_cron(scored.cron, scored.time_zone)
        for other in loop.declared.declared:
            if (other.kind, other.name) in (("dataset", scored.name), ("trigger", scored.trigger)):
                raise Invalid(
                    f"the answers of the scoring {scored.name!r} are a dataset of that name, begun by the trigger "
                    f"{scored.trigger!r}; the loop file declares a {other.kind} of that name. Rename one."
                )
    for trained in loop.declared.of(DeclaredRetraining):
        if trained.when is not None and Called() in singles_of(trained.when):
            raise Invalid(
                f"retraining of {trained.name!r} waits for called(), but only a trigger can be called. Declare one on its "
                "pipeline: el.trigger(train, when=el.called())."
            )
    _check_circles(loop.declared.of(DeclaredTrigger))


def _check_circles(declared: list[DeclaredTrigger]) -> None:
    """A pipeline whose end starts itself, over however many others, would never stop."""
    after: dict[str, set[str]] = {}
    for one in declared:
        for single in singles_of(one.when) if one.when is not None else ():
            if isinstance(single, Finished):
                after.setdefault(single.pipeline, set()).add(one.pipeline.name)
    for start in after:
        reached, ahead = set[str](), [start]
        while ahead:
            for following in after.get(ahead.pop(), set()) - reached:
                reached.add(following)
                ahead.append(following)
        if start in reached:
            raise Invalid(
                f"the pipeline {start!r} starts again when it has finished (triggers on el.finished lead back to it), so "
                "that it would never stop. Take one of these triggers out."
            )


def set_starts(ws: Workspace, tx: Tx, declared: Collection) -> None:
    """Put what a loop file says of starting pipelines in force, and nothing else."""
    limits = [
        Lane(lane_of(one.name), one.at_most, one.when_full, None if one.pool is None else one.pool.name)
        for one in declared.of(DeclaredLimit)
    ]
    jobs.set_limits(tx, limits, {one.name: one.at_most for one in declared.of(DeclaredPool)})
    trained = declared.of(DeclaredRetraining)
    for one in trained:
        _set_retraining(ws, tx, one)
    for name in retraining.keep_policies(tx, [one.model.name for one in trained]):
        jobs.forget_schedule(tx, _training(name))
    scored = declared.of(DeclaredScoring)
    triggers.set_triggers(
        ws, tx, [*map(_trigger, declared.of(DeclaredTrigger)), *map(_scoring_trigger, scored)]
    )
    for started in declared.of(DeclaredTrigger):
        _set_schedule(ws, tx, started)
    for one_scored in scored:
        _set_scoring_schedule(ws, tx, one_scored)


def _set_retraining(ws: Workspace, tx: Tx, declared: DeclaredRetraining) -> None:
    model = declared.model
    lane = lane_of(model.pipeline.name)
    retraining.set_policy(ws, tx, model.name, condition=declared.when, cooldown=declared.cooldown, lane=lane)
    if declared.cron is None:
        jobs.forget_schedule(tx, _training(model.name))
        return
    jobs.schedule(
        ws,
        tx,
        _training(model.name),
        cron=declared.cron,
        kind=retraining.TRAIN,
        payload={"model": model.name},
        time_zone=declared.time_zone,
        lane=lane,
    )


def _training(model: str) -> str:
    return f"train {model}"


def _trigger(declared: DeclaredTrigger) -> Trigger:
    return Trigger(
        declared.name,
        declared.pipeline.name,
        declared.params,
        triggers.takes_of(declared.pipeline),
        declared.when,
        declared.quiet,
        declared.longest_wait,
        declared.cooldown,
        declared.priority,
    )


def _scoring_trigger(declared: DeclaredScoring) -> Trigger:
    return Trigger(declared.trigger, f"{SCORING}{declared.name}", {}, {}, declared.when)


def _set_scoring_schedule(ws: Workspace, tx: Tx, declared: DeclaredScoring) -> None:
    name, pipeline = schedule_of(declared.trigger), f"{SCORING}{declared.name}"
    if declared.cron is None:
        jobs.forget_schedule(tx, name)
        return
    jobs.schedule(
        ws,
        tx,
        name,
        cron=declared.cron,
        kind=PIPELINE,
        payload={"pipeline": pipeline, "params": {}, "trigger": declared.trigger},
        time_zone=declared.time_zone,
        lane=lane_of(pipeline),
    )


def _set_schedule(ws: Workspace, tx: Tx, declared: DeclaredTrigger) -> None:
    name = schedule_of(declared.name)
    if declared.cron is None:
        jobs.forget_schedule(tx, name)
        return
    payload = {
        "pipeline": declared.pipeline.name,
        "params": dict(declared.params),
        "trigger": declared.name,
    }
    jobs.schedule(
        ws,
        tx,
        name,
        cron=declared.cron,
        kind=PIPELINE,
        payload=payload,
        time_zone=declared.time_zone,
        catch_up=_catch_up(declared),
        jitter_s=declared.jitter_s,
        priority=declared.priority,
        lane=lane_of(declared.pipeline.name),
    )


def _catch_up(declared: DeclaredTrigger) -> CatchUp:
    stated = declared.catch_up
    return CatchUp("all", stated.at_most) if isinstance(stated, AllMissed) else CatchUp(stated)


def params_of(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a job runs its pipeline with, with the instant in its place."""
    params = payload["params"].items()
    return {name: payload["instant"] if value == triggers.INSTANT else value for name, value in params}


@contextmanager
def ending_with(ws: Workspace, lease: Lease, run_id: str) -> Iterator[None]:
    """While a job runs a pipeline: when the job is cancelled, its run is, too."""
    is_over = threading.Event()

    def end() -> None:
        while True:
            try:
                pipelines.cancel(ws, run_id, reason=f"its job {lease.job.id} was cancelled")
            except Conflict:
                return  # it ended by itself
            except NotFound:  # it has not begun yet
                if is_over.wait(_CANCEL_EVERY_S):
                    return
            else:
                return

    lease.when_cancelled.append(end)
    try:
        yield
    finally:
        is_over.set()
