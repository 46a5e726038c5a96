"""MLflow's calls about versions of models, with its four stages over ours."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import NotRequired, TypedDict
from urllib.parse import quote

import msgspec

from everloop import registry, rollout
from everloop.api.mlflow.protocol import KeyValue, MlflowError, MlflowRoute, keyed
from everloop.api.routes import Call
from everloop.clock import to_micros
from everloop.errors import Invalid
from everloop.registry import ModelVersion
from everloop.workspace import Workspace

IS_PROMPT = "mlflow.prompt.is_prompt"
_MOST_VERSIONS = 200_000  # what may be asked for; a page has fewer
_PAGE = 10_000
_STAGES = {"staging": "Staging", "production": "Production"}  # ours, by the names that MLflow has for them


MLFLOW_STAGES = frozenset({"none", "archived", *_STAGES})


class Tag(msgspec.Struct):
    key: str
    value: str = ""


class Named(msgspec.Struct):
    name: str


class Version(Named):
    version: str

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"


class Create(Named):
    source: str
    run_id: str | None = None
    tags: list[Tag] = []
    run_link: str | None = None
    description: str | None = None
    model_id: str | None = None


class Update(Version):
    description: str | None = None


class Transition(Version):
    stage: str
    archive_existing_versions: bool = False


class SetTag(Version):
    key: str
    value: str = ""


class DeleteTag(Version):
    key: str


class Search(msgspec.Struct):
    filter: str = ""
    max_results: int = _MOST_VERSIONS
    order_by: list[str] = []
    page_token: str = ""


class NextPage(TypedDict, total=False):
    next_page_token: str


class VersionForm(TypedDict):
    """A version in the protocol's form."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str
    current_stage: str
    description: str
    source: str
    run_id: str
    run_link: str
    status: str
    status_message: str
    tags: list[KeyValue]
    aliases: list[str]
    model_id: NotRequired[str]


class Found(TypedDict):
    model_version: VersionForm


class Page(NextPage):
    model_versions: list[VersionForm]


def create(call: Call, asked: Create) -> Found:
    """Register what is at a source as the next version of a model."""
    tags = tags_of(asked.tags)
    if tags.get(IS_PROMPT, "false").lower() == "true":
        raise MlflowError("NOT_IMPLEMENTED", "prompts are not supported by this server; it registers models.")
    made = registry.register_source(
        call.ws,
        asked.name,
        asked.source,
        run=f"run_{asked.run_id}" if asked.run_id else None,
        logged_model=asked.model_id or None,
        run_link=asked.run_link or None,
        description=asked.description or "",
        tags=tags,
    )
    return {"model_version": told_version(call.ws, made)}


def get(call: Call, asked: Version) -> Found:
    """One version."""
    return {"model_version": told_version(call.ws, _found(call, asked))}


def search(call: Call, asked: Search) -> Page:
    """The versions that a filter finds, in an order, a page at a time."""
    limit = min(within(asked.max_results, _MOST_VERSIONS), _PAGE)
    offset = offset_of(asked.page_token)
    found = registry.search_versions(
        call.ws, asked.filter, order_by=asked.order_by, offset=offset, limit=limit + 1
    )
    return {
        "model_versions": told_versions(call.ws, found[:limit]),
        **next_page(offset, limit, len(found)),
    }


def update(call: Call, asked: Update) -> Found:
    """Change a version's description."""
    changed = registry.describe(call.ws, _found(call, asked).ref, asked.description or "")
    return {"model_version": told_version(call.ws, changed)}


def delete(call: Call, asked: Version) -> None:
    """Delete a version, unless it is in use."""
    ref = _found(call, asked).ref
    rollout.require_not_live(call.ws, ref)
    registry.delete_version(call.ws, ref)


def transition(call: Call, asked: Transition) -> Found:
    """Move a version to a stage, if it has passed the gates and has the approvals that the stage asks for.

    A stage has one version here: the one that was there before is archived, asked for or not.
    """
    ref, stage = _found(call, asked).ref, asked.stage.lower()
    reason = "asked for by an MLflow client"
    if stage in _STAGES:
        registry.promote(call.ws, ref, stage, reason=reason, alone=True)
    elif stage == "archived":
        registry.archive(call.ws, ref, reason=reason)
    elif stage == "none":
        registry.unarchive(call.ws, ref, reason=reason)
    else:
        raise Invalid(
            f"{asked.stage[:60]!r} is no stage of MLflow's; those are None, Staging, Production and Archived. Other stages are "
            "entered with: everloop models promote VERSION STAGE"
        )
    return {"model_version": told_version(call.ws, registry.version(call.ws, ref))}


def download_uri(call: Call, asked: Version) -> dict[str, str]:
    """Where the files of a version are: its own copies, whatever became of its source."""
    return {"artifact_uri": _place(_found(call, asked))}


