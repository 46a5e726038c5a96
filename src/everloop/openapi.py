"""An OpenAPI 3.1 description, made of what an app declares: its operations, and the types that they take and answer.

Knows no app and no room: whoever has operations describes them with `describe`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

JSON = "application/json"
_REF = "#/components/schemas/"
_NAME = re.compile(r"\{(\w+)(?::\w+)?\}")  # {name}, or {name:path} that goes over slashes
Schema = dict[str, Any]
_BYTES: Schema = {
    "schema": {"contentMediaType": "application/octet-stream"}
}  # as OpenAPI 3.1 says bytes: a file may be JSON


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call. `asked` is a record: its fields are those of the path, and all others of `asked_in`.

    `body` names the media types of a body that is not made of fields, `answers` those of an answer that is no JSON.
    `security` lists what a caller may prove themselves with, each alone enough; nothing where anybody may call.
    `errors` are the names of error answers by status, which the description's `errors` define.
    """

    id: str
    tag: str
    method: str
    path: str
    summary: str
    asked: Any = None
    asked_in: Literal["query", "body"] = "query"
    body: Sequence[str] = ()
    answer: Any = None
    answers: Sequence[str] = ()
    errors: Mapping[int, str]
    security: Sequence[str] = ()
    needs: str | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Refusal:
    """An answer that says no: what it means, and the type of its JSON."""

    meaning: str
    form: Any


def describe(
    operations: Iterable[Operation],
    *,
    title: str,
    version: str,
    description: str,
    tags: Mapping[str, str],
    refusals: Mapping[str, Refusal],
    security: Mapping[str, Schema],
) -> Schema:
    """The description of operations as an OpenAPI 3.1 document. Raises TypeError for a type that JSON has no form for."""
    told = sorted(operations, key=lambda one: (_path(one), one.method))
    types = [one.asked for one in told] + [one.answer for one in told]
    found, records = msgspec.json.schema_components(
        [*types, *(one.form for one in refusals.values())], ref_template=_REF + "{name}"
    )
    schemas = [_tidied(one) for one in found]
    components = {_flat(name): {**_tidied(one), "title": _flat(name)} for name, one in records.items()}
    forms = dict(zip(refusals, schemas[2 * len(told) :], strict=True))
    paths: dict[str, Schema] = {}
    for one, asked, answer in zip(told, schemas, schemas[len(told) :], strict=False):
        paths.setdefault(_path(one), {})[one.method.lower()] = _operation(one, asked, answer, components)
    document = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "tags": [{"name": name, "description": meaning} for name, meaning in tags.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                name: {"description": one.meaning, "content": {JSON: {"schema": forms[name]}}}
                for name, one in refusals.items()
            },
            "securitySchemes": dict(security),
        },
    }
    _drop_unused(document)
    return document


def path_names(path: str) -> list[str]:
    """The names in a path, in order."""
    return _NAME.findall(path)


def _tidied(value: Any) -> Any:
    """A schema as generators of clients take it: no dots in names, and no `items: false` beside maxItems."""
    if isinstance(value, list):
        return [_tidied(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return {"$ref": _REF + _flat(value["$ref"].removeprefix(_REF))}
    return {
        name: _tidied(one)
        for name, one in value.items()
        if not (name == "items" and one is False and "maxItems" in value)
    }


def _flat(name: str) -> str:
    """A record's name, its modules in it where two have the same: package.room.module.Name is RoomModuleName.

    >>> _flat("everloop.checks.plots.Point"), _flat("Run")
    ('ChecksPlotsPoint', 'Run')
    """
    first, dot, rest = name.partition(".")
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"\W|_", rest)) if dot else first


def _path(operation: Operation) -> str:
    return _NAME.sub(r"{\1}", operation.path)


def _operation(one: Operation, asked: Schema, answer: Schema, components: Mapping[str, Schema]) -> Schema:
    in_path = path_names(one.path)
    fields = _resolved(asked, components)
    properties = fields.get("properties", {})
    parameters = [_parameter("path", name, properties.get(name, {"type": "string"})) for name in in_path]
    parameters += [
        _parameter("header", name, {"type": "string", "description": meaning})
        for name, meaning in (one.headers or {}).items()
    ]
    found: Schema = {
        "operationId": one.id,
        "tags": [one.tag],
        "summary": one.summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": _content(one.answers, answer)},
            **{
                str(status): {"$ref": f"#/components/responses/{name}"} for status, name in one.errors.items()
            },
        },
        "security": [{name: []} for name in one.security],
    }
    if one.needs is not None:
        found["description"] = f"Needs the permission `{one.needs}`."
        found["x-permission"] = one.needs
    if one.asked is not None and one.asked_in == "query":
        required = fields.get("required", ())
        parameters += [
            _parameter("query", name, schema, is_required=name in required)
            for name, schema in properties.items()
            if name not in in_path
        ]
    if one.body:
        found["requestBody"] = {"required": True, "content": dict.fromkeys(one.body, _BYTES)}
    elif one.asked is not None and one.asked_in == "body":
        body = _without(fields, in_path) if in_path and properties.keys() & set(in_path) else asked
        is_required = bool(_resolved(body, components).get("required"))
        found["requestBody"] = {"required": is_required, "content": {JSON: {"schema": body}}}
    return found


def _parameter(place: str, name: str, schema: Schema, *, is_required: bool | None = None) -> Schema:
    schema = {key: value for key, value in _without_null(schema).items() if value is not None}
    required = place == "path" if is_required is None else is_required
    described = {"description": schema.pop("description")} if "description" in schema else {}
    return {"name": name, "in": place, "required": required, **described, "schema": schema}


def _without_null(schema: Schema) -> Schema:
    """What may be said in a URL, where nothing is said by leaving it out."""
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if not others:
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return {**rest, **others[0]} if len(others) == 1 else {**rest, "anyOf": others}


def _without(fields: Schema, names: Collection[str]) -> Schema:
    properties = {name: one for name, one in fields["properties"].items() if name not in names}
    required = [name for name in fields.get("required", ()) if name not in names]
    return {"type": "object", "properties": properties, "required": required}


def _content(media: Sequence[str], schema: Schema) -> Schema:
    return dict.fromkeys(media, _BYTES) if media else {JSON: {"schema": schema}}


def _resolved(schema: Schema, components: Mapping[str, Schema]) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix(_REF)
    return components[name] if name else schema


def _drop_unused(document: Schema) -> None:
    """Take out the records that became parameters."""
    schemas: dict[str, Schema] = document["components"]["schemas"]
    waiting = list(_refs([document["paths"], document["components"]["responses"]]))
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += _refs(schemas[name])
    document["components"]["schemas"] = {name: schemas[name] for name in sorted(used)}


def _refs(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key == "$ref" and one.startswith(_REF):
                yield one.removeprefix(_REF)
            else:
                yield from _refs(one)
    elif isinstance(value, list):
        for one in value:
            yield from _refs(one)
