"""MLflow's calls for runs: making, finding and changing them, and what they read and made."""

from __future__ import annotations

import json
from typing import Any, NotRequired, TypedDict

import msgspec

from everloop import tracking
from everloop.api.mlflow.experiments import view_of
from everloop.api.mlflow.protocol import (
    KeyValue,
    MlflowRoute,
    Named,
    experiment_number,
    keyed,
    milliseconds,
    moment,
    named,
    number,
    run_key,
)
from everloop.api.routes import Call
from everloop.errors import Invalid
from everloop.tracking import DatasetInput, FoundRun, LoggedDataset, Run, RunModel, RunStatus

_STATUSES: dict[str | int, RunStatus] = {
    "RUNNING": "running",
    "SCHEDULED": "scheduled",
    "FINISHED": "finished",
    "FAILED": "failed",
    "KILLED": "killed",
    1: "running",
    2: "scheduled",
    3: "finished",
    4: "failed",
    5: "killed",
}
_HISTORY_TAG = "mlflow.log-model.history"
_MODEL_FIELDS = ("artifact_path", "flavors", "utc_time_created", "run_id")
_INPUTS_BYTES = 20_000_000  # a dataset's profile alone may have 16 MB


class Create(msgspec.Struct):
    experiment_id: str = "0"
    user_id: str | None = None
    run_name: str | None = None
    start_time: int | None = None
    tags: list[Named] = []


class One(msgspec.Struct):
    run_id: str = ""
    run_uuid: str = ""  # its name before MLflow 1.0


class Update(One):
    status: str | int | None = None
    end_time: int | None = None
    run_name: str | None = None


class Search(msgspec.Struct):
    experiment_ids: list[str] = []
    filter: str | None = None
    run_view_type: str | int | None = None
    max_results: int | None = None
    order_by: list[str] = []
    page_token: str | None = None


class Tag(One, kw_only=True):
    key: str
    value: str = ""


class LogModel(One, kw_only=True):
    model_json: str


class Dataset(msgspec.Struct):
    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class Input(msgspec.Struct):
    dataset: Dataset
    tags: list[Named] = []


class Model(msgspec.Struct):
    model_id: str
    step: int | None = None


class LogInputs(One):
    datasets: list[Input] = []
    models: list[Model] = []


class MetricForm(TypedDict):
    """A point of a metric in the protocol's form; NaN and infinities are texts."""

    key: str
    value: float | str
    timestamp: int
    step: int


class RunInfo(TypedDict):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: NotRequired[int]
    artifact_uri: str
    lifecycle_stage: str


class RunData(TypedDict):
    metrics: list[MetricForm]
    params: list[KeyValue]
    tags: list[KeyValue]


class DatasetForm(TypedDict):
    dataset: dict[str, str]
    tags: list[KeyValue]


class ModelInput(TypedDict):
    model_id: str


class ModelOutput(ModelInput):
    step: int


class Inputs(TypedDict):
    dataset_inputs: list[DatasetForm]
    model_inputs: list[ModelInput]


class Outputs(TypedDict):
    model_outputs: list[ModelOutput]


class RunForm(TypedDict):
    """A run in the protocol's form."""

    info: RunInfo
    data: RunData
    inputs: Inputs
    outputs: Outputs


class Found(TypedDict):
    run: RunForm


class Changed(TypedDict):
    run_info: RunInfo


class Page(TypedDict):
    runs: list[RunForm]
    next_page_token: NotRequired[str]


def create(call: Call, asked: Create) -> Found:
    """Begin a run."""
    experiment_id = experiment_number(asked.experiment_id)
    made = tracking.start_client_run(
        call.ws,
        experiment_id,
        name=asked.run_name or None,
        tags=named(asked.tags),
        started_at=moment(asked.start_time),
        client_user=asked.user_id or None,
    )
    return {"run": shown(FoundRun(made, experiment_id))}


def get(call: Call, asked: One) -> Found:
    """One run, deleted or not."""
    return {"run": shown(tracking.found_run(call.ws, key_of(asked)))}


def update(call: Call, asked: Update) -> Changed:
    """Say how a run stands, when it ended, or its name."""
    run_id = key_of(asked)
    if asked.status is not None and asked.status not in _STATUSES:
        raise Invalid(
            f"the status is {asked.status!r}; it is one of RUNNING, SCHEDULED, FINISHED, FAILED, KILLED."
        )
    tracking.change_run(
        call.ws,
        run_id,
        status=None if asked.status is None else _STATUSES[asked.status],
        ended_at=moment(asked.end_time),
        name=asked.run_name or None,
    )
    found = tracking.found_run(call.ws, run_id)
    return {"run_info": _info(found.run, found.experiment_id)}


def delete(call: Call, asked: One) -> None:
    """Delete a run; it can be restored."""
    tracking.delete_run(call.ws, key_of(asked))


def restore(call: Call, asked: One) -> None:
    """Restore a deleted run."""
    tracking.restore_run(call.ws, key_of(asked))


