"""What an unmodified client of MLflow's does with a server: prints what came of it, as JSON.

MLFLOW_TRACKING_URI=http://... python mlflow_calls.py [oldest]
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from contextlib import suppress
from typing import Any

import mlflow
from mlflow import MlflowClient

CALLS: dict[str, Any] = {}


def call(function: Any) -> Any:
    CALLS[function.__name__] = function
    return function


@call
def fluent() -> Any:
    mlflow.set_experiment("fluent")
    with mlflow.start_run(run_name="parent", tags={"team": "vision"}) as parent:
        mlflow.log_param("lr", 0.1)
        mlflow.log_params({"depth": 3, "text": "a 'quoted' \"text\" with \u00e9 and\nlines"})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"nan": math.nan, "up": math.inf, "down": -math.inf, "tiny": 5e-324})
        mlflow.set_tags({"stage": "draft", "emoji": "\U0001f600"})
        mlflow.set_tag("stage", "kept")
        mlflow.delete_tag("emoji")
        with mlflow.start_run(run_name="child", nested=True):
            mlflow.log_metric("acc", 0.9)
    try:
        with mlflow.start_run(run_name="broken"):
            raise ValueError("on purpose")
    except ValueError:
        pass
    run = mlflow.get_run(parent.info.run_id)
    children = MlflowClient().search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    )
    broken = MlflowClient().search_runs([run.info.experiment_id], "attributes.status = 'FAILED'")
    return {
        "run_id": run.info.run_id,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": {name: repr(value) for name, value in run.data.metrics.items()},
        "tags": {name: value for name, value in run.data.tags.items() if not name.startswith("mlflow.")},
        "children": [one.data.tags["mlflow.runName"] for one in children],
        "broken": [one.data.tags["mlflow.runName"] for one in broken],
    }


@call
def experiments() -> Any:
    client = MlflowClient()
    made = client.create_experiment("first", tags={"kind": "a"})
    client.set_experiment_tag(made, "kind", "b")
    client.rename_experiment(made, "renamed")
    client.delete_experiment(made)
    deleted = client.get_experiment_by_name("renamed").lifecycle_stage
    client.restore_experiment(made)
    found = client.search_experiments(filter_string="tags.kind = 'b'")
    return {
        "deleted": deleted,
        "found": [(one.name, one.lifecycle_stage, one.tags) for one in found],
        "unknown": client.get_experiment_by_name("nobody") is None,
        "default": client.get_experiment("0").name,
    }


@call
def batches() -> Any:
    client = MlflowClient()
    run = client.create_run("0", start_time=1_700_000_000_000)
    key = run.info.run_id
    metrics = [
        mlflow.entities.Metric("loss", step / 7, 1_700_000_000_000 + step, step) for step in range(3_000)
    ]
    for start in range(0, 3_000, 1_000):
        client.log_batch(key, metrics=metrics[start : start + 1_000])
    params = [mlflow.entities.Param(f"p{number}", str(number)) for number in range(100)]
    client.log_batch(key, params=params)
    history = client.get_metric_history(key, "loss")
    client.set_terminated(key, "KILLED", end_time=1_700_000_009_000)
    info = client.get_run(key).info
    client.delete_run(key)
    stage = client.get_run(key).info.lifecycle_stage
    client.restore_run(key)
    return {
        "same": [(one.value, one.timestamp, one.step) for one in history]
        == [(one.value, one.timestamp, one.step) for one in metrics],
        "params": len(client.get_run(key).data.params),
        "ended": (info.status, info.start_time, info.end_time),
        "stages": (stage, client.get_run(key).info.lifecycle_stage),
    }


@call
def searches() -> Any:
    client = MlflowClient()
    place = client.create_experiment("searches")
    for number in range(25):
        run = client.create_run(place, start_time=1_700_000_000_000 + number, run_name=f"r{number:02}")
        client.log_metric(run.info.run_id, "acc", number % 5)
        client.log_param(run.info.run_id, "even", str(number % 2 == 0))
    pages, token = [], None
    while True:
        page = client.search_runs(
            [place], "params.even = 'True' AND metrics.acc >= 1", max_results=4, page_token=token,
            order_by=["metrics.acc DESC", "attributes.start_time ASC"],
        )  # fmt: skip
        pages.append([one.data.tags["mlflow.runName"] for one in page])
        token = page.token
        if not token:
            return pages


@call
def refusals() -> Any:
    client = MlflowClient()
    run = client.create_run("0").info.run_id
    client.log_param(run, "lr", "1")
    told = {}
    for name, act in {
        "changed parameter": lambda: client.log_param(run, "lr", "2"),
        "unknown run": lambda: client.get_run("0" * 32),
        "unknown experiment": lambda: client.create_run("777"),
        "taken name": lambda: client.create_experiment("Default"),
        "wrong filter": lambda: client.search_runs(["0"], "colour.x = 1"),
    }.items():
        try:
            act()
        except mlflow.exceptions.MlflowException as error:
            told[name] = error.error_code
    return told


def later(function: Any) -> Any:
    """A call that the oldest client does not know."""
    if "oldest" not in sys.argv:
        CALLS[function.__name__] = function
    return function


@later
def datasets() -> Any:
    import pandas as pd

    mlflow.set_experiment("datasets")
    data = mlflow.data.from_pandas(pd.DataFrame({"x": [1, 2], "y": [0.5, 1.5]}), name="rows", targets="y")
    with mlflow.start_run() as run:
        mlflow.log_input(data, context="training", tags={"source": "test"})
        mlflow.log_metric("acc", 0.5, dataset=data)
    (read,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    found = mlflow.search_runs(
        filter_string="dataset.name = 'rows' AND dataset.context = 'training'", output_format="list"
    )
    return {
        "name": read.dataset.name,
        "is_same": json.loads(read.dataset.profile) == {"num_rows": 2, "num_elements": 4},
        "tags": {tag.key: tag.value for tag in read.tags},
        "found": [one.info.run_id == run.info.run_id for one in found],
    }


@later
def frames() -> Any:
    frame = mlflow.search_runs(search_all_experiments=True, filter_string="metrics.loss < 0.5")
    row = frame[frame["tags.mlflow.runName"] == "parent"].iloc[0]
    return {"rows": len(frame) > 0, "lr": row["params.lr"], "loss": row["metrics.loss"]}


@later
def in_the_background() -> Any:
    mlflow.set_experiment("background")
    with mlflow.start_run() as run:
        waiting = [mlflow.log_metric("loss", step, step=step, synchronous=False) for step in range(200)]
        waiting.append(mlflow.log_params({"a": 1}, synchronous=False))
        for one in waiting:
            one.wait()
    history = MlflowClient().get_metric_history(run.info.run_id, "loss")
    return {
        "steps": [point.step for point in history] == list(range(200)),
        "params": mlflow.get_run(run.info.run_id).data.params,
    }


@later
def system_metrics() -> Any:
    import threading

    mlflow.set_experiment("system")
    mlflow.set_system_metrics_sampling_interval(0.2)
    mlflow.set_system_metrics_samples_before_logging(1)
    with mlflow.start_run(log_system_metrics=True) as run:
        threading.Event().wait(1.5)
    found = mlflow.get_run(run.info.run_id).data.metrics
    return sorted(name for name in found if name.startswith("system/"))


def _rows() -> Any:
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True, as_frame=True)


@later
def autolog_sklearn() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    mlflow.set_experiment("sklearn")
    mlflow.sklearn.autolog(log_models=False, silent=True)
    x, y = _rows()
    with mlflow.start_run() as run:
        GridSearchCV(LogisticRegression(max_iter=300), {"C": [0.1, 1.0]}, cv=2).fit(x, y)
    found = mlflow.get_run(run.info.run_id)
    children = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{run.info.run_id}'", output_format="list"
    )
    return {
        "best": found.data.params["best_C"],
        "score": found.data.metrics["training_score"] > 0.9,
        "children": sorted(one.data.params["C"] for one in children),
        "dataset": [one.dataset.name for one in found.inputs.dataset_inputs],
    }


@later
def autolog_xgboost() -> Any:
    import xgboost

    mlflow.set_experiment("xgboost")
    mlflow.xgboost.autolog(log_models=False, silent=True)
    x, y = _rows()
    data = xgboost.DMatrix(x, y)
    with mlflow.start_run() as run:
        xgboost.train(
            {"objective": "multi:softprob", "num_class": 3, "nthread": 1}, data, num_boost_round=5,
            evals=[(data, "train")], verbose_eval=False,
        )  # fmt: skip
    return _curve(run, "train-mlogloss")


@later
def autolog_lightgbm() -> Any:
    import lightgbm

    mlflow.set_experiment("lightgbm")
    mlflow.lightgbm.autolog(log_models=False, silent=True)
    x, y = _rows()
    data = lightgbm.Dataset(x, y)
    with mlflow.start_run() as run:
        lightgbm.train(
            {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}, data, num_boost_round=5,
            valid_sets=[data], valid_names=["train"],
        )  # fmt: skip
    return _curve(run, "train-multi_logloss")


@later
def traces() -> Any:
    experiment = mlflow.set_experiment("traces").experiment_id

    @mlflow.trace(name="answer", attributes={"kind": "test"})
    def answer(question: str) -> str:
        with mlflow.start_span(name="look up") as span:
            span.set_inputs({"question": question})
        if not question:
            raise ValueError("on purpose")
        return question.upper()

    answer("first")
    with mlflow.start_run() as run:
        answer("second")
    with suppress(ValueError):
        answer("")
    mlflow.flush_trace_async_logging()
    client = MlflowClient()
    first, second, failed = mlflow.search_traces(return_type="list", order_by=["timestamp_ms ASC"])
    trace_id = first.info.trace_id
    client.set_trace_tag(trace_id, "quality", "good")
    tagged = mlflow.search_traces(filter_string="tags.quality = 'good'", return_type="list")
    client.delete_trace_tag(trace_id, "quality")
    whole = mlflow.get_trace(trace_id)
    told = {
        "spans": [span.name for span in whole.data.spans],
        "inputs": whole.data.spans[1].inputs,
        "outputs": whole.data.spans[0].outputs,
        "tagged": [one.info.trace_id == trace_id for one in tagged],
        "untagged": "quality" not in whole.info.tags,
        "of the run": [
            one.info.trace_id == second.info.trace_id
            for one in mlflow.search_traces(run_id=run.info.run_id, return_type="list")
        ],
        "failed": [
            one.info.trace_id == failed.info.trace_id
            for one in mlflow.search_traces(filter_string="trace.status = 'ERROR'", return_type="list")
        ],
        "deleted": client.delete_traces(experiment, trace_ids=[trace_id]),
        "left": len(mlflow.search_traces()),
    }
    try:
        client.get_trace(trace_id)
    except mlflow.exceptions.MlflowException as error:
        told["gone"] = error.error_code
    return told


def _curve(run: Any, name: str) -> Any:
    points = MlflowClient().get_metric_history(run.info.run_id, name)
    values = [point.value for point in points]
    return {"steps": [point.step for point in points], "falls": values == sorted(values, reverse=True)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = {}
    for name, function in CALLS.items():
        try:
            answers[name] = function()
        except Exception as error:
            answers[name] = f"{type(error).__name__}: {error}"
            mlflow.end_run()
    print("ANSWERS", json.dumps(answers))
