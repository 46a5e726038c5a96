"""What all protocols share: how what came over HTTP becomes questions, and how answers go back.

A protocol is a `Form`: one function reads a request, and says by the way how its answers are written, another writes
what was refused. Between them every protocol goes the same way: route, check, features, model, log.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from everloop.serving.answer import Answer, Question
from everloop.serving.explain import MOST_EXPLAINED
from everloop.serving.http import Headers, Refusal, Reply, header
from everloop.serving.live import LiveEndpoint
from everloop.serving.records import Field, Signature

Body = TypeVar("Body")

MOST_INSTANCES = 1_000


class Asking(msgspec.Struct, frozen=True):
    """What a request asks, one question a row, and how the answers to them are written."""

    questions: Sequence[Question]
    reply: Callable[[list[Answer]], Reply]


@dataclass(frozen=True, slots=True)
class Form:
    """A protocol; `read` raises Refusal for what is none of its requests, and nothing else."""

    read: Callable[[LiveEndpoint, Headers, bytes], Asking]
    refuse: Callable[[Refusal], Reply]


class Beside(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request says beside its rows, and of all of them."""

    key: str | int | None = None
    at: datetime | None = None
    replay: bool = False
    version: int | None = None
    explain: bool = False


BESIDE = Beside.__struct_fields__


def beside(headers: Headers, given: Mapping[str, Any]) -> Beside:
    """From the headers X-Everloop-Key, -At, -Replay, -Version and -Explain, and what the body gives, which wins. Raises Refusal."""
    said = {
        name: text for name in BESIDE if (text := header(headers, f"x-everloop-{name}".encode())) is not None
    }
    try:
        return msgspec.convert({**said, **given}, Beside, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(
            f"what is said beside the rows cannot be read: {error}. It may be {', '.join(BESIDE)}, and no more."
        ) from error


def decoded(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    """The body as JSON, where not-a-number is null: clients that write tables with Python's json send it for a gap.

    Raises Refusal when it is no JSON, or not of the form that the decoder wants.
    """
    try:
        return _decoded(decoder, body)
    except msgspec.ValidationError as error:
        raise invalid(f"the body is not what this protocol takes: {error}.") from error
    except (ValueError, RecursionError, OverflowError) as error:  # msgspec's DecodeError is a ValueError
        raise malformed(error) from error


def _decoded(decoder: msgspec.json.Decoder[Body], body: bytes) -> Body:
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        if b"NaN" not in body:
            raise
        return decoder.decode(msgspec.json.encode(json.loads(body, parse_constant=_constant)))


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is no JSON")


def malformed(error: Exception) -> Refusal:
    return Refusal(400, "malformed", f"the body is not JSON: {error}. Send a JSON object in UTF-8.")


def check_number(rows: int) -> None:
    """Raises Refusal when there are none or too many."""
    if not 0 < rows <= MOST_INSTANCES:
        raise invalid(f"the body has {rows:,} rows; 1 to {MOST_INSTANCES:,} are taken. Send fewer at once.")


def check_explained(rows: int) -> None:
    """Raises Refusal when more are to be explained than one request may ask for."""
    if rows > MOST_EXPLAINED:
        raise invalid(
            f"{rows:,} rows are to be explained; the most of one request is {MOST_EXPLAINED}. Ask for fewer at once."
        )


def invalid(text: str) -> Refusal:
    return Refusal(422, "invalid", text)


def questions(rows: Sequence[dict[str, Any]], said: Beside) -> list[Question]:
    """A question for each row. Raises Refusal when too many are to be explained."""
    check_explained(len(rows) if said.explain else 0)
    return [Question(row, said.key, said.at, said.replay, said.version, said.explain) for row in rows]


def named(signature: Signature, row: Any, number: int) -> dict[str, Any]:
    """A row's values by name: an object has names, a list is in the order of the signature, anything else is alone."""
    fields = signature.inputs
    if isinstance(row, dict):
        by_name = {field.name: field for field in fields}
        return {name: adapted(by_name.get(name), value) for name, value in row.items()}
    values = row if isinstance(row, list) else [row]
    if len(values) != len(fields):
        names = ", ".join(field.name for field in fields)
        raise invalid(f"row {number} has {len(values)} values; the model takes {len(fields)}: {names}.")
    return {field.name: adapted(field, value) for field, value in zip(fields, values, strict=True)}


def adapted(field: Field | None, value: Any) -> Any:
    """A value that other protocols' clients write in their way, as our own JSON writes it; the check comes later.

    Whole columns arrive as floats from clients that keep tables in one array, gaps as not-a-number, times of theirs
    have no zone (and are UTC), and bytes are bytes.
    """
    kind = None if field is None else field.type
    if type(value) is float:
        if math.isnan(value):
            return None
        return int(value) if kind == "integer" and value.is_integer() else value
    if type(value) is bytes:
        return (
            base64.b64encode(value).decode()
            if kind in ("image", "binary")
            else value.decode(errors="replace")
        )
    if kind == "time" and type(value) is str:
        return _with_zone(value)
    return value


def _with_zone(text: str) -> str:
    try:
        return text if datetime.fromisoformat(text).tzinfo is not None else f"{text}Z"
    except ValueError:
        return text


def about(answers: Sequence[Answer]) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that say what answered: the prediction's id, or that of the request for several, and the version."""
    first = answers[0].record
    version = (b"x-everloop-version", b"%d" % first.version)
    if first.request is None:
        return (b"x-everloop-prediction-id", first.id.encode()), version
    request = (b"x-everloop-request", first.request.encode())
    if any(answer.record.version != first.version for answer in answers):
        return (request,)  # keys that stay on their variant
    return request, version


def one_refusal(answers: Sequence[Answer]) -> Refusal | None:
    """What a protocol without errors for each row answers when a row has one; None when all have predictions.

    What the caller has to change comes before what may pass by itself.
    """
    refused = [(number, one.refusal) for number, one in enumerate(answers) if one.refusal is not None]
    if not refused:
        return None
    number, worst = min(refused, key=lambda one: one[1].status)
    if len(answers) == 1:
        return worst
    return Refusal(
        worst.status,
        worst.code,
        f"{len(refused)} of {len(answers)} rows have no prediction, so none is answered; the first is row {number}: {worst}",
        row=number,
        request=answers[0].record.request,
        **{name: value for name, value in worst.more.items() if name == "fields"},
    )


def details(answer: Answer) -> dict[str, Any]:
    """What other protocols have no place for, of one prediction."""
    record = answer.record
    found = {
        "prediction_id": record.id,
        "scores": record.scores,
        "model": record.model,
        "version": record.version,
        "variant": record.variant,
    }
    return found if answer.explanation is None else {**found, "explanation": answer.explanation}