def search(call: Call, asked: Search) -> Page:
    """Runs of some experiments that meet a filter, in pages."""
    page = tracking.search_runs(
        call.ws,
        experiment_ids=[experiment_number(one) for one in asked.experiment_ids],
        filter_text=asked.filter,
        order_by=asked.order_by,
        view=view_of(asked.run_view_type),
        limit=1_000 if asked.max_results is None else asked.max_results,
        token=asked.page_token,
    )
    found: Page = {"runs": [shown(one) for one in page.found]}
    return found if page.next_token is None else {**found, "next_page_token": page.next_token}


def set_tag(call: Call, asked: Tag) -> None:
    """Set a tag of a run."""
    tracking.log_tags(call.ws, key_of(asked), {asked.key: asked.value})


def delete_tag(call: Call, asked: Tag) -> None:
    """Remove a tag of a run."""
    tracking.remove_tag(call.ws, key_of(asked), asked.key)


def log_model(call: Call, asked: LogModel) -> None:
    """Note in a tag that a model was logged, as clients before MLflow 3 do."""
    try:
        model = json.loads(asked.model_json)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"model_json is not JSON: {error}. Send what MLmodel says, as JSON.") from error
    missing = [name for name in _MODEL_FIELDS if not isinstance(model, dict) or name not in model]
    if missing:
        raise Invalid(f"model_json has no {', '.join(missing)}. Send what MLmodel says, as JSON.")

    def with_model(known: str | None) -> str:
        return json.dumps([*json.loads(known or "[]"), model])

    tracking.add_to_tag(call.ws, key_of(asked), _HISTORY_TAG, with_model)


def log_inputs(call: Call, asked: LogInputs) -> None:
    """Say which datasets and logged models a run read."""
    datasets = [
        DatasetInput(LoggedDataset(**msgspec.structs.asdict(one.dataset)), named(one.tags))
        for one in asked.datasets
    ]
    models = [RunModel(one.model_id, "input") for one in asked.models]
    tracking.log_inputs(call.ws, key_of(asked), datasets, models=models)


def log_outputs(call: Call, asked: LogInputs) -> None:
    """Say which logged models a run made."""
    models = [RunModel(one.model_id, "output", one.step or 0) for one in asked.models]
    tracking.log_inputs(call.ws, key_of(asked), models=models)


def key_of(asked: One) -> str:
    """The run that a request names. Raises Invalid."""
    return run_key(asked.run_id or asked.run_uuid)


def shown(found: FoundRun) -> RunForm:
    """A run in the protocol's form."""
    run = found.run
    tags = {**run.tags, tracking.NAME_TAG: run.name}
    if run.parent is not None:
        tags[tracking.PARENT_TAG] = run.parent.removeprefix("run_")
    return {
        "info": _info(run, found.experiment_id),
        "data": {
            "metrics": [
                {"key": name, "value": number(value), "timestamp": at_us // 1_000, "step": step}
                for name, value, step, at_us in found.latest
            ],
            "params": keyed(run.params),
            "tags": keyed(tags),
        },
        "inputs": {
            "dataset_inputs": [
                {"dataset": _present(vars(one.dataset)), "tags": keyed(one.tags)} for one in found.datasets
            ],
            "model_inputs": [{"model_id": one.model} for one in found.models if one.role == "input"],
        },
        "outputs": {
            "model_outputs": [
                {"model_id": one.model, "step": one.step} for one in found.models if one.role == "output"
            ]
        },
    }


def _info(run: Run, experiment_id: int) -> RunInfo:
    told: RunInfo = {
        "run_id": run.mlflow_id,
        "run_uuid": run.mlflow_id,
        "run_name": run.name,
        "experiment_id": str(experiment_id),
        "user_id": run.client_user or run.actor,
        "status": run.status.upper(),
        "start_time": milliseconds(run.started_at),
        "artifact_uri": tracking.uri_of(run, experiment_id),
        "lifecycle_stage": "deleted" if run.deleted_at else "active",
    }
    if run.ended_at is not None:
        told["end_time"] = milliseconds(run.ended_at)
    return told


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


ROUTES = [
    MlflowRoute("POST", "mlflow/runs/create", "run", create, Create),
    MlflowRoute("GET", "mlflow/runs/get", "see", get, One),
    MlflowRoute("POST", "mlflow/runs/update", "run", update, Update),
    MlflowRoute("POST", "mlflow/runs/delete", "run", delete, One),
    MlflowRoute("POST", "mlflow/runs/restore", "run", restore, One),
    MlflowRoute("POST", "mlflow/runs/search", "see", search, Search),
    MlflowRoute("POST", "mlflow/runs/set-tag", "run", set_tag, Tag),
    MlflowRoute("POST", "mlflow/runs/delete-tag", "run", delete_tag, Tag),
    MlflowRoute("POST", "mlflow/runs/log-model", "run", log_model, LogModel),
    MlflowRoute("POST", "mlflow/runs/log-inputs", "run", log_inputs, LogInputs, most_bytes=_INPUTS_BYTES),
    MlflowRoute("POST", "mlflow/runs/outputs", "run", log_outputs, LogInputs),
]
