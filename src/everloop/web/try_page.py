"""`/endpoints/NAME/try`: ask an endpoint by hand, with a field for each input of the model that is live."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from everloop import predictions, rollout, serving
from everloop.errors import Invalid, NotFound
from everloop.predictions import PredictionRecord, PredictionSearch
from everloop.serving import TRIED, Field, Signature
from everloop.web.visits import Shown, Visit

_LONG = 60  # characters from which on a text gets several lines


@dataclass(frozen=True)
class FormField:
    """An input of the model, and what its field says at first; `options` where only some values are allowed."""

    name: str
    type: str
    nullable: bool
    value: str
    is_none: bool
    options: tuple[str, ...]
    minimum: float | None
    maximum: float | None

    @property
    def is_long(self) -> bool:
        return len(self.value) > _LONG or "\n" in self.value

    @property
    def rule(self) -> str:
        """What its values must be, in a few words."""
        words = {
            "integer": "whole number",
            "number": "number",
            "time": "time, UTC",
            "image": "image file",
            "binary": "file",
            "boolean": "yes or no",
        }
        limits = [
            *([f"{self.minimum:g} or more"] if self.minimum is not None else []),
            *([f"at most {self.maximum:g}"] if self.maximum is not None else []),
            *(["may be none"] if self.nullable else []),
        ]
        return ", ".join([words.get(self.type, "text"), *limits])


def view(visit: Visit) -> Shown:
    endpoint = rollout.endpoint(visit.ws, visit.path["name"])
    shown: Shown = {
        "endpoint": endpoint,
        "fields": [],
        "like": None,
        "version": None,
        "key": f"{TRIED}{visit.principal.name}",
    }
    if not endpoint.variants:
        return shown
    live = endpoint.variants[0]
    signature = serving.read_manifest(visit.ws.home / "serving", live.release).signature
    like = _like(visit, endpoint.name)
    return {
        **shown,
        "version": live.version,
        "fields": _fields(signature, None if like is None else like.inputs),
        "like": None if like is None else like.id,
    }


def _like(visit: Visit, endpoint: str) -> PredictionRecord | None:
    """The request with whose inputs the form is filled: the one that is named, else the newest that was answered."""
    wanted = visit.query.get("like")
    folder = visit.ws.home / "serving"
    if wanted is None:
        recent = PredictionSearch(endpoint=endpoint, status="ok", kind="live")
        return next(iter(predictions.newest_predictions(folder, recent, limit=1).records), None)
    found = predictions.find(folder, wanted)
    if found is None:
        raise NotFound(f"there is no prediction {wanted} in this workspace's log. Leave ?like= out.")
    if found.endpoint != endpoint:
        raise Invalid(f"{wanted} was asked of {found.endpoint!r}, not of {endpoint!r}. Try it there.")
    return found


def _fields(signature: Signature, given: dict[str, Any] | None) -> list[FormField]:
    made_up = dict(zip((one.name for one in signature.inputs), serving.example_row(signature), strict=True))
    return [_field(one, (given or made_up).get(one.name)) for one in signature.inputs]


def _field(of: Field, value: Any) -> FormField:
    options = tuple(map(_text, of.allowed or ((True, False) if of.type == "boolean" else ())))
    is_file = of.type in ("image", "binary")  # the log has its digest alone
    text = "" if value is None or is_file else _text(value)
    is_none = of.nullable and value is None
    return FormField(of.name, of.type, of.nullable, text, is_none, options, of.minimum, of.maximum)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
