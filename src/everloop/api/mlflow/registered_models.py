"""MLflow's calls about registered models: their descriptions, tags, aliases and newest versions."""

from __future__ import annotations

from dataclasses import replace
from typing import TypedDict

import msgspec

from everloop import registry, rollout
from everloop.api.mlflow.model_versions import (
    IS_PROMPT,
    MLFLOW_STAGES,
    Found,
    Named,
    NextPage,
    Tag,
    VersionForm,
    next_page,
    offset_of,
    stages_of,
    tags_of,
    told_version,
    told_versions,
    within,
)
from everloop.api.mlflow.protocol import KeyValue, MlflowError, MlflowRoute, keyed
from everloop.api.routes import Call
from everloop.clock import to_micros
from everloop.errors import Invalid, NotFound
from everloop.registry import RegisteredModel
from everloop.workspace import Workspace

_MOST_MODELS = 1_000


class Create(Named):
    tags: list[Tag] = []
    description: str | None = None
    deployment_job_id: str | None = None


class Rename(Named):
    new_name: str


class Update(Named):
    description: str | None = None


class Search(msgspec.Struct):
    filter: str = ""
    max_results: int = 100
    order_by: list[str] = []
    page_token: str = ""


class Latest(Named):
    stages: list[str] = []


class SetTag(Named):
    key: str
    value: str = ""


class DeleteTag(Named):
    key: str


class Alias(Named):
    alias: str


class SetAlias(Alias):
    version: str


class AliasForm(TypedDict):
    alias: str
    version: str


class RegisteredModelForm(TypedDict):
    """A model in the protocol's form."""

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str
    description: str
    latest_versions: list[VersionForm]
    tags: list[KeyValue]
    aliases: list[AliasForm]


class FoundModel(TypedDict):
    registered_model: RegisteredModelForm


class Page(NextPage):
    registered_models: list[RegisteredModelForm]


class Newest(TypedDict):
    model_versions: list[VersionForm]


def create(call: Call, asked: Create) -> FoundModel:
    """Make a model without versions."""
    tags = tags_of(asked.tags)
    if tags.get(IS_PROMPT, "false").lower() == "true":
        raise MlflowError("NOT_IMPLEMENTED", "prompts are not supported by this server; it registers models.")
    made = registry.create(call.ws, asked.name, description=asked.description or "", tags=tags)
    return {"registered_model": _told(call.ws, made)}


def get(call: Call, asked: Named) -> FoundModel:
    """One model with its newest versions, tags and aliases."""
    return {"registered_model": _told(call.ws, registry.model(call.ws, asked.name))}


def search(call: Call, asked: Search) -> Page:
    """The models that a filter finds, in an order, a page at a time."""
    limit, offset = within(asked.max_results, _MOST_MODELS), offset_of(asked.page_token)
    found = registry.search_models(
        call.ws, asked.filter, order_by=asked.order_by, offset=offset, limit=limit + 1
    )
    return {
        "registered_models": [_told(call.ws, one) for one in found[:limit]],
        **next_page(offset, limit, len(found)),
    }


def rename(call: Call, asked: Rename) -> FoundModel:
    """Let a model go on under another name."""
    return {"registered_model": _told(call.ws, registry.rename(call.ws, asked.name, asked.new_name))}


def update(call: Call, asked: Update) -> FoundModel:
    """Change a model's description."""
    changed = registry.describe_model(call.ws, asked.name, asked.description or "")
    return {"registered_model": _told(call.ws, changed)}


def delete(call: Call, asked: Named) -> None:
    """Delete a model with its versions, unless one of them is in use."""
    rollout.require_not_live(call.ws, asked.name)
    registry.delete_model(call.ws, asked.name)


def latest(call: Call, asked: Latest) -> Newest:
    """The newest version in each stage, or in those that are asked for."""
    registry.model(call.ws, asked.name)
    wanted = {one.lower() for one in asked.stages}
    if unknown := wanted - MLFLOW_STAGES:
        raise Invalid(
            f"{min(unknown)[:60]!r} is no stage of MLflow's; those are None, Staging, Production and Archived."
        )
    newest = _newest_by_stage(call.ws, asked.name)
    return {"model_versions": [one for one in newest if not wanted or one["current_stage"].lower() in wanted]}


