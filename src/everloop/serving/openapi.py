"""What an endpoint takes and gives, as OpenAPI 3.1, from the signature of the version that gets most of its traffic."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop.serving.form import MOST_INSTANCES
from everloop.serving.live import LiveEndpoint
from everloop.serving.open_inference import TENSOR_TYPES
from everloop.serving.records import Field, FieldType, Signature
from everloop.serving.signature import MOST_PIXELS, example_row, in_json
from everloop.serving.tensors import DATATYPES

Schema = dict[str, Any]

_TYPES: dict[FieldType, Schema] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "image": {
        "type": "string",
        "contentEncoding": "base64",
        "description": "A JPEG, PNG, GIF, BMP, TIFF or WebP file.",
    },
    "binary": {"type": "string", "contentEncoding": "base64", "minLength": 1},
}
_ERRORS = {
    400: "The body is not JSON.",
    403: "The Host is not this server's, or a page of another origin asks.",
    404: "There is no such endpoint.",
    405: "Another method is used here.",
    408: "The head or the body of the request did not come in time.",
    413: "The body is too large.",
    415: "The body is compressed.",
    431: "The headers are too large.",
    422: "The inputs are not what the model takes; `fields` says what is wrong with each.",
    500: "The model or a feature raised on this row.",
    503: "Too many requests wait, the model's own process ended, or nothing is live; try again after Retry-After.",
    504: "The time that the request or the endpoint allows was over before there was an answer.",
}
_HEADLESS = (408, 431)  # said before it is known what is asked for


def describe(endpoint: LiveEndpoint, *, is_only: bool = False) -> dict[str, Any]:
    """The document; a new one after each rollout. `/invocations` is in it where there is no other endpoint."""
    name, manifest = endpoint.route.endpoint, endpoint.main.manifest
    signature = manifest.signature
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"endpoint {name}",
            "summary": f"Predictions of the model {manifest.model}.",
            "version": str(manifest.version),
        },
        "paths": {
            f"/endpoints/{name}/predict": {"post": _own(signature)},
            **{
                path: {"post": _mlflow(signature, id_)}
                for path, id_ in (
                    (f"/endpoints/{name}/invocations", "score"),
                    *((("/invocations", "score_only_endpoint"),) if is_only else ()),
                )
            },
            f"/v1/models/{name}:predict": {"post": _kserve(signature)},
            f"/v1/models/{name}:explain": {"post": _kserve(signature, explains=True)},
            f"/v2/models/{name}/infer": {"post": _open_inference(signature)},
            f"/v2/models/{name}": {
                "get": _looked_at("metadata", "What a client has to know before it asks.", "Metadata")
            },
            f"/v2/models/{name}/ready": {"get": _looked_at("ready", "Whether it answers.", "Ready")},
        },
        "components": {
            "schemas": {
                "Inputs": _inputs(signature),
                "Question": _question(signature),
                "Questions": _object({"instances": {**_rows(_ref("Instance")), "minItems": 1}}, extra=False),
                "Instance": _instance(signature),
                "Prediction": _prediction(signature),
                "Predictions": _object(
                    {
                        "predictions": {
                            "type": "array",
                            "items": {"oneOf": [_ref("Prediction"), _ref("Error")]},
                        }
                    }
                ),
                "Error": _ERROR,
                "Row": _row(signature),
                "Table": _table(),
                "Scores": _object(
                    {
                        "predictions": {"type": "array", "items": _output(signature)},
                        "everloop": _rows({"type": "object"}),
                    }
                ),
                "Explained": _object(
                    {
                        "predictions": {"type": "array", "items": _output(signature)},
                        "explanations": _rows({"type": "object"}),
                        "everloop": _rows({"type": "object"}),
                    }
                ),
                "MlflowError": _object({"error_code": {"type": "string"}, "message": {"type": "string"}}),
                "KServeError": _object({"error": {"type": "string"}, "code": {"type": "string"}}),
                **_tensors(signature),
                "Metadata": _object(
                    {"name": {"type": "string"}, "versions": {"type": "array", "items": {"type": "string"}}}
                ),
                "Ready": _object({"name": {"type": "string"}, "ready": {"type": "boolean"}}),
            }
        },
    }


def _own(signature: Signature) -> Schema:
    example = {"inputs": _example(signature)}
    body = {
        "schema": {"oneOf": [_ref("Question"), _ref("Questions")]},
        "examples": {"one": {"value": example}, "several": {"value": {"instances": [example, example]}}},
    }
    return _asked(
        "predict",
        "One prediction, or one for each of several instances.",
        {"application/json": body},
        _json({"oneOf": [_ref("Prediction"), _ref("Predictions")]}),
        "Error",
    )


def _mlflow(signature: Signature, operation: str) -> Schema:
    row = list(_example(signature).values())
    content = {
        "application/json": {
            "schema": _ref("Table"),
            "examples": {"rows": {"value": {"instances": [row]}}},
        },
        "text/csv": {"schema": {"type": "string"}},
    }
    return _asked(
        operation,
        "A prediction for each row, as MLflow's clients ask.",
        content,
        _json(_ref("Scores")),
        "MlflowError",
    )


def _kserve(signature: Signature, *, explains: bool = False) -> Schema:
    row = list(_example(signature).values())
    body = {
        "schema": _object({"instances": {**_rows(_ref("Row")), "minItems": 1}}, extra=False),
        "examples": {"rows": {"value": {"instances": [row]}}},
    }
    summary = "A prediction for each row, as clients of KServe's first protocol ask."
    if explains:
        summary = "The same, each with what every input added to its score."
    name, answer = ("kserve_v1_explain", "Explained") if explains else ("kserve_v1", "Scores")
    return _asked(name, summary, {"application/json": body}, _json(_ref(answer)), "KServeError")


def _open_inference(signature: Signature) -> Schema:
    values = _example(signature)
    inputs = [
        {"name": field.name, "datatype": TENSOR_TYPES[field.type], "shape": [1], "data": [values[field.name]]}
        for field in signature.inputs
    ]
    body = {"schema": _ref("Tensors"), "examples": {"row": {"value": {"inputs": inputs}}}}
    content = {"application/json": body, "application/octet-stream": {"schema": {"type": "string"}}}
    return _asked(
        "infer",
        "A prediction for each row, as clients of the Open Inference Protocol ask; with the binary tensor extension.",
        content,
        {**_json(_ref("Answered")), "application/octet-stream": {"schema": {"type": "string"}}},
        "KServeError",
    )


def _asked(operation: str, summary: str, body: Schema, answer: Schema, error: str) -> Schema:
    """A call that predicts."""
    return {
        "operationId": operation,
        "summary": summary,
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {
                "description": "The predictions; our own protocol gives each instance a prediction or an error.",
                "headers": {
                    "X-Everloop-Prediction-Id": {"schema": {"type": "string"}},
                    "X-Everloop-Request": {"schema": {"type": "string"}},
                    "X-Everloop-Not-Logged": {"schema": {"type": "string"}},
                    "X-Everloop-Version": {"schema": {"type": "integer"}},
                },
                "content": answer,
            },
            **{
                str(status): {
                    "description": text,
                    "content": _json(_ref("Error" if status in _HEADLESS else error)),
                }
                for status, text in _ERRORS.items()
            },
        },
    }


def _looked_at(operation: str, summary: str, answer: str) -> Schema:
    errors = (403, 404, 503)
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": _json(_ref(answer))},
            **{
                str(status): {"description": _ERRORS[status], "content": _json(_ref("KServeError"))}
                for status in errors
            },
        },
    }


def _row(signature: Signature) -> Schema:
    """A row as protocols without names have it: an object has the inputs' names, a list is in their order."""
    values = len(signature.inputs)
    listed: Schema = {"type": "array", "minItems": values, "maxItems": values}
    return {"anyOf": [_ref("Inputs"), listed, *([{}] if values == 1 else [])]}