def set_tag(call: Call, asked: SetTag) -> None:
    """Set a tag of a version."""
    registry.tag(call.ws, _found(call, asked).ref, asked.key, asked.value)


def delete_tag(call: Call, asked: DeleteTag) -> None:
    """Remove a tag of a version."""
    registry.untag(call.ws, _found(call, asked).ref, asked.key)


def told_version(ws: Workspace, version: ModelVersion) -> VersionForm:
    """A version as MLflow's clients read it."""
    return told_versions(ws, [version])[0]


def told_versions(ws: Workspace, versions: Sequence[ModelVersion]) -> list[VersionForm]:
    """Versions as MLflow's clients read them, their stages and aliases looked up once for each model."""
    models = {one.model for one in versions}
    stages = {name: stages_of(ws, name) for name in models}
    aliases = {name: registry.aliases(ws, name) for name in models}
    return [_told(one, stages[one.model], aliases[one.model]) for one in versions]


def _told(one: ModelVersion, stages: dict[str, int], aliases: dict[str, int]) -> VersionForm:
    told: VersionForm = {
        "name": one.model,
        "version": str(one.number),
        "creation_timestamp": to_micros(one.created_at) // 1_000,
        "last_updated_timestamp": to_micros(one.updated_at or one.created_at) // 1_000,
        "user_id": one.author,
        "current_stage": _stage(one, stages),
        "description": one.description,
        "source": one.source or _place(one),
        "run_id": (one.run or "").removeprefix("run_"),
        "run_link": one.run_link or "",
        "status": "READY",
        "status_message": "" if one.files else f"no files were found at {one.source}",
        "tags": keyed(one.tags),
        "aliases": [name for name, number in aliases.items() if number == one.number],
    }
    if one.logged_model is not None:
        told["model_id"] = one.logged_model
    return told


def stages_of(ws: Workspace, name: str) -> dict[str, int]:
    """The number of the version in each of MLflow's stages that is one of ours."""
    ours = registry.stages(ws, name)
    return {theirs: ours[stage] for stage, theirs in _STAGES.items() if stage in ours}


def tags_of(tags: Sequence[Tag]) -> dict[str, str]:
    """Tags by name; the last of a name counts."""
    return {one.key: one.value for one in tags}


def within(number: int, most: int) -> int:
    """How many are asked for. Raises Invalid for none, or more than may be."""
    if not 1 <= number <= most:
        raise Invalid(
            f"max_results is {number}; it is a whole number from 1 to {most:,}. Ask for a page at a time."
        )
    return number


def offset_of(token: str) -> int:
    """How many come before the page of a token. Raises Invalid for a token that no answer gave."""
    if not token:
        return 0
    try:
        text = base64.b64decode(token[:40], validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        text = ""
    if not text.isdigit() or len(text) > 9:
        raise Invalid(
            f"the page token {token[:40]!r} is none that this server gave. Ask for the first page without one."
        )
    return int(text)


def next_page(offset: int, limit: int, found: int) -> NextPage:
    """The token of the next page, where there is one."""
    if found <= limit:
        return {}
    return {"next_page_token": base64.b64encode(str(offset + limit).encode()).decode()}


def _found(call: Call, asked: Version) -> ModelVersion:
    """A version by its number alone. Raises Invalid for anything but a number, NotFound."""
    if not (asked.version.isascii() and asked.version.isdigit()):
        raise Invalid(f"the version is {asked.version[:40]!r}; it is a whole number. Name one, such as 1.")
    return registry.version(call.ws, asked.ref)


def _stage(version: ModelVersion, stages: dict[str, int]) -> str:
    held = [theirs for theirs, number in stages.items() if number == version.number]
    return held[-1] if held else "Archived" if version.archived_at else "None"


def _place(version: ModelVersion) -> str:
    return f"mlflow-artifacts:/versions/{quote(version.model, safe=' ')}/{version.number}"


ROUTES = [
    MlflowRoute("POST", "mlflow/model-versions/create", "run", create, Create),
    MlflowRoute("GET", "mlflow/model-versions/get", "see", get, Version),
    MlflowRoute("GET", "mlflow/model-versions/search", "see", search, Search),
    MlflowRoute("PATCH", "mlflow/model-versions/update", "run", update, Update),
    MlflowRoute("DELETE", "mlflow/model-versions/delete", "release", delete, Version),
    MlflowRoute("POST", "mlflow/model-versions/transition-stage", "release", transition, Transition),
    MlflowRoute("GET", "mlflow/model-versions/get-download-uri", "see", download_uri, Version),
    MlflowRoute("POST", "mlflow/model-versions/set-tag", "run", set_tag, SetTag),
    MlflowRoute("DELETE", "mlflow/model-versions/delete-tag", "run", delete_tag, DeleteTag),
]
# clients before 2.0 look here
ROUTES += [replace(route, path=f"preview/{route.path}") for route in ROUTES]
