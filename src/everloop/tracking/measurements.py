"""What is written down during a run: parameters, tags, and metrics with their histories."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from everloop.errors import Conflict, Invalid, NotFound
from everloop.storage import Tx
from everloop.tracking import input_store, store
from everloop.tracking.lifecycle import need_run, parent_of, unknown_run
from everloop.tracking.records import (
    NAME_TAG,
    PARAM_LENGTH,
    PARENT_TAG,
    TAG_LENGTH,
    Axis,
    History,
    MetricPoint,
    ModelMetric,
    check_name,
    check_texts,
    shown,
)
from everloop.tracking.thinning import thin
from everloop.workspace import Workspace

_POINTS_A_TRANSACTION = 5_000  # about 50 ms on SQLite: who else writes waits no longer than that
_INT64 = range(-(1 << 63), 1 << 63)


def log_params(ws: Workspace, run_id: str, values: Mapping[str, Any]) -> None:
    """Write down what the run was told to do: texts as they are, other values as JSON. All or none are kept.

    Raises
    ------
    Conflict
        A parameter has another value already: a parameter does not change during a run.
    Invalid
        A name or value cannot be stored: names up to 250 characters, values up to 6,000.
    NotFound
        There is no such run.
    """
    texts = check_texts("a parameter", values, length=PARAM_LENGTH)
    if texts:
        ws.write(lambda tx: _add_params(tx, run_id, texts))


def log_tags(ws: Workspace, run_id: str, values: Mapping[str, str]) -> None:
    """Set tags of a run; a tag may change. Raises Invalid (values up to 8,000 characters) and NotFound."""
    texts = check_texts("a tag", values, length=TAG_LENGTH)

    def change(tx: Tx) -> None:
        need_run(tx, run_id)
        _put_tags(tx, run_id, texts)

    if texts:
        ws.write(change)


def remove_tag(ws: Workspace, run_id: str, name: str) -> None:
    """Remove a tag of a run. Raises NotFound for one that is not there, Invalid for the run's name, Conflict."""
    if name == NAME_TAG:
        raise Invalid(f"the tag {NAME_TAG} is the run's name, which it always has. Set it to another.")

    def change(tx: Tx) -> None:
        need_run(tx, run_id)
        if name == PARENT_TAG:
            store.update_run(tx, run_id, {"parent": None})
        elif not store.remove_text(tx, store.tags, run_id, name):
            raise NotFound(f"run {run_id} has no tag {shown(name)}.")

    ws.write(change)


def add_to_tag(ws: Workspace, run_id: str, name: str, change_text: Callable[[str | None], str]) -> None:
    """Change a tag by what it is now, None when it is not there, with nobody changing it in between. Raises as `log_tags`."""

    def change(tx: Tx) -> None:
        tx.lock(f"tag {run_id}")
        need_run(tx, run_id)
        text = change_text(store.text_of(tx.connection, store.tags, run_id, name))
        store.put_texts(tx, store.tags, run_id, check_texts("a tag", {name: text}, length=TAG_LENGTH))

    ws.write(change)


def log_batch(
    ws: Workspace,
    run_id: str,
    *,
    points: Sequence[MetricPoint] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    of_models: Sequence[ModelMetric] = (),
) -> None:
    """Write down points, parameters and tags of a run in one transaction: all of it is kept, or nothing.

    `of_models` are those points that say something of a logged model. Raises as `log_points`, `log_params` and
    `log_tags`.
    """
    checked = [checked_point(point) for point in points]
    param_texts = check_texts("a parameter", params or {}, length=PARAM_LENGTH)
    tag_texts = check_texts("a tag", tags or {}, length=TAG_LENGTH)

    def change(tx: Tx) -> None:
        need_run(tx, run_id)
        if param_texts:
            _put_params(tx, run_id, param_texts)
        if checked:
            store.insert_points(tx, run_id, checked)
        if of_models:
            input_store.put_model_metrics(tx, run_id, of_models)
        if tag_texts:
            _put_tags(tx, run_id, tag_texts)

    ws.write(change)


def log_metrics(
    ws: Workspace, run_id: str, values: Mapping[str, float], *, step: int = 0, at: datetime | None = None
) -> None:
    """Add one value to the history of each metric, in one transaction; see `log_points`.

    Parameters
    ----------
    step
        How far the training was, in whatever the caller counts.
    at
        Domain time; None: now.
    """
    moment = at or ws.now()
    log_points(ws, run_id, [MetricPoint(name, value, step, moment) for name, value in values.items()])


def log_points(ws: Workspace, run_id: str, points: Sequence[MetricPoint]) -> None:
    """Add points to the histories of a run's metrics.

    NaN and infinities are kept as they are: a loss that turned NaN is worth knowing. A point equal to one that is
    there changes nothing, so the call may be repeated after a failure. 5,000 points share a transaction: a failure
    in the middle of more keeps the first ones.

    Raises
    ------
    Invalid
        A value is no number, a step is no whole number of 64 bits, or a name cannot be stored.
    NotFound
        There is no such run.
    """
    checked = [checked_point(point) for point in points]
    for start in range(0, len(checked), _POINTS_A_TRANSACTION):
        ws.write(partial(_add_points, run_id=run_id, points=checked[start : start + _POINTS_A_TRANSACTION]))