def _table() -> Schema:
    """MLflow's four forms, of which a body has one."""
    split = _object({"data": _rows({"type": "array"})}, extra=False)
    split["properties"] |= {"columns": {"type": ["array", "null"]}, "index": {"type": ["array", "null"]}}
    forms: dict[str, Schema] = {
        "dataframe_split": split,
        "dataframe_records": _rows(_ref("Inputs")),
        "instances": _rows(_ref("Row")),
        "inputs": {"anyOf": [_rows(_ref("Row")), {"type": "object"}]},
    }
    params: Schema = {"type": ["object", "null"], "description": "`key`, `at` and `replay`, of all rows."}
    found = [_object({name: form}, extra=False) for name, form in forms.items()]
    for one in found:
        one["properties"]["params"] = params
    return {"oneOf": found}


def _tensors(signature: Signature) -> dict[str, Schema]:
    """What the Open Inference Protocol takes and gives; each input of the model is a tensor of its name."""
    shape: Schema = {
        "type": "array",
        "items": {"type": "integer", "minimum": 0},
        "minItems": 1,
        "maxItems": 8,
    }
    tensor = _object({"name": {"type": "string"}, "datatype": {"type": "string"}, "shape": shape})
    tensor["properties"] |= {"data": {"type": "array"}, "parameters": {"type": "object"}}
    asked = {**tensor, "properties": {**tensor["properties"], "datatype": {"enum": list(DATATYPES)}}}
    question = _object({"inputs": {**_rows(_ref("Tensor")), "minItems": 1}})
    question["properties"] |= {
        "id": {"type": ["string", "null"]},
        "parameters": {"type": "object"},
        "outputs": {"type": ["array", "null"], "items": _object({"name": {"type": "string"}})},
    }
    answer = _object(
        {
            "model_name": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": _ref("AnsweredTensor")},
        }
    )
    return {"Tensor": asked, "AnsweredTensor": tensor, "Tensors": question, "Answered": answer}


