"""What a model's MLmodel file says of inputs and outputs: read as data, never as code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from everloop.errors import Invalid
from everloop.workspace import Workspace

FILE = "MLmodel"
_MOST_BYTES = 1 << 20
_MOST_COLUMNS = 10_000
_PARTS = ("inputs", "outputs", "params")
_DEEPEST = 100
_MOST_ALIASES = 20  # mappings that merge each other double with each: nine lines can mean a billion entries


def columns_of(ws: Workspace, files: Mapping[str, str]) -> dict[str, Any] | None:
    """The signature in the MLmodel file among the files: inputs, outputs and params, each a list; None without one.

    Raises Invalid for a file that is too large or does not say what such files say.
    """
    if FILE not in files:
        return None
    path = ws.blobs.path(files[FILE])
    if path.stat().st_size > _MOST_BYTES:
        raise Invalid(
            f"the {FILE} file has {path.stat().st_size:,} bytes; it has up to {_MOST_BYTES:,}. Log the model again."
        )
    told = _yaml(path.read_bytes())
    signature = told.get("signature") if isinstance(told, dict) else None
    if signature is None:
        return None
    if not isinstance(signature, dict):
        raise _wrong("signature is no mapping")
    return {part: _list(part, signature[part]) for part in _PARTS if signature.get(part) is not None}


def _yaml(content: bytes) -> Any:
    try:
        depth = aliases = 0
        for event in yaml.parse(content, Loader=yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if depth > _DEEPEST or aliases > _MOST_ALIASES:
                raise _wrong("it is nested too deeply, or refers to parts of itself too often")
        return yaml.load(content, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise _wrong(f"it is no YAML ({type(error).__name__})") from error


def _list(part: str, value: Any) -> list[Any]:
    """MLflow writes each part as JSON within the YAML."""
    try:
        told = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError) as error:
        raise _wrong(f"its {part} are no JSON") from error
    if (
        not isinstance(told, list)
        or len(told) > _MOST_COLUMNS
        or not all(isinstance(one, dict) for one in told)
    ):
        raise _wrong(f"its {part} are no list of up to {_MOST_COLUMNS} columns")
    return told


def _wrong(what: str) -> Invalid:
    return Invalid(f"the {FILE} file cannot be read: {what}. Log the model again with an MLflow client.")