def metric_history(
    ws: Workspace, run_id: str, name: str, *, after: MetricPoint | None = None, limit: int = 1_000
) -> list[MetricPoint]:
    """A metric's points in order of step, then time, then value (NaN last); none for a name that was never logged.

    At most `limit`; the next page is asked for with `after` the last point. Raises NotFound for an unknown run.
    """
    with ws.read() as connection:
        found = store.points_of(connection, run_id, name, after=after, limit=limit)
        if not found and not store.has_run(connection, run_id):
            raise unknown_run(run_id)
    return found


def metric_histories(
    ws: Workspace,
    run_ids: Sequence[str],
    name: str,
    *,
    steps: tuple[int, int] | None = None,
    at_most: int | None = None,
    limit: int,
) -> list[tuple[str, MetricPoint]]:
    """The histories of one metric in several runs, run by run, each in order of step, then time; `limit` points in all.

    `steps` are the first and the last to look at. With `at_most` each run gives so many points at most: those of steps
    spread evenly over all steps that the runs have, the first and the last of each run among them. A run that does not exist has none.
    """
    wanted = sorted(set(run_ids))
    with ws.read() as connection:
        chosen = None
        if at_most is not None:
            chosen = _spread(store.steps_of(connection, wanted, name, steps=steps), at_most)
        return store.points_of_runs(connection, wanted, name, steps=steps, chosen=chosen, limit=limit)


def _spread(steps: Mapping[str, Sequence[int]], at_most: int) -> list[int] | None:
    """Steps, spread evenly, so that no run has more than `at_most`; None when none has."""
    every = sorted({step for of_run in steps.values() for step in of_run})
    if len(every) <= at_most:
        return None
    interval = len(every) / at_most
    chosen = {every[int(index * interval)] for index in range(at_most)}
    for of_run in steps.values():
        chosen |= {of_run[0], of_run[-1]}
    return sorted(chosen)


def curve(
    ws: Workspace,
    run_id: str,
    name: str,
    *,
    over: Axis = "step",
    between: tuple[int, int] | None = None,
    at_most: int,
) -> History | None:
    """A metric of a run as a plot draws it, in about `at_most` points; None when the run has none there.

    `between` are the first and the last step to look at, or the first and the last time in microseconds since 1970.
    """
    with ws.read() as connection:
        extent = store.extent_of(connection, run_id, name, over=over, between=between)
        if extent is None:
            return None
        if between is None and extent.count > 1 and extent.steps[0] == extent.steps[1]:
            over = "time"
        points = store.points_along(connection, run_id, name, over=over, between=between)
        if extent.count <= at_most:
            return History(run_id, over, list(points), extent.count)
        first, last = extent.steps if over == "step" else extent.times_us
        thinned = thin(points, over=over, first=first, last=last, stretches=max(1, at_most // 2))
        return History(run_id, over, thinned.points, extent.count, thinned.means)


def curved(ws: Workspace, run_ids: Sequence[str]) -> list[str]:
    """The metrics of runs that are curves: any of the runs has more than one value of them. By name."""
    with ws.read() as connection:
        return store.moving_names(connection, run_ids)


def _put_tags(tx: Tx, run_id: str, texts: Mapping[str, str]) -> None:
    """Set tags, of which two are columns of the run."""
    columns: dict[str, Any] = {}
    if NAME_TAG in texts:
        columns["name"] = check_name("a run", texts[NAME_TAG])
    if PARENT_TAG in texts:
        columns["parent"] = parent_of(tx, run_id, texts[PARENT_TAG])
    if columns:
        store.update_run(tx, run_id, columns)
    plain = {name: text for name, text in texts.items() if name not in (NAME_TAG, PARENT_TAG)}
    if plain:
        store.put_texts(tx, store.tags, run_id, plain)


def _add_params(tx: Tx, run_id: str, texts: Mapping[str, str]) -> None:
    need_run(tx, run_id)
    _put_params(tx, run_id, texts)


def _put_params(tx: Tx, run_id: str, texts: Mapping[str, str]) -> None:
    stored = store.add_texts(tx, store.params, run_id, texts)
    for name, text in texts.items():
        if stored[name] != text:
            raise Conflict(
                f"the parameter {name!r} of run {run_id} is {shown(stored[name])} and cannot become {shown(text)}: "
                "parameters do not change during a run. Start another run, or use a tag."
            )


def _add_points(tx: Tx, *, run_id: str, points: Sequence[MetricPoint]) -> None:
    need_run(tx, run_id)
    store.insert_points(tx, run_id, points)


def checked_point(point: MetricPoint) -> MetricPoint:
    """The point as it is stored. Raises Invalid when it cannot be."""
    check_name("a metric", point.name)
    value = _float_of(point.name, point.value)
    if type(point.step) is not int or point.step not in _INT64:
        raise Invalid(
            f"the metric {point.name!r} was logged at step {point.step!r}; a step is a whole number of 64 bits. Count it as int."
        )
    # -0.0 and 0.0 are equal as numbers, but PostgreSQL prints what it was given first
    return MetricPoint(point.name, value + 0.0, point.step, point.at)


def _float_of(name: str, value: Any) -> float:
    with suppress(TypeError, ValueError, OverflowError):
        if not isinstance(value, str):  # float() would read one
            return float(value)
    raise Invalid(
        f"the metric {name!r} was given a {type(value).__name__} that is no number of 64 bits; a metric is a number. "
        "Log text as a parameter or a tag."
    )