def _rows(item: Schema) -> Schema:
    return {"type": "array", "items": item, "maxItems": MOST_INSTANCES}


def _inputs(signature: Signature) -> Schema:
    required = [field.name for field in signature.inputs if not field.nullable]
    return {
        "type": "object",
        "properties": {field.name: _field(field) for field in signature.inputs},
        "required": required,
        "additionalProperties": False,
    }


def _field(field: Field) -> Schema:
    schema = dict(_TYPES[field.type])
    if field.minimum is not None:
        schema["minimum"] = _number(field, field.minimum)
    if field.maximum is not None:
        schema["maximum"] = _number(field, field.maximum)
    if field.allowed is not None:
        values = [*field.allowed, *([None] if field.nullable else [])]
        schema["examples" if field.unseen == "pass" else "enum"] = values
    if field.longest is not msgspec.UNSET and field.type == "string":
        schema["maxLength"] = field.longest
    if field.type == "image":
        most = MOST_PIXELS if field.most_pixels is msgspec.UNSET else field.most_pixels
        schema["description"] = f"{schema['description']} At most {most:,} pixels."
    if field.from_schema is not msgspec.UNSET:
        schema["x-from-schema"] = list(field.from_schema)
    if field.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def _number(field: Field, limit: float) -> int | float:
    return int(limit) if field.type == "integer" and limit.is_integer() else limit


def _instance(signature: Signature) -> Schema:
    """One of several: each is answered for itself, so that inputs which do not fit are no reason to refuse the others."""
    question = _question(signature)
    question["properties"]["inputs"] = {"anyOf": [_ref("Inputs"), {"type": "object"}]}
    return question


def _question(signature: Signature) -> Schema:
    question = _object({"inputs": _ref("Inputs")}, extra=False)
    question["properties"] |= {
        "key": {"type": ["string", "integer", "null"], "description": "What the request is about."},
        "replay": {"type": "boolean", "description": "Sent again for evidence."},
        "version": {"type": ["integer", "null"], "description": "The version to answer, if it is loaded."},
        "explain": {"type": "boolean", "description": "Say what each input added to the answer's score."},
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "Taken in a simulation only.",
        },
    }
    question["examples"] = [{"inputs": _example(signature)}]
    return question


def _output(signature: Signature) -> Schema:
    if signature.output == "number":
        return {"type": "number"}
    return {"type": "string", **({"enum": list(signature.classes)} if signature.classes else {})}


def _prediction(signature: Signature) -> Schema:
    prediction = _object(
        {
            "prediction_id": {"type": "string"},
            "output": _output(signature),
            "scores": {"type": "object", "additionalProperties": {"type": "number"}},
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "variant": {"type": "string"},
        }
    )
    prediction["properties"]["explanation"] = _EXPLANATION
    return prediction


_NUMBER: Schema = {"type": "number"}
_EXPLANATION: Schema = {
    "description": "Where it was asked for: `base` and all contributions add up to `score`; or why there is none.",
    "type": "object",
    "properties": {
        "method": {"type": "string"},
        "of": {"type": "string", "description": "What the score is."},
        "score": _NUMBER,
        "base": _NUMBER,
        "contributions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "input": {"type": "string"},
                    "contribution": _NUMBER,
                    "parts": {"type": "array", "items": {"type": "object"}},
                    "rest": _NUMBER,
                },
                "required": ["input", "contribution"],
            },
        },
        "class": {"type": "string"},
        "compared_with": {"type": "object"},
        "problem": {"type": "string"},
    },
}


_FIELD_PROBLEM: Schema = {
    "type": "object",
    "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
    "required": ["field", "problem"],
}
_ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "prediction_id": {"type": "string"},
                "fields": {"type": "array", "items": _FIELD_PROBLEM},
            },
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def _example(signature: Signature) -> dict[str, Any]:
    values = zip(signature.inputs, example_row(signature), strict=True)
    return {field.name: in_json(value) for field, value in values}


def _object(properties: dict[str, Schema], *, extra: bool = True) -> Schema:
    """An object that has all of these."""
    schema: Schema = {"type": "object", "properties": properties, "required": list(properties)}
    return schema if extra else {**schema, "additionalProperties": False}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
