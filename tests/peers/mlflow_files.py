"""What an unmodified client of MLflow's does with files and models: prints what came of it, as JSON.

MLFLOW_TRACKING_URI=http://... python mlflow_files.py [oldest]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient

CALLS: dict[str, Any] = {}
LARGE = os.urandom(3_000_000)


def call(function: Any) -> Any:
    CALLS[function.__name__] = function
    return function


@call
def files() -> Any:
    client = MlflowClient()
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        run_id = run.info.run_id
        (Path(folder) / "deep").mkdir()
        (Path(folder) / "large.bin").write_bytes(LARGE)
        (Path(folder) / "deep" / "caf\u00e9 1.txt").write_text("black")
        mlflow.log_artifacts(folder, "all")
        mlflow.log_text("hello", "notes/hello.txt")
        mlflow.log_dict({"a": 1}, "told.json")
        got = Path(_downloaded(run_id, "all", folder))
        listed = {
            path: _listed(client, run_id, path) for path in ("", "all", "all/deep", "told.json", "nothing")
        }
        return {
            "run_id": run_id,
            "uri": run.info.artifact_uri,
            "listed": listed,
            "is_same": (got / "large.bin").read_bytes() == LARGE,
            "text": (got / "deep" / "caf\u00e9 1.txt").read_text(),
        }


@call
def removal() -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    with mlflow.start_run() as run:
        for name in ("a.txt", "b/c.txt", "b/d.txt"):
            mlflow.log_text("x", name)
    repository = get_artifact_repository(run.info.artifact_uri)
    repository.delete_artifacts("b")
    return _listed(MlflowClient(), run.info.run_id, "")


@call
def old_model() -> Any:
    """A model as clients before MLflow 3 log it: among the files of its run."""
    from mlflow.models import Model

    class Flavor:
        @staticmethod
        def save_model(path: str, mlflow_model: Any) -> None:
            Path(path).mkdir()
            (Path(path) / "weights.txt").write_text("1 2 3")
            mlflow_model.add_flavor("weights", data="weights.txt")
            mlflow_model.save(str(Path(path) / "MLmodel"))

    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        Model.log("model", Flavor)
        history = MlflowClient().get_run(run.info.run_id).data.tags["mlflow.log-model.history"]
        told = [(one["artifact_path"], list(one["flavors"])) for one in json.loads(history)]
        got = Path(_downloaded(run.info.run_id, "model", folder))
        is_its = f"run_id: {run.info.run_id}" in (got / "MLmodel").read_text()
        return {
            "history": told,
            "run": is_its,
            "weights": (got / "weights.txt").read_text(),
        }


@call
def new_models() -> Any:
    import numpy as np
    import pandas as pd
    import xgboost
    from lightgbm import LGBMClassifier
    from sklearn.linear_model import LogisticRegression

    rows = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) % 3})
    labels = (rows["a"] > 20).astype(int)
    told = {}
    flavors = (
        ("sklearn", LogisticRegression()),
        ("xgboost", xgboost.XGBClassifier(n_estimators=2)),
        ("lightgbm", LGBMClassifier(n_estimators=2, verbose=-1)),
    )
    for name, model in flavors:
        flavor = getattr(mlflow, name)
        trained = model.fit(rows, labels)
        with mlflow.start_run() as run:
            # without this the client starts a process of its own to find out what the model needs: half a minute
            info = flavor.log_model(trained, name=name, pip_requirements=["numpy"], params={"kind": name})
            mlflow.log_metric("acc", 0.9, step=1, model_id=info.model_id)
        wanted = trained.predict(rows)
        places = (info.model_uri, f"runs:/{run.info.run_id}/{name}")
        told[name] = {
            "answers": [bool((flavor.load_model(place).predict(rows) == wanted).all()) for place in places],
            "outputs": [
                one.model_id == info.model_id for one in mlflow.get_run(run.info.run_id).outputs.model_outputs
            ],
        }
    return told


@call
def logged_models() -> Any:
    import numpy as np

    client = MlflowClient()
    experiment = mlflow.set_experiment("models").experiment_id
    with mlflow.start_run():
        dataset = mlflow.data.from_numpy(np.zeros(2), name="rows")
        for name, acc in (("low", 0.1), ("high", 0.9)):
            model = mlflow.initialize_logged_model(
                name=name, params={"c": str(acc)}, tags={"team": "vision"}, model_type="tree"
            )
            mlflow.log_metric("acc", acc, model_id=model.model_id, dataset=dataset)
            mlflow.finalize_logged_model(model.model_id, "READY")
        failed = mlflow.initialize_logged_model(name="failed")
        mlflow.finalize_logged_model(failed.model_id, "FAILED")
    mlflow.log_model_params({f"p{number}": "x" for number in range(150)}, model_id=model.model_id)
    client.set_logged_model_tags(model.model_id, {"note": "a b/c", "gone": "1"})
    client.delete_logged_model_tag(model.model_id, "gone")
    found = mlflow.get_logged_model(model.model_id)

    def search(**asked: Any) -> list[str]:
        asked = {"experiment_ids": [experiment], "output_format": "list", **asked}
        return [one.name for one in mlflow.search_logged_models(**asked)]

    told = {
        "found": [found.name, found.model_type, str(found.status), found.tags, len(found.params)],
        "metrics": [[one.key, one.value, one.dataset_name] for one in found.metrics],
        "all": search(),
        "filtered": search(filter_string="metrics.acc > 0.5 AND tags.team = 'vision' AND params.c = '0.9'"),
        "ordered": search(order_by=[{"field_name": "metrics.acc", "ascending": True}]),
        "on dataset": search(filter_string="metrics.acc > 0", datasets=[{"dataset_name": "rows"}]),
        "on another": search(filter_string="metrics.acc > 0", datasets=[{"dataset_name": "other"}]),
        "paged": search(max_results=2),
    }
    client.delete_logged_model(model.model_id)
    return {**told, "left": search()}


@call
def traces() -> Any:
    @mlflow.trace
    def doubled(value: int) -> int:
        return 2 * value

    answer = doubled(4)
    mlflow.flush_trace_async_logging()
    (trace,) = mlflow.search_traces(return_type="list")
    told = {"answer": answer, "outputs": [span.outputs for span in trace.data.spans]}
    try:
        mlflow.log_feedback(trace_id=trace.info.trace_id, name="right", value=True)
    except mlflow.MlflowException as error:
        told["feedback"] = error.error_code
    return told


def _listed(client: Any, run_id: str, path: str) -> list[str]:
    return [one.path for one in client.list_artifacts(run_id, path or None)]


def _downloaded(run_id: str, path: str, folder: str) -> str:
    to = Path(folder) / "downloaded"
    to.mkdir()
    return str(MlflowClient().download_artifacts(run_id, path, str(to)))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    chosen = [
        name
        for name in CALLS
        if name in ("files", "removal") or (name == "old_model") == ("oldest" in sys.argv)
    ]
    print("ANSWERS", json.dumps({name: CALLS[name]() for name in chosen}, default=str))
