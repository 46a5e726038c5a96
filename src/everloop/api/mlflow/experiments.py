"""MLflow's calls for experiments."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import msgspec

from everloop import tracking
from everloop.api.mlflow.protocol import (
    KeyValue,
    MlflowError,
    MlflowRoute,
    Named,
    experiment_number,
    keyed,
    milliseconds,
    named,
)
from everloop.api.routes import Call
from everloop.errors import Invalid
from everloop.tracking import Experiment, View
from everloop.workspace import Workspace

_MOST_EXPERIMENTS = 20  # of one search for datasets, as MLflow says
_VIEWS: dict[str | int, View] = {
    "ACTIVE_ONLY": "active",
    "DELETED_ONLY": "deleted",
    "ALL": "all",
    1: "active",
    2: "deleted",
    3: "all",
}


class ExperimentForm(TypedDict):
    """An experiment in the protocol's form."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    tags: list[KeyValue]
    creation_time: NotRequired[int]
    last_update_time: NotRequired[int]


class Found(TypedDict):
    experiment: ExperimentForm


class Page(TypedDict):
    experiments: list[ExperimentForm]
    next_page_token: NotRequired[str]


class DatasetSummary(TypedDict):
    experiment_id: str
    name: str
    digest: str
    context: NotRequired[str]


class Summaries(TypedDict):
    dataset_summaries: list[DatasetSummary]


class Create(msgspec.Struct):
    name: str
    artifact_location: str | None = None
    tags: list[Named] = []


class One(msgspec.Struct):
    experiment_id: str


class ByName(msgspec.Struct):
    experiment_name: str


class Search(msgspec.Struct):
    max_results: int | None = None
    page_token: str | None = None
    filter: str | None = None
    order_by: list[str] = []
    view_type: str | int | None = None


class OfExperiments(msgspec.Struct):
    experiment_ids: list[str] = []


class Update(msgspec.Struct):
    experiment_id: str
    new_name: str | None = None


class Tag(msgspec.Struct):
    experiment_id: str
    key: str
    value: str = ""


def create(call: Call, asked: Create) -> dict[str, str]:
    """Make an experiment."""
    made = tracking.create_experiment(
        call.ws, asked.name, artifact_root=asked.artifact_location, tags=named(asked.tags)
    )
    return {"experiment_id": str(made.id)}


def get(call: Call, asked: One) -> Found:
    """One experiment, deleted or not."""
    return {
        "experiment": shown(call.ws, tracking.experiment(call.ws, experiment_number(asked.experiment_id)))
    }


def get_by_name(call: Call, asked: ByName) -> Found:
    """The experiment of a name, deleted or not."""
    return {"experiment": shown(call.ws, tracking.experiment_named(call.ws, asked.experiment_name))}


def search(call: Call, asked: Search) -> Page:
    """Experiments that meet a filter, in pages."""
    page = tracking.search_experiments(
        call.ws,
        filter_text=asked.filter,
        order_by=asked.order_by,
        view=view_of(asked.view_type),
        limit=1_000 if asked.max_results is None else asked.max_results,
        token=asked.page_token,
    )
    found: Page = {"experiments": [shown(call.ws, one) for one in page.found]}
    return found if page.next_token is None else {**found, "next_page_token": page.next_token}


def search_datasets(call: Call, asked: OfExperiments) -> Summaries:
    """Which datasets the runs of some experiments read, as MLflow's pages ask for them."""
    if not 1 <= len(asked.experiment_ids) <= _MOST_EXPERIMENTS:
        raise Invalid(
            f"datasets of {len(asked.experiment_ids)} experiments are asked for; it is 1 to {_MOST_EXPERIMENTS} at once."
        )
    numbers = [experiment_number(one) for one in asked.experiment_ids]
    return {"dataset_summaries": [_summary(one) for one in tracking.datasets_read(call.ws, numbers)]}


def _summary(use: tracking.DatasetUse) -> DatasetSummary:
    told: DatasetSummary = {"experiment_id": str(use.experiment_id), "name": use.name, "digest": use.digest}
    return told if use.context is None else {**told, "context": use.context}


def update(call: Call, asked: Update) -> None:
    """Rename an experiment."""
    if asked.new_name is not None:
        tracking.rename_experiment(call.ws, experiment_number(asked.experiment_id), asked.new_name)


def delete(call: Call, asked: One) -> None:
    """Delete an experiment and its runs; they can be restored."""
    tracking.delete_experiment(call.ws, experiment_number(asked.experiment_id))


def restore(call: Call, asked: One) -> None:
    """Restore an experiment and the runs that were deleted with it."""
    tracking.restore_experiment(call.ws, experiment_number(asked.experiment_id))


def set_tag(call: Call, asked: Tag) -> None:
    """Set a tag of an experiment."""
    tracking.tag_experiment(call.ws, experiment_number(asked.experiment_id), {asked.key: asked.value})


def delete_tag(call: Call, asked: Tag) -> None:
    """Remove a tag of an experiment."""
    tracking.untag_experiment(call.ws, experiment_number(asked.experiment_id), asked.key)


def view_of(given: str | int | None) -> View:
    """Which of the living and the deleted are asked for. Raises MlflowError for a word that the protocol has not."""
    view = _VIEWS.get("ACTIVE_ONLY" if given is None else given)
    if view is None:
        raise MlflowError(
            "BAD_REQUEST", f"the view {str(given)[:40]!r} is none of ACTIVE_ONLY, DELETED_ONLY and ALL."
        )
    return view


def shown(ws: Workspace, experiment: Experiment) -> ExperimentForm:
    """An experiment in the protocol's form."""
    told: ExperimentForm = {
        "experiment_id": str(experiment.id),
        "name": experiment.name,
        "artifact_location": tracking.location_of(ws.settings, experiment),
        "lifecycle_stage": "deleted" if experiment.deleted_at else "active",
        "tags": keyed(experiment.tags),
    }
    if experiment.created_at is not None:
        told["creation_time"] = milliseconds(experiment.created_at)
        told["last_update_time"] = milliseconds(experiment.updated_at or experiment.created_at)
    return told


# `list` is what clients before MLflow 2 ask for.
ROUTES = [
    MlflowRoute("POST", "mlflow/experiments/create", "run", create, Create),
    MlflowRoute("GET", "mlflow/experiments/get", "see", get, One),
    MlflowRoute("GET", "mlflow/experiments/get-by-name", "see", get_by_name, ByName),
    MlflowRoute("POST", "mlflow/experiments/search", "see", search, Search),
    MlflowRoute("GET", "mlflow/experiments/search", "see", search, Search),
    MlflowRoute("GET", "mlflow/experiments/list", "see", search, Search),
    MlflowRoute("POST", "mlflow/experiments/search-datasets", "see", search_datasets, OfExperiments),
    MlflowRoute("POST", "mlflow/experiments/update", "run", update, Update),
    MlflowRoute("POST", "mlflow/experiments/delete", "run", delete, One),
    MlflowRoute("POST", "mlflow/experiments/restore", "run", restore, One),
    MlflowRoute("POST", "mlflow/experiments/set-experiment-tag", "run", set_tag, Tag),
    MlflowRoute("POST", "mlflow/experiments/delete-experiment-tag", "run", delete_tag, Tag),
]
