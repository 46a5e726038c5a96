"""MLflow's calls about webhooks that are told what happens in the registry."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

import msgspec

from everloop import events
from everloop.api.mlflow.model_versions import NextPage, next_page, offset_of, within
from everloop.api.mlflow.protocol import MlflowError, MlflowRoute
from everloop.api.routes import Call
from everloop.clock import to_micros
from everloop.errors import Invalid
from everloop.events import Webhook

_MOST = 1_000
_MODEL = {"name": "example_model"}
_VERSION = {**_MODEL, "version": "1"}
# What is told of each kind of event, with an example for those who try a webhook.
_EXAMPLES: dict[str, dict[str, Any]] = {
    "registered_model.created": {**_MODEL, "tags": {}, "description": "An example"},
    "model_version.created": {
        **_VERSION,
        "source": "runs:/0123456789abcdef0123456789abcdef/model",
        "run_id": "0123456789abcdef0123456789abcdef",
        "tags": {},
        "description": "An example",
    },
    "model_version_tag.set": {**_VERSION, "key": "example_key", "value": "example_value"},
    "model_version_tag.deleted": {**_VERSION, "key": "example_key"},
    "model_version_alias.created": {**_VERSION, "alias": "example_alias"},
    "model_version_alias.deleted": {**_MODEL, "alias": "example_alias"},
}


class EventKind(msgspec.Struct):
    entity: str
    action: str

    @property
    def kind(self) -> str:
        """Its name in the room. Raises MlflowError for an event that does not happen here."""
        kind = f"{self.entity}.{self.action}".lower()
        if kind not in _EXAMPLES:
            raise MlflowError(
                "NOT_IMPLEMENTED",
                f"the event {kind[:80]!r} is not supported by this server; it tells {', '.join(_EXAMPLES)}.",
            )
        return kind


class Create(msgspec.Struct):
    name: str
    url: str
    events: list[EventKind]
    description: str | None = None
    secret: str | None = None
    status: str = "ACTIVE"


class List(msgspec.Struct):
    max_results: int = 100
    page_token: str = ""


class One(msgspec.Struct):
    webhook_id: str


class Update(One):
    name: str | None = None
    description: str | None = None
    url: str | None = None
    events: list[EventKind] | None = None
    secret: str | None = None
    status: str | None = None


class Try(One):
    event: EventKind | None = None


class EventForm(TypedDict):
    entity: str
    action: str


class WebhookForm(TypedDict):
    """A webhook in the protocol's form, without its secret."""

    webhook_id: str
    name: str
    description: str
    url: str
    events: list[EventForm]
    status: str
    creation_timestamp: int
    last_updated_timestamp: int


class Found(TypedDict):
    webhook: WebhookForm


class Page(NextPage):
    webhooks: list[WebhookForm]


class Result(TypedDict):
    success: bool
    response_status: NotRequired[int]
    error_message: NotRequired[str]


class Tried(TypedDict):
    result: Result


def create(call: Call, asked: Create) -> Found:
    """Tell an address of events from now on; it is looked up only when it is told."""
    made = events.add_webhook(
        call.ws,
        asked.name,
        asked.url,
        [one.kind for one in asked.events],
        description=asked.description or "",
        secret=asked.secret,
        is_active=_is_active(asked.status),
    )
    return {"webhook": _told(made)}


def list_(call: Call, asked: List) -> Page:
    """All webhooks, a page at a time."""
    limit, offset = within(asked.max_results, _MOST), offset_of(asked.page_token)
    found = events.list_webhooks(call.ws)[offset : offset + limit + 1]
    return {"webhooks": [_told(one) for one in found[:limit]], **next_page(offset, limit, len(found))}


def get(call: Call, asked: One) -> Found:
    """One webhook."""
    return {"webhook": _told(events.webhook(call.ws, asked.webhook_id))}


def update(call: Call, asked: Update) -> Found:
    """Change a webhook."""
    given = {"name": asked.name, "description": asked.description, "url": asked.url}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if asked.events:
        changes["kinds"] = tuple(dict.fromkeys(one.kind for one in asked.events))
    if asked.status is not None:
        changes["is_active"] = _is_active(asked.status)
    changed = events.change_webhook(call.ws, asked.webhook_id, secret=asked.secret, **changes)
    return {"webhook": _told(changed)}


def delete(call: Call, asked: One) -> None:
    """Tell an address no longer."""
    events.remove_webhook(call.ws, asked.webhook_id)


def try_(call: Call, asked: Try) -> Tried:
    """Tell a webhook of an example and say how that went; what it answers besides its status is not passed on."""
    found = events.webhook(call.ws, asked.webhook_id)
    kind = found.kinds[0] if asked.event is None else asked.event.kind
    attempt = events.try_webhook(call.ws, found.id, kind, _EXAMPLES[kind])
    result: Result = {"success": attempt.failure is None}
    if attempt.status is not None:
        result["response_status"] = attempt.status
    if attempt.failure is not None:
        result["error_message"] = attempt.failure
    return {"result": result}


def _is_active(status: str) -> bool:
    if status not in ("ACTIVE", "DISABLED"):
        raise Invalid(f"the status is {status[:40]!r}; it is ACTIVE or DISABLED.")
    return status == "ACTIVE"


def _told(one: Webhook) -> WebhookForm:
    kinds = [kind.upper().partition(".") for kind in one.kinds]
    return {
        "webhook_id": one.id,
        "name": one.name,
        "description": one.description,
        "url": one.url,
        "events": [{"entity": entity, "action": action} for entity, _, action in kinds],
        "status": "ACTIVE" if one.is_active else "DISABLED",
        "creation_timestamp": to_micros(one.created_at) // 1_000,
        "last_updated_timestamp": to_micros(one.updated_at) // 1_000,
    }


ROUTES = [
    MlflowRoute("POST", "mlflow/webhooks", "administer", create, Create),
    MlflowRoute("GET", "mlflow/webhooks", "administer", list_, List),
    MlflowRoute("GET", "mlflow/webhooks/{webhook_id}", "administer", get, One),
    MlflowRoute("PATCH", "mlflow/webhooks/{webhook_id}", "administer", update, Update),
    MlflowRoute("DELETE", "mlflow/webhooks/{webhook_id}", "administer", delete, One),
    MlflowRoute("POST", "mlflow/webhooks/{webhook_id}/test", "administer", try_, Try),
]
