"""KServe's first protocol: `{"instances": [...]}` in, `{"predictions": [...]}` out; explained too where `:explain` is asked."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop.serving.answer import Answer
from everloop.serving.form import (
    Asking,
    Form,
    beside,
    check_explained,
    check_number,
    decoded,
    details,
    named,
    one_refusal,
    questions,
)
from everloop.serving.http import Headers, Refusal, Reply, json_reply, refusal_reply
from everloop.serving.live import LiveEndpoint


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    instances: list[Any]


_decoder = msgspec.json.Decoder(_Body)


def _read(endpoint: LiveEndpoint, headers: Headers, body: bytes) -> Asking:
    instances = decoded(_decoder, body).instances
    check_number(len(instances))
    rows = [named(endpoint.signature, row, number) for number, row in enumerate(instances)]
    return Asking(questions(rows, beside(headers, {})), _reply)


def _read_explained(endpoint: LiveEndpoint, headers: Headers, body: bytes) -> Asking:
    asking = _read(endpoint, headers, body)
    check_explained(len(asking.questions))
    explained = [msgspec.structs.replace(one, explain=True) for one in asking.questions]
    return Asking(explained, _reply_explained)


def _reply_explained(answers: list[Answer]) -> Reply:
    refusal = one_refusal(answers)
    if refusal is not None:
        return error(refusal)
    return json_reply(
        200,
        {
            "predictions": [answer.record.output for answer in answers],
            "explanations": [answer.explanation for answer in answers],
            "everloop": [details(msgspec.structs.replace(answer, explanation=None)) for answer in answers],
        },
    )


def _reply(answers: list[Answer]) -> Reply:
    refusal = one_refusal(answers)
    return predictions(answers) if refusal is None else error(refusal)


def predictions(answers: list[Answer]) -> Reply:
    """Outputs in order, and beside them what else there is to say of each, where clients do not look for it."""
    return json_reply(
        200,
        {
            "predictions": [answer.record.output for answer in answers],
            "everloop": [details(answer) for answer in answers],
        },
    )


def error(refusal: Refusal) -> Reply:
    """Clients show the text of `error`."""
    return refusal_reply(refusal.status, {"error": str(refusal), "code": refusal.code, **refusal.more})


KSERVE_V1 = Form(_read, error)
KSERVE_V1_EXPLAIN = Form(_read_explained, error)
