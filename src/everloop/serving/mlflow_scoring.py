"""MLflow's scoring protocol: a table in one of four JSON forms, or CSV; `{"predictions": [...]}` out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import islice
from typing import Any

import msgspec

from everloop.serving.answer import Answer
from everloop.serving.form import (
    MOST_INSTANCES,
    Asking,
    Form,
    adapted,
    beside,
    check_number,
    decoded,
    invalid,
    named,
    one_refusal,
    questions,
)
from everloop.serving.http import Headers, Refusal, Reply, header, refusal_reply
from everloop.serving.kserve_v1 import predictions
from everloop.serving.live import LiveEndpoint
from everloop.serving.records import Field, Signature

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_ERROR_CODES = {
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    422: "INVALID_PARAMETER_VALUE",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}


class _Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    data: list[list[Any]]
    columns: list[Any] | None = None
    index: list[Any] | None = None


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dataframe_split: _Split | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    inputs: list[Any] | dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Body)


def _read(endpoint: LiveEndpoint, headers: Headers, body: bytes) -> Asking:
    kind = _content_type(headers)
    if kind == "text/csv":
        return Asking(questions(_csv_rows(endpoint.signature, body), beside(headers, {})), _reply)
    if kind != "application/json":
        raise Refusal(
            415,
            "unsupported",
            f"the content type is {kind!r}; application/json and text/csv are taken. Send one of them.",
        )
    given = decoded(_decoder, body)
    said = beside(headers, given.params or {})
    return Asking(questions(_json_rows(endpoint.signature, given), said), _reply)


def _content_type(headers: Headers) -> str:
    kind, *parameters = (header(headers, b"content-type") or "application/json").lower().split(";")
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise Refusal(
                415, "unsupported", f"the charset is {value}; only UTF-8 is taken. Send it in UTF-8."
            )
    return kind.strip()


def _json_rows(signature: Signature, body: _Body) -> list[dict[str, Any]]:
    given = [name for name in _FORMS if getattr(body, name) is not msgspec.UNSET]
    if len(given) != 1:
        raise invalid(
            f"the body has {' and '.join(given) or 'no rows'}; it must have exactly one of {', '.join(_FORMS)}."
        )
    content = getattr(body, given[0])
    if isinstance(content, _Split):
        return _split_rows(signature, content)
    rows = _transposed(content) if isinstance(content, dict) else content
    check_number(len(rows))
    return [named(signature, row, number) for number, row in enumerate(rows)]


def _split_rows(signature: Signature, split: _Split) -> list[dict[str, Any]]:
    check_number(len(split.data))
    if split.columns is None:
        return [named(signature, row, number) for number, row in enumerate(split.data)]
    names = split.columns
    for number, row in enumerate(split.data):
        if len(row) != len(names):
            raise invalid(f"row {number} has {len(row)} values; `columns` names {len(names)}.")
    fields = _fields(signature, [str(name) for name in names])
    return [
        {name: adapted(field, value) for (name, field), value in zip(fields, row, strict=True)}
        for row in split.data
    ]


def _fields(signature: Signature, names: Sequence[str]) -> list[tuple[str, Field | None]]:
    """Each column's name with its field; None for what the model does not take."""
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise invalid(f"the columns {', '.join(sorted(twice))} are there more than once. Name each once.")
    known = {field.name: field for field in signature.inputs}
    return [(name, known.get(name)) for name in names]


def _transposed(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows from a list for each column; values that are no lists are one row."""
    if not any(isinstance(values, list) for values in columns.values()):
        return [columns]
    lengths = {name: len(values) if isinstance(values, list) else 1 for name, values in columns.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise invalid(
            f"the columns of `inputs` have different numbers of values: {found}. Give each as many."
        )
    lists = (values if isinstance(values, list) else [values] for values in columns.values())
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def _csv_rows(signature: Signature, body: bytes) -> list[dict[str, Any]]:
    """Rows of a CSV file with a header; a first column without a name is an index, which is left out."""
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        names = next(reader, [])
        lines = list(islice((line for line in reader if line), MOST_INSTANCES + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(
            400, "malformed", f"the body is not CSV in UTF-8: {error}. Send a header and rows."
        ) from error
    check_number(len(lines))
    first = 1 if names and names[0] == "" else 0
    fields = _fields(signature, names[first:])
    for number, line in enumerate(lines):
        if len(line) != len(names):
            raise invalid(f"row {number} has {len(line)} values; the header names {len(names)}.")
    return [
        {name: _from_text(field, text) for (name, field), text in zip(fields, line[first:], strict=True)}
        for line in lines
    ]


def _from_text(field: Field | None, text: str) -> Any:
    """A CSV value as its field's type; text that is none stays text, for the signature's check to refuse."""
    kind = None if field is None else field.type
    if text == "":
        return text if field is not None and kind == "string" and not field.nullable else None
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in ("integer", "number") and "_" not in text:
        try:
            return adapted(field, int(text) if text.lstrip("+-").isdecimal() else float(text))
        except ValueError:
            return text
    return adapted(field, text)


def _reply(answers: list[Answer]) -> Reply:
    refusal = one_refusal(answers)
    return predictions(answers) if refusal is None else _error(refusal)


def _error(refusal: Refusal) -> Reply:
    return refusal_reply(
        refusal.status,
        {
            "error_code": _ERROR_CODES.get(refusal.status, "BAD_REQUEST"),
            "message": str(refusal),
            **refusal.more,
        },
    )


MLFLOW_SCORING = Form(_read, _error)
