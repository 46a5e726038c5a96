"""Batch scoring: a version's answers for many rows, by the predictor that serves it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from everloop import data, features, pipelines, registry, serving
from everloop.errors import Invalid
from everloop.features import FeatureView
from everloop.loop.apply import checked_out
from everloop.registry import ModelVersion
from everloop.serving import Predictor
from everloop.workspace import Workspace

_AT_ONCE = 4_096


def score(ws: Workspace, ref: str, rows: pa.Table) -> pa.Table:
    """The answers of a released version for rows that carry its inputs, in their order.

    Features are computed as in training: from what each entity did before the row's own time, over the newest
    version of their dataset.

    Returns
    -------
    pa.Table
        `output`, (n_rows,) string or double.

    Raises
    ------
    NotFound
        The version is not released.
    Invalid
        A column is missing, or has values that are not of the type in the version's signature.
    """
    version = registry.version(ws, ref)
    manifest = registry.release_of(ws, ref).manifest
    predictor = Predictor.load(manifest, ws.blobs)
    wanted = [field.name for field in manifest.signature.inputs]
    if missing := [name for name in wanted if name not in rows.column_names]:
        raise Invalid(
            f"the rows lack {', '.join(missing)}; {ref} takes {', '.join(wanted)}. Add the columns."
        )
    whole = rows
    for field in manifest.signature.inputs:
        place = whole.column_names.index(field.name)
        whole = whole.set_column(place, field.name, _cast(whole[field.name], field))
    for view in manifest.features:
        whole = whole.append_column(view.name, _values(ws, version, view, rows))
    x = pipelines.as_objects(whole, [*wanted, *(view.name for view in manifest.features)])
    outputs: list[Any] = []
    for start in range(0, len(x), _AT_ONCE):
        outputs += predictor.predict(x[start : start + _AT_ONCE])[0]
    return pa.table({"output": outputs})


def _cast(column: pa.ChunkedArray[Any], field: serving.Field) -> pa.ChunkedArray[Any]:
    """A file may hold whole numbers where the model takes text, or texts where it takes numbers."""
    try:
        return column.cast(data.ARROW_TYPES[field.type])
    except pa.ArrowException as error:
        raise Invalid(
            f"the column {field.name!r} holds {column.type} and the model takes it as {field.type}: {error}. "
            "Mend the values, or score what was ingested as a dataset."
        ) from error


def _values(ws: Workspace, version: ModelVersion, view: FeatureView, rows: pa.Table) -> pa.Array[Any]:
    if version.code is None:
        raise Invalid(
            f"{version.ref} has the feature {view.name!r}, but its code was not captured. Train it from a loop file."
        )
    function = features.load_function(view, checked_out(ws, version.code))
    history = data.read(ws, view.dataset, columns=list(view.columns))
    return features.training_values(view, function, rows, history=history)
