"""What an MLflow server answers, as records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everloop.adapters.mlflow_source import (
    Experiment,
    FoundRun,
    LoggedModel,
    Model,
    Point,
    Version,
    with_infinity,
)

Reply = Mapping[str, Any]


def experiment_of(told: Reply) -> Experiment:
    return Experiment(told["experiment_id"], told["name"], _texts(told.get("tags")))


def run_of(told: Reply) -> FoundRun:
    info, data = told["info"], told.get("data", {})
    tags = _texts(data.get("tags"))
    inputs = told.get("inputs", {}).get("dataset_inputs", ())
    return FoundRun(
        info.get("run_id") or info["run_uuid"],
        info["experiment_id"],
        info.get("run_name") or tags.get("mlflow.runName", ""),
        info.get("user_id", ""),
        info.get("status", ""),
        info.get("lifecycle_stage") == "deleted",
        _number(info.get("start_time")),
        _number(info.get("end_time")),
        info.get("artifact_uri", ""),
        _texts(data.get("params")),
        tags,
        tuple(sorted(map(point_of, data.get("metrics", ())), key=lambda one: one.name)),
        tuple({**one["dataset"], "tags": _texts(one.get("tags"))} for one in inputs),
    )


def point_of(told: Reply) -> Point:
    value = with_infinity(float(told.get("value", 0.0)))  # also of the texts "NaN" and "Infinity"
    return Point(told["key"], value, int(told.get("step", 0)), int(told.get("timestamp", 0)))


def logged_model_of(told: Reply) -> LoggedModel:
    info, data = told["info"], told.get("data", {})
    measured = [
        {
            "metric_name": one["key"],
            "metric_value": one.get("value"),
            "metric_step": one.get("step"),
            "dataset_name": one.get("dataset_name"),
        }
        for one in data.get("metrics", ())
    ]
    said = {
        "name": info["name"],
        "type": info.get("model_type"),
        "params": _texts(data.get("params")),
        "tags": _texts(info.get("tags")),
        "metrics": measured,
    }
    created_ms = _number(info.get("creation_timestamp_ms")) or 0
    source = info.get("source_run_id") or None
    return LoggedModel(info["model_id"], info["name"], source, info.get("artifact_uri", ""), created_ms, said)


def model_of(told: Reply, versions: list[Version]) -> Model:
    return Model(
        told["name"],
        told.get("description", ""),
        _texts(told.get("tags")),
        {one["alias"]: int(one["version"]) for one in told.get("aliases", ())},
        tuple(sorted(versions, key=lambda one: one.number)),
    )


def version_of(told: Reply) -> Version:
    return Version(
        int(told["version"]),
        told.get("source", ""),
        told.get("run_id") or None,
        told.get("current_stage") or "None",
        told.get("description", ""),
        _texts(told.get("tags")),
    )


def file_of(told: Reply) -> tuple[str, bool, int | None]:
    """Path, whether it is a folder, and size of an entry in a listing of files."""
    return str(told["path"]), bool(told.get("is_dir")), _number(told.get("file_size"))


def _texts(told: Any) -> dict[str, str]:
    return {str(one["key"]): str(one.get("value", "")) for one in told or ()}


def _number(told: Any) -> int | None:
    return None if told is None else int(told)
