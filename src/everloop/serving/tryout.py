"""Asking a model that was logged elsewhere before it is released: does it load here, and does it answer its own example."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from everloop.errors import GateFailed
from everloop.serving.mlmodel import Layout
from everloop.serving.predictor import Failure, Predictor
from everloop.serving.records import Manifest
from everloop.serving.signature import Reader, example_row

_MOST_ROWS = 20
_MOST_BYTES = 16 << 20


def try_out(manifest: Manifest, blobs_folder: Path, layout: Layout, *, model_python: str = "") -> int:
    """Load a model as serving does, and have it answer the rows of its input example, or a made-up one if it has none.

    Returns
    -------
    int
        How many rows of its own it answered.

    Raises
    ------
    GateFailed
        It does not answer a row, or its example does not fit its signature.
    Invalid, NotFound, MissingExtra
        As `Predictor.load`.
    """
    predictor = Predictor.load(manifest, blobs_folder, model_python=model_python)
    try:
        rows = [] if layout.example is None else _example(manifest, blobs_folder, layout.example)
        reader = Reader(manifest.signature)
        values = []
        for row in rows:
            read, problems = reader.read(row)
            if problems:
                told = "; ".join(f"{one.field} {one.problem}" for one in problems)
                raise GateFailed(
                    f"the input example of {manifest.id} does not fit its signature: {told}. Log the model with a signature "
                    "that is inferred from rows as they are asked."
                )
            values.append(read)
        for answer in predictor.answer(values or [example_row(manifest.signature)]):
            if isinstance(answer, Failure) and values:
                raise GateFailed(
                    f"{manifest.id} does not answer its own input example: {answer.kind}: {answer.text[:300]}. It was loaded by "
                    "other versions of libraries than it was trained with, or its signature is not its own. Log it again."
                )
    finally:
        predictor.close()
    return len(values)


def _example(manifest: Manifest, blobs_folder: Path, path: str) -> list[dict[str, Any]]:
    """The rows of an input example in the forms that MLflow writes; none if it has another."""
    digest = manifest.files[path]
    content = (blobs_folder / digest[:2] / digest[2:]).read_bytes()
    try:
        told = msgspec.json.decode(content) if len(content) <= _MOST_BYTES else None
    except msgspec.DecodeError:
        return []
    if not isinstance(told, Mapping):
        return []
    names = [one.name for one in manifest.signature.inputs]
    columns, rows = told.get("columns", names), told.get("data", told.get("inputs"))
    if not isinstance(columns, list) or not isinstance(rows, list):
        return []
    return [
        dict(zip(columns, row, strict=True))
        for row in rows[:_MOST_ROWS]
        if isinstance(row, list) and len(row) == len(columns)
    ]
