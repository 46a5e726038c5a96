"""MLflow's calls for logged models: what a client logs before anybody registers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import msgspec

from everloop import registry, tracking
from everloop.api.mlflow.protocol import (
    KeyValue,
    MlflowRoute,
    Named,
    experiment_number,
    keyed,
    milliseconds,
    named,
    number,
    run_key,
)
from everloop.api.mlflow.runs import MetricForm
from everloop.api.routes import Call
from everloop.errors import Invalid
from everloop.tracking import DatasetOfMetric, FoundMetric, LoggedModel, ModelOrder, ModelStatus

_STATUSES: dict[str | int, ModelStatus] = {
    "LOGGED_MODEL_PENDING": "pending",
    "LOGGED_MODEL_READY": "ready",
    "LOGGED_MODEL_UPLOAD_FAILED": "upload_failed",
    1: "pending",
    2: "ready",
    3: "upload_failed",
}
_VERSIONS_TAG = (
    "mlflow.modelVersions"  # by which MLflow's pages find versions; its server and its clients write it there
)
_MOST_PARAMS = 100  # of one call, as MLflow's clients send them
_MOST_AT_ONCE = 1_000


class Create(msgspec.Struct):
    experiment_id: str = "0"
    name: str | None = None
    model_type: str | None = None
    source_run_id: str | None = None
    params: list[Named] = []
    tags: list[Named] = []


class One(msgspec.Struct):
    model_id: str


class Get(One):
    allow_deleted: bool = False


class Finalize(One, kw_only=True):
    status: str | int


class Texts(One):
    params: list[Named] = []
    tags: list[Named] = []


class TagName(One):
    tag_key: str


class Dataset(msgspec.Struct):
    dataset_name: str = ""
    dataset_digest: str | None = None


class OrderBy(Dataset, kw_only=True):
    field_name: str
    ascending: bool = True


class Search(msgspec.Struct):
    experiment_ids: list[str] = []
    filter: str | None = None
    datasets: list[Dataset] = []
    max_results: int | None = None
    order_by: list[OrderBy] = []
    page_token: str | None = None


class ModelInfo(TypedDict):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    tags: list[KeyValue]
    model_type: NotRequired[str]
    source_run_id: NotRequired[str]


class ModelMetricForm(MetricForm):
    model_id: str
    run_id: str
    dataset_name: NotRequired[str]
    dataset_digest: NotRequired[str]


class ModelData(TypedDict):
    params: list[KeyValue]
    metrics: list[ModelMetricForm]


class LoggedModelForm(TypedDict):
    """A logged model in the protocol's form."""

    info: ModelInfo
    data: ModelData


class Found(TypedDict):
    model: LoggedModelForm


class Page(TypedDict):
    models: list[LoggedModelForm]
    next_page_token: NotRequired[str]


def create(call: Call, asked: Create) -> Found:
    """Begin a logged model; its files follow."""
    _check_count(asked.params)
    made = tracking.log_model(
        call.ws,
        experiment_number(asked.experiment_id),
        name=asked.name or None,
        kind=asked.model_type or None,
        run=run_key(asked.source_run_id) if asked.source_run_id else None,
        params=named(asked.params),
        tags=named(asked.tags),
    )
    return {"model": shown(call, [made])[0]}


def finalize(call: Call, asked: Finalize) -> Found:
    """Say that a model's files are there, or could not be written."""
    if asked.status not in _STATUSES:
        raise Invalid(
            f"the status is {str(asked.status)[:60]!r}; it is LOGGED_MODEL_READY or LOGGED_MODEL_UPLOAD_FAILED."
        )
    done = tracking.finish_logged_model(call.ws, asked.model_id, _STATUSES[asked.status])
    return {"model": shown(call, [done])[0]}


def get(call: Call, asked: Get) -> Found:
    """One logged model; a deleted one only with `allow_deleted`."""
    found = tracking.logged_model(call.ws, asked.model_id, or_deleted=asked.allow_deleted)
    return {"model": shown(call, [found])[0]}


def delete(call: Call, asked: One) -> None:
    """Delete a logged model; versions registered from it stay."""
    tracking.delete_logged_model(call.ws, asked.model_id)


def set_tags(call: Call, asked: Texts) -> Found:
    """Set tags of a logged model."""
    tracking.tag_logged_model(call.ws, asked.model_id, named(asked.tags))
    return {"model": shown(call, [tracking.logged_model(call.ws, asked.model_id)])[0]}


def delete_tag(call: Call, asked: TagName) -> None:
    """Remove a tag of a logged model."""
    tracking.untag_logged_model(call.ws, asked.model_id, asked.tag_key)


