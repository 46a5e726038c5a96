"""MLflow's calls for metrics and parameters: one at a time, in batches, and their histories."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import msgspec

from everloop import tracking
from everloop.api.mlflow.protocol import MlflowRoute, Named, milliseconds, moment, named, number, run_key
from everloop.api.mlflow.runs import MetricForm, One, Tag, key_of
from everloop.api.routes import Call
from everloop.errors import Invalid
from everloop.tracking import MetricPoint, ModelMetric, RawPoint

# MLflow's limits
_MOST = {"metrics": 1_000, "params": 100, "tags": 100, "things": 1_000}
_BATCH_BYTES = 1_000_000
_PAGE = 25_000
_MOST_RUNS = 100
_MOST_A_RUN = 2_500  # of the points that a curve is drawn of
_WHOLE = 1_000_000  # points of a history that is asked for in one piece, as clients before MLflow 2.3 do


class Point(msgspec.Struct):
    key: str
    value: float
    timestamp: int
    step: int | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogMetric(One, kw_only=True):
    key: str
    value: float
    timestamp: int
    step: int | None = None
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LogBatch(One):
    metrics: list[Point] = []
    params: list[Named] = []
    tags: list[Named] = []


class History(One, kw_only=True):
    metric_key: str
    page_token: str | None = None
    max_results: int | None = None


class HistoryBulk(msgspec.Struct, kw_only=True):
    run_id: list[str] = []
    metric_key: str
    max_results: int | None = None


class HistoryInterval(msgspec.Struct, kw_only=True):
    run_ids: list[str] = []
    metric_key: str
    start_step: int | None = None
    end_step: int | None = None
    max_results: int | None = None


class OfRun(MetricForm):
    run_id: str


class Page(TypedDict):
    metrics: list[MetricForm]
    next_page_token: NotRequired[str]


class Several(TypedDict):
    metrics: list[OfRun]


def log_metric(call: Call, asked: LogMetric) -> None:
    """Add one point to the history of a metric."""
    point = _point(asked)
    tracking.log_batch(call.ws, key_of(asked), points=[point], of_models=_of_models([asked], [point]))


def log_param(call: Call, asked: Tag) -> None:
    """Write down one parameter, which does not change any more."""
    tracking.log_params(call.ws, key_of(asked), {asked.key: asked.value})


def log_batch(call: Call, asked: LogBatch) -> None:
    """Add points, parameters and tags in one transaction: all of them are kept, or nothing."""
    counts = {"metrics": len(asked.metrics), "params": len(asked.params), "tags": len(asked.tags)}
    counts["things"] = sum(counts.values())
    for what, most in _MOST.items():
        if counts[what] > most:
            raise Invalid(
                f"the batch has {counts[what]:,} {what}; {most:,} is the most. Send several batches."
            )
    params = named(asked.params)
    if len(params) < len(asked.params):
        raise Invalid("the batch names a parameter twice; a parameter has one value. Send each once.")
    points = [_point(one) for one in asked.metrics]
    tracking.log_batch(
        call.ws,
        key_of(asked),
        points=points,
        params=params,
        tags=named(asked.tags),
        of_models=_of_models(asked.metrics, points),
    )


def history(call: Call, asked: History) -> Page:
    """The points of one metric of a run, in pages when `max_results` says so."""
    limit = asked.max_results
    if limit is not None and limit < 1:
        raise Invalid(f"{limit} points were asked for; a page has 1 to {_PAGE:,}.")
    in_one_piece = limit is None and not asked.page_token
    page = tracking.history_page(
        call.ws,
        key_of(asked),
        asked.metric_key,
        limit=_WHOLE if in_one_piece else min(limit or _PAGE, _PAGE),
        token=asked.page_token,
    )
    if page.next_token is None:
        return {"metrics": [_raw(point) for point in page.found]}
    if in_one_piece:
        raise Invalid(
            f"the history of {asked.metric_key[:60]!r} has more than {_WHOLE:,} points, too many for one answer. Ask in pages "
            "with max_results, as clients from MLflow 2.3 on do."
        )
    return {"metrics": [_raw(point) for point in page.found], "next_page_token": page.next_token}


def history_bulk(call: Call, asked: HistoryBulk) -> Several:
    """The points of one metric of several runs."""
    limit = min(_PAGE if asked.max_results is None else max(asked.max_results, 1), _PAGE)
    found = tracking.metric_histories(call.ws, _keys(asked.run_id), asked.metric_key, limit=limit)
    return {"metrics": [{**_shown(point), "run_id": run.removeprefix("run_")} for run, point in found]}


def history_interval(call: Call, asked: HistoryInterval) -> Several:
    """Points of one metric of several runs at steps spread evenly, so many a run as a curve needs."""
    if (asked.start_step is None) != (asked.end_step is None):
        raise Invalid(
            "one of start_step and end_step is missing; an interval has both. Send both, or neither."
        )
    steps = None
    if asked.start_step is not None and asked.end_step is not None:
        steps = asked.start_step, asked.end_step
        if steps[0] > steps[1]:
            raise Invalid(f"the steps from {steps[0]} to {steps[1]} are none. Send the lower one first.")
    at_most = _MOST_A_RUN if asked.max_results is None else asked.max_results
    if not 1 <= at_most <= _MOST_A_RUN:
        raise Invalid(f"{at_most} points a run were asked for; it is 1 to {_MOST_A_RUN:,}.")
    found = tracking.metric_histories(
        call.ws, _keys(asked.run_ids), asked.metric_key, steps=steps, at_most=at_most, limit=_WHOLE
    )
    return {"metrics": [{**_shown(point), "run_id": run.removeprefix("run_")} for run, point in found]}


def _point(given: Point | LogMetric) -> MetricPoint:
    at = moment(given.timestamp)
    assert at is not None  # noqa: S101  (None comes of None alone; this tells the type checker)
    return MetricPoint(given.key, given.value, given.step or 0, at)


def _of_models(given: list[Any], points: list[MetricPoint]) -> list[ModelMetric]:
    return [
        ModelMetric(one.model_id, point, one.dataset_name or "", one.dataset_digest or "")
        for one, point in zip(given, points, strict=True)
        if one.model_id
    ]


def _keys(given: list[str]) -> list[str]:
    if not 1 <= len(given) <= _MOST_RUNS:
        raise Invalid(f"{len(given)} runs were named; it is 1 to {_MOST_RUNS}. Ask in parts.")
    return [run_key(one) for one in given]


def _raw(point: RawPoint) -> MetricForm:
    name, value, step, at_us = point
    return {"key": name, "value": number(value), "timestamp": at_us // 1_000, "step": step}


def _shown(point: MetricPoint) -> MetricForm:
    return {
        "key": point.name,
        "value": number(point.value),
        "timestamp": milliseconds(point.at),
        "step": point.step,
    }


ROUTES = [
    MlflowRoute("POST", "mlflow/runs/log-metric", "run", log_metric, LogMetric),
    MlflowRoute("POST", "mlflow/runs/log-parameter", "run", log_param, Tag),
    MlflowRoute("POST", "mlflow/runs/log-batch", "run", log_batch, LogBatch, most_bytes=_BATCH_BYTES),
    MlflowRoute("GET", "mlflow/metrics/get-history", "see", history, History),
    MlflowRoute("GET", "mlflow/metrics/get-history-bulk", "see", history_bulk, HistoryBulk),
    MlflowRoute("GET", "mlflow/metrics/get-history-bulk-interval", "see", history_interval, HistoryInterval),
]
