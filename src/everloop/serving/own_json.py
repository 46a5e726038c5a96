"""everloop's own protocol: a question with inputs, key and replay, or several, each answered for itself."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from everloop.serving.answer import Answer, Question
from everloop.serving.form import MOST_INSTANCES, Asking, Form, check_explained, malformed
from everloop.serving.http import Headers, Refusal, Reply, json_reply
from everloop.serving.live import LiveEndpoint


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a predict call: one question, or several as `instances`."""

    inputs: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    key: str | int | None = None
    at: datetime | None = None
    replay: bool = False
    version: int | None = None
    explain: bool = False
    instances: list[Question] | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(Request).decode


def _read(_endpoint: LiveEndpoint, _headers: Headers, body: bytes) -> Asking:
    try:
        request = _decode(body)
        if request.instances is msgspec.UNSET:
            return Asking([_question(request)], _single)
        instances = _instances(request, request.instances)
        check_explained(sum(one.explain for one in instances))
        return Asking(instances, _several)
    except msgspec.ValidationError as error:
        message = f'the body is not what a prediction needs: {error}. Send {{"inputs": {{"FIELD": VALUE}}}}.'
        raise Refusal(422, "invalid", message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from error


def _question(request: Request) -> Question:
    if request.inputs is msgspec.UNSET:
        raise msgspec.ValidationError("it has neither `inputs` nor `instances`")
    return Question(request.inputs, request.key, request.at, request.replay, request.version, request.explain)


def _instances(request: Request, instances: list[Question]) -> list[Question]:
    if request.inputs is not msgspec.UNSET:
        raise msgspec.ValidationError("it has both `inputs` and `instances`")
    if request.explain:
        raise msgspec.ValidationError("`explain` stands in each of several instances that is to be explained")
    if not 0 < len(instances) <= MOST_INSTANCES:
        raise msgspec.ValidationError(f"it has {len(instances)} instances, 1 to {MOST_INSTANCES} are taken")
    return instances


def _single(answers: list[Answer]) -> Reply:
    (answer,) = answers
    return json_reply(200, _content(answer)) if answer.refusal is None else answer.refusal.reply()


def _several(answers: list[Answer]) -> Reply:
    return json_reply(200, {"predictions": [_content(answer) for answer in answers]})


def _content(answer: Answer) -> dict[str, Any]:
    record = answer.record
    if answer.refusal is not None:
        refusal = answer.refusal
        return {"error": {"code": refusal.code, "message": str(refusal), **refusal.more}}
    content = {
        "prediction_id": record.id,
        "output": record.output,
        "scores": record.scores,
        "model": record.model,
        "version": record.version,
        "variant": record.variant,
    }
    return content if answer.explanation is None else {**content, "explanation": answer.explanation}


OWN_JSON = Form(_read, Refusal.reply)