def log_params(call: Call, asked: Texts) -> None:
    """Write down parameters of a logged model, which do not change any more."""
    _check_count(asked.params)
    tracking.log_model_params(call.ws, asked.model_id, named(asked.params))


def search(call: Call, asked: Search) -> Page:
    """Logged models of some experiments that meet a filter, in pages."""
    if len(asked.experiment_ids) > _MOST_AT_ONCE or len(asked.datasets) > _MOST_PARAMS:
        raise Invalid(
            f"the search names {len(asked.experiment_ids)} experiments and {len(asked.datasets)} datasets; it is up to "
            f"{_MOST_AT_ONCE} and {_MOST_PARAMS}. Search in parts."
        )
    page = tracking.search_logged_models(
        call.ws,
        experiment_ids=[experiment_number(one) for one in asked.experiment_ids],
        filter_text=asked.filter,
        datasets=[_dataset(one) for one in asked.datasets],
        order_by=[_order(one) for one in asked.order_by],
        limit=100 if asked.max_results is None else asked.max_results,
        token=asked.page_token,
    )
    found: Page = {"models": shown(call, page.found)}
    return found if page.next_token is None else {**found, "next_page_token": page.next_token}


def shown(call: Call, models: Sequence[LoggedModel]) -> list[LoggedModelForm]:
    """Logged models in the protocol's form, each with a tag of the versions that were registered from it, if any were."""
    made = registry.versions_of_logged_models(call.ws, [one.id for one in models])
    return [_model(one, made.get(one.id, [])) for one in models]


def _model(model: LoggedModel, versions: Sequence[tuple[str, int]]) -> LoggedModelForm:
    tags = dict(model.tags)
    if versions:
        named = [{"name": name, "version": str(number)} for name, number in versions]
        tags[_VERSIONS_TAG] = msgspec.json.encode(named).decode()
    info: ModelInfo = {
        "model_id": model.id,
        "experiment_id": str(model.experiment_id),
        "name": model.name,
        "creation_timestamp_ms": milliseconds(model.created_at),
        "last_updated_timestamp_ms": milliseconds(model.updated_at),
        "artifact_uri": tracking.uri_at(model.keeping, model.id),
        "status": f"LOGGED_MODEL_{model.status.upper()}",
        "tags": keyed(tags),
    }
    if model.kind is not None:
        info["model_type"] = model.kind
    if model.run is not None:
        info["source_run_id"] = model.run.removeprefix("run_")
    return {
        "info": info,
        "data": {"params": keyed(model.params), "metrics": [_metric(one) for one in model.metrics]},
    }


def _metric(found: FoundMetric) -> ModelMetricForm:
    of, point = found.of, found.of.point
    told: ModelMetricForm = {
        "key": point.name,
        "value": number(point.value),
        "timestamp": milliseconds(point.at),
        "step": point.step,
        "model_id": of.model,
        "run_id": found.run.removeprefix("run_"),
    }
    if of.dataset_name:
        told["dataset_name"] = of.dataset_name
        told["dataset_digest"] = of.dataset_digest
    return told


def _dataset(given: Dataset) -> DatasetOfMetric:
    if not given.dataset_name:
        raise Invalid("a dataset of the search has no dataset_name. Name it, or leave the dataset out.")
    return DatasetOfMetric(given.dataset_name, given.dataset_digest)


def _order(given: OrderBy) -> ModelOrder:
    kind, dot, name = given.field_name.partition(".")
    if dot and kind != "metrics":
        raise Invalid(
            f"logged models cannot be ordered by {given.field_name[:60]!r}; they can by attributes and by metrics.NAME."
        )
    return ModelOrder(
        name if dot else given.field_name,
        is_metric=bool(dot),
        is_descending=not given.ascending,
        dataset=_dataset(given) if given.dataset_name else None,
    )


def _check_count(params: list[Named]) -> None:
    if len(params) > _MOST_PARAMS:
        raise Invalid(
            f"{len(params)} parameters were sent at once; {_MOST_PARAMS} is the most. Send them in parts."
        )


_ONE = "mlflow/logged-models/{model_id}"
ROUTES = [
    MlflowRoute("POST", "mlflow/logged-models", "run", create, Create),
    MlflowRoute("POST", "mlflow/logged-models/search", "see", search, Search),
    MlflowRoute("GET", _ONE, "see", get, Get),
    MlflowRoute("PATCH", _ONE, "run", finalize, Finalize),
    MlflowRoute("DELETE", _ONE, "run", delete, One),
    MlflowRoute("PATCH", f"{_ONE}/tags", "run", set_tags, Texts),
    MlflowRoute("DELETE", f"{_ONE}/tags/{{tag_key:path}}", "run", delete_tag, TagName),
    MlflowRoute("POST", f"{_ONE}/params", "run", log_params, Texts),
]
