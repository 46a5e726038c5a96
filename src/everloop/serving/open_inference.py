"""The Open Inference Protocol, version 2: named tensors in, named tensors out, in JSON or binary.

A row is one place along the first dimension. Its values come in a tensor for each input of the model, or all in one
tensor with a column for each. What has no place in the protocol goes out as tensors of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from everloop.serving.answer import Answer
from everloop.serving.form import (
    BESIDE,
    Asking,
    Form,
    adapted,
    beside,
    check_number,
    decoded,
    invalid,
    one_refusal,
    questions,
)
from everloop.serving.http import Headers, Refusal, Reply, header, json_reply
from everloop.serving.kserve_v1 import error
from everloop.serving.live import LiveEndpoint
from everloop.serving.predictor import TOP
from everloop.serving.records import Field, FieldType, Signature
from everloop.serving.tensors import Tensor, from_bytes, from_json, to_bytes

HEADER_LENGTH = b"inference-header-content-length"
_OCTETS = "application/octet-stream"
TENSOR_TYPES: dict[FieldType, str] = {
    "string": "BYTES",
    "integer": "INT64",
    "number": "FP64",
    "boolean": "BOOL",
    "time": "BYTES",
    "image": "BYTES",
    "binary": "BYTES",
}

Parameters = dict[str, Any]


class _Input(msgspec.Struct, frozen=True):
    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = {}
    data: list[Any] | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct, frozen=True):
    name: str
    parameters: Parameters = {}


class _Body(msgspec.Struct, frozen=True):
    """Fields and parameters that are not known are left alone, as the protocol has it: proxies add some."""

    inputs: list[_Input]
    id: str | None = None
    parameters: Parameters = {}
    outputs: list[_Output] | None = None


_decoder = msgspec.json.Decoder(_Body)
_encode = msgspec.json.Encoder().encode


def _read(endpoint: LiveEndpoint, headers: Headers, body: bytes) -> Asking:
    request, content = _parts(headers, body)
    asked, is_binary = _asked_outputs(request)
    given = {name: request.parameters[name] for name in BESIDE if name in request.parameters}
    if _EXPLANATION in asked:
        given["explain"] = True
    said = beside(headers, given)
    rows = _rows(endpoint.signature, _tensors(request.inputs, content))
    return Asking(
        questions(rows, said), partial(_reply, endpoint.route.endpoint, request.id, asked, is_binary)
    )


def _parts(headers: Headers, body: bytes) -> tuple[_Body, memoryview]:
    """The JSON and the bytes behind it."""
    length = header(headers, HEADER_LENGTH)
    if length is None:
        try:
            return decoded(_decoder, body), memoryview(b"")
        except Refusal as problem:
            if header(headers, b"content-type") != _OCTETS:
                raise
            message = f"{problem} Where tensors follow it, say in Inference-Header-Content-Length how many bytes are JSON."
            raise Refusal(problem.status, problem.code, message) from problem
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= len(body)):
        raise Refusal(
            400,
            "malformed",
            f"Inference-Header-Content-Length is {length[:40]!r}; the body has {len(body):,} bytes, of which it says how many "
            "are JSON.",
        )
    return decoded(_decoder, body[: int(length)]), memoryview(body)[int(length) :]


def _tensors(inputs: Sequence[_Input], content: memoryview) -> list[Tensor]:
    """The inputs, each with its values. Raises Refusal when the bytes are not what they add up to."""
    if not inputs:
        raise invalid("`inputs` is empty; it must hold a tensor for each input of the model.")
    found: list[Tensor] = []
    place = 0
    for one in inputs:
        size = one.parameters.get("binary_data_size")
        if (size is None) == (one.data is msgspec.UNSET):
            raise invalid(f"input {one.name!r} must have either `data` or the parameter binary_data_size.")
        if one.data is not msgspec.UNSET:
            found.append(from_json(one.name, one.datatype, one.shape, one.data))
            continue
        if type(size) is not int or not 0 <= size <= len(content) - place:
            raise invalid(
                f"input {one.name!r} has binary_data_size {size!r}; {len(content) - place:,} bytes are left behind the JSON."
            )
        found.append(from_bytes(one.name, one.datatype, one.shape, content[place : place + size]))
        place += size
    if place != len(content):
        raise invalid(f"{len(content) - place:,} bytes behind the JSON belong to no input.")
    return found


def _rows(signature: Signature, tensors: list[Tensor]) -> list[dict[str, Any]]:
    rows = tensors[0].rows
    if any(tensor.rows != rows for tensor in tensors):
        shapes = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in tensors)
        raise invalid(f"the first dimension is the rows, and the inputs differ in it: {shapes}.")
    check_number(rows)
    fields = {field.name: field for field in signature.inputs}
    (first, *others) = tensors
    if not others and first.name not in fields and first.width == len(fields):
        names = list(fields.values())
        return [
            {
                field.name: _value(field, first, value)
                for field, value in zip(names, first.row(number), strict=True)
            }
            for number in range(rows)
        ]
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        if tensor.width != 1:
            raise invalid(
                f"input {tensor.name!r} has {tensor.width:,} values for each row; an input of the model is one value."
            )
        if tensor.name in columns:
            raise invalid(f"input {tensor.name!r} is there more than once.")
        columns[tensor.name] = [_value(fields.get(tensor.name), tensor, value) for value in tensor.values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _value(field: Field | None, tensor: Tensor, value: Any) -> Any:
    if type(value) is bytes and field is not None and field.type not in ("image", "binary"):
        try:
            return adapted(field, value.decode())
        except UnicodeDecodeError as problem:
            raise invalid(
                f"input {tensor.name!r} is a text; its bytes are not UTF-8: {problem}."
            ) from problem
    return adapted(field, value)


def _asked_outputs(request: _Body) -> tuple[dict[str, bool], bool]:
    """Which outputs are named, and whether each is wanted in binary; and whether all are where none is named."""
    everything_binary = _flag(request.parameters, "binary_data_output", default=False)
    asked: dict[str, bool] = {}
    for one in request.outputs or ():
        if one.name not in OUTPUTS:
            raise invalid(f"there is no output {one.name!r}; there are: {', '.join(OUTPUTS)}.")
        if "classification" in one.parameters:
            raise invalid(
                f"output {one.name!r} cannot be given as classification; top_classes and top_scores are it."
            )
        asked[one.name] = _flag(one.parameters, "binary_data", default=everything_binary)
    return asked, everything_binary


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise invalid(f"the parameter {name} is {value!r}; it must be true or false.")
    return value


def _reply(
    endpoint: str, request_id: str | None, asked: dict[str, bool], is_binary: bool, answers: list[Answer]
) -> Reply:
    refusal = one_refusal(answers)
    if refusal is not None:
        return error(refusal)
    record = answers[0].record
    ours = record.id if record.request is None else record.request
    said = {"model_name": endpoint, "id": request_id or ours}
    if all(answer.record.version == record.version for answer in answers):
        said["model_version"] = str(record.version)
    outputs: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for name, make in OUTPUTS.items():
        if asked and name not in asked:
            continue
        tensor = make(name, answers)
        if not asked and not tensor.values:
            continue  # the scores of a model that gives none, explanations that nobody asked for
        told: dict[str, Any] = {"name": name, "datatype": tensor.datatype, "shape": tensor.shape}
        if asked.get(name, is_binary):
            behind.append(to_bytes(tensor))
            told["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            told["data"] = tensor.values
        outputs.append(told)
    parameter = "prediction_id" if record.request is None else "request"
    content = {**said, "parameters": {parameter: ours, "model": record.model}, "outputs": outputs}
    if not behind:
        return json_reply(200, content)
    head = _encode(content)
    length = (HEADER_LENGTH, b"%d" % len(head))
    return Reply(200, b"".join((head, *behind)), (length,), _OCTETS.encode())


def _output(name: str, answers: list[Answer]) -> Tensor:
    values = [answer.record.output for answer in answers]
    return Tensor(name, "BYTES" if isinstance(values[0], str) else "FP64", (len(values),), values)


def _prediction_ids(name: str, answers: list[Answer]) -> Tensor:
    return Tensor(name, "BYTES", (len(answers),), [answer.record.id for answer in answers])


def _versions(name: str, answers: list[Answer]) -> Tensor:
    return Tensor(name, "INT64", (len(answers),), [answer.record.version for answer in answers])


def _top_classes(name: str, answers: list[Answer]) -> Tensor:
    return _top(name, "BYTES", [list(answer.record.scores) for answer in answers])


def _top_scores(name: str, answers: list[Answer]) -> Tensor:
    return _top(name, "FP64", [list(answer.record.scores.values()) for answer in answers])


def _top(name: str, datatype: str, best: list[list[Any]]) -> Tensor:
    """As many for each row as the row with fewest has: versions may know different numbers of classes."""
    width = min(map(len, best))
    return Tensor(name, datatype, (len(best), width), [value for row in best for value in row[:width]])


def _explanations(name: str, answers: list[Answer]) -> Tensor:
    """As JSON texts; none where none was asked for."""
    found = [_encode(one.explanation).decode() for one in answers if one.explanation is not None]
    return Tensor(name, "BYTES", (len(found),), found)


_EXPLANATION = "explanation"
OUTPUTS: dict[str, Callable[[str, list[Answer]], Tensor]] = {
    "output": _output,
    "prediction_id": _prediction_ids,
    "version": _versions,
    "top_classes": _top_classes,
    "top_scores": _top_scores,
    _EXPLANATION: _explanations,
}


def metadata(endpoint: LiveEndpoint) -> dict[str, Any]:
    """What a client has to know of a model before it asks; -1 is any number of rows."""
    signature = endpoint.signature
    outputs: list[tuple[str, str, list[int]]] = [
        ("output", "BYTES" if signature.output == "class" else "FP64", [-1]),
        ("prediction_id", "BYTES", [-1]),
        ("version", "INT64", [-1]),
    ]
    if endpoint.main.predictor.has_scores and signature.classes is not None:
        best = [-1, min(TOP, len(signature.classes))]
        outputs += [("top_classes", "BYTES", best), ("top_scores", "FP64", best)]
    return {
        "name": endpoint.route.endpoint,
        "versions": [str(version) for version in endpoint.versions],
        "platform": f"everloop_{endpoint.main.manifest.flavor}",
        "inputs": [
            {"name": field.name, "datatype": TENSOR_TYPES[field.type], "shape": [-1]}
            for field in signature.inputs
        ],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in outputs
        ],
    }


OPEN_INFERENCE = Form(_read, error)
