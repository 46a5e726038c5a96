"""What an endpoint takes and gives, as OpenAPI 3.1, from the signature of the version that gets most of its traffic."""

from __future__ import annotations

from typing import Any

import msgspec

from everloop.serving.form import MOST_INSTANCES
from everloop.serving.live import LiveEndpoint
from everloop.serving.records import Field, FieldType, Signature
from everloop.serving.signature import MOST_PIXELS, example_row, in_json

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
    413: "The body is too large.",
    415: "The body is compressed.",
    422: "The inputs are not what the model takes; `fields` says what is wrong with each.",
    500: "The model or a feature raised on this row.",
    503: "Too many requests wait, or nothing is live; try again after Retry-After.",
}


def describe(endpoint: LiveEndpoint) -> dict[str, Any]:
    """The document; a new one after each rollout."""
    name, manifest = endpoint.route.endpoint, endpoint.main.manifest
    signature = manifest.signature
    question = _question(signature)
    example = {"inputs": _example(signature)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"endpoint {name}",
            "summary": f"Predictions of the model {manifest.model}.",
            "version": str(manifest.version),
        },
        "paths": {
            f"/endpoints/{name}/predict": {
                "post": {
                    "operationId": "predict",
                    "summary": "One prediction, or one for each of several instances.",
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {"oneOf": [_ref("Question"), _ref("Questions")]},
                                "examples": {
                                    "one": {"value": example},
                                    "several": {"value": {"instances": [example, example]}},
                                },
                            }
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "A prediction, or for each instance a prediction or an error.",
                            "headers": {
                                "X-Everloop-Prediction-Id": {"schema": {"type": "string"}},
                                "X-Everloop-Request": {"schema": {"type": "string"}},
                                "X-Everloop-Version": {"schema": {"type": "integer"}},
                            },
                            "content": _json({"oneOf": [_ref("Prediction"), _ref("Predictions")]}),
                        },
                        **{
                            str(status): {"description": text, "content": _json(_ref("Error"))}
                            for status, text in _ERRORS.items()
                        },
                    },
                }
            }
        },
        "components": {
            "schemas": {
                "Inputs": _inputs(signature),
                "Question": question,
                "Questions": _object(
                    {
                        "instances": {
                            "type": "array",
                            "items": _ref("Question"),
                            "minItems": 1,
                            "maxItems": MOST_INSTANCES,
                        }
                    },
                    extra=False,
                ),
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
            }
        },
    }


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


def _question(signature: Signature) -> Schema:
    question = _object({"inputs": _ref("Inputs")}, extra=False)
    question["properties"] |= {
        "key": {"type": ["string", "integer", "null"], "description": "What the request is about."},
        "replay": {"type": "boolean", "description": "Sent again for evidence."},
        "explain": {"type": "boolean", "description": "Say what each input added to the answer's score."},
        "at": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "Taken in a simulation only.",
        },
    }
    question["examples"] = [{"inputs": _example(signature)}]
    return question


def _prediction(signature: Signature) -> Schema:
    output: Schema = {"type": "number"}
    if signature.output == "class":
        output = {"type": "string", **({"enum": list(signature.classes)} if signature.classes else {})}
    prediction = _object(
        {
            "prediction_id": {"type": "string"},
            "output": output,
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