def set_tag(call: Call, asked: SetTag) -> None:
    """Set a tag of a model."""
    registry.tag_model(call.ws, asked.name, asked.key, asked.value)


def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Remove a tag of a model."""
    registry.untag_model(call.ws, asked.name, asked.key)


def set_alias(call: Call, asked: SetAlias) -> None:
    """Let an alias mean a version of the model."""
    registry.alias(call.ws, asked.name, asked.alias, f"{asked.name}@{asked.version}")


def delete_alias(call: Call, asked: Alias) -> None:
    """Let an alias mean nothing any more."""
    registry.drop_alias(call.ws, asked.name, asked.alias)


def by_alias(call: Call, asked: Alias) -> Found:
    """The version that an alias means."""
    number = registry.aliases(call.ws, asked.name).get(asked.alias)
    if number is None:
        # MLflow's clients expect this code of an alias that is not there, and another of a model that is not
        raise MlflowError(
            "INVALID_PARAMETER_VALUE",
            f"the model {asked.name} has no alias {asked.alias!r}. Set it with set_registered_model_alias.",
        )
    return {"model_version": told_version(call.ws, registry.version(call.ws, f"{asked.name}@{number}"))}


def _told(ws: Workspace, model: RegisteredModel) -> RegisteredModelForm:
    aliases = registry.aliases(ws, model.name)
    return {
        "name": model.name,
        "creation_timestamp": to_micros(model.created_at) // 1_000,
        "last_updated_timestamp": to_micros(model.updated_at or model.created_at) // 1_000,
        "user_id": model.created_by,
        "description": model.description,
        "latest_versions": _newest_by_stage(ws, model.name),
        "tags": keyed(model.tags),
        "aliases": [{"alias": name, "version": str(number)} for name, number in aliases.items()],
    }


def _newest_by_stage(ws: Workspace, name: str) -> list[VersionForm]:
    """The newest version of each of MLflow's stages: those in a stage of ours, and the newest in none."""
    by_stage: dict[str, VersionForm] = {}
    try:
        places = set(stages_of(ws, name))
    except NotFound:  # deleted meanwhile
        return []
    for version in told_versions(ws, registry.versions(ws, name)):
        by_stage.setdefault(version["current_stage"], version)
        if places | {"None", "Archived"} <= set(by_stage):
            break
    return list(by_stage.values())


ROUTES = [
    MlflowRoute("POST", "mlflow/registered-models/create", "run", create, Create),
    MlflowRoute("GET", "mlflow/registered-models/get", "see", get, Named),
    MlflowRoute("GET", "mlflow/registered-models/search", "see", search, Search),
    MlflowRoute("GET", "mlflow/registered-models/list", "see", search, Search),  # before 2.0
    MlflowRoute("POST", "mlflow/registered-models/rename", "release", rename, Rename),
    MlflowRoute("PATCH", "mlflow/registered-models/update", "run", update, Update),
    MlflowRoute("DELETE", "mlflow/registered-models/delete", "release", delete, Named),
    MlflowRoute("GET", "mlflow/registered-models/get-latest-versions", "see", latest, Latest),
    MlflowRoute("POST", "mlflow/registered-models/get-latest-versions", "see", latest, Latest),
    MlflowRoute("POST", "mlflow/registered-models/set-tag", "run", set_tag, SetTag),
    MlflowRoute("DELETE", "mlflow/registered-models/delete-tag", "run", delete_tag, DeleteTag),
    MlflowRoute("POST", "mlflow/registered-models/alias", "release", set_alias, SetAlias),
    MlflowRoute("DELETE", "mlflow/registered-models/alias", "release", delete_alias, Alias),
    MlflowRoute("GET", "mlflow/registered-models/alias", "see", by_alias, Alias),
]
# clients before 2.0 look here
ROUTES += [replace(route, path=f"preview/{route.path}") for route in ROUTES]
