"""A released version's answers for a table in this process, by the predictor that serves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import data, features, pipelines, registry, serving
from everloop.errors import Invalid
from everloop.features import FeatureView
from everloop.loop.snapshots import checked_out
from everloop.serving import Manifest, Predictor
from everloop.workspace import Workspace

AT_ONCE = 16_384  # rows that a model is asked about in one call


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
    manifest = registry.loadable(ws, registry.release_of(ws, ref))
    loaded = Predictor.load(
        manifest,
        ws.blobs,
        model_python=ws.settings.model_python,
        hidden=ws.home.absolute(),
        is_compiled=False,  # what a plan saves is paid once for thousands of rows, and comparing it costs more
    )
    past = {view.dataset: data.read(ws, view.dataset) for view in manifest.features}
    x = as_rows(inputs_of(ws, manifest, rows, past=past))
    outputs: list[Any] = []
    with closing(loaded) as predictor:
        for start in range(0, len(x), AT_ONCE):
            some = x[start : start + AT_ONCE]
            found = predictor.ranked(some)
            outputs += predictor.predict(some)[0] if found is None else found.outputs.tolist()
    return pa.table({"output": outputs})


def inputs_of(ws: Workspace, manifest: Manifest, rows: pa.Table, *, past: Mapping[str, pa.Table]) -> pa.Table:
    """What a model takes of rows that carry its inputs: these, then its features from the past in each's dataset.

    Raises
    ------
    Invalid
        A column is missing, or has values that are not of the type in the signature.
    """
    whole = typed_inputs(rows, manifest, f"{manifest.model}@{manifest.version}")
    for view in manifest.features:
        whole = whole.append_column(view.name, _values(ws, manifest, view, rows, past[view.dataset]))
    wanted = [field.name for field in manifest.signature.inputs]
    return whole.select([*wanted, *(view.name for view in manifest.features)])


def as_rows(inputs: pa.Table) -> NDArray[np.object_]:
    """(n_rows, n_inputs + n_features), as a live request reaches the model."""
    return pipelines.as_objects(inputs, inputs.column_names)


def typed_inputs(rows: pa.Table, manifest: Manifest, ref: str) -> pa.Table:
    """The rows with the version's inputs in its own types. Raises Invalid for one that is missing or cannot be so."""
    check_inputs(rows.column_names, manifest)
    whole = rows
    for field in manifest.signature.inputs:
        place = whole.column_names.index(field.name)
        whole = whole.set_column(place, field.name, _cast(whole[field.name], field))
    return whole


def check_inputs(columns: Sequence[str], manifest: Manifest) -> None:
    """Raises Invalid when a column is missing that the version takes."""
    wanted = [field.name for field in manifest.signature.inputs]
    if missing := [name for name in wanted if name not in columns]:
        raise Invalid(
            f"the rows lack {', '.join(missing)}; {manifest.model}@{manifest.version} takes {', '.join(wanted)}. Add the "
            "columns."
        )


def _cast(column: pa.ChunkedArray[Any], field: serving.Field) -> pa.ChunkedArray[Any]:
    """A file may hold whole numbers where the model takes text, or texts where it takes numbers."""
    try:
        return column.cast(data.ARROW_TYPES[field.type])
    except pa.ArrowException as error:
        raise Invalid(
            f"the column {field.name!r} holds {column.type} and the model takes it as {field.type}: {error}. "
            "Mend the values, or score what was ingested as a dataset."
        ) from error


def _values(
    ws: Workspace, manifest: Manifest, view: FeatureView, rows: pa.Table, past: pa.Table
) -> pa.Array[Any]:
    version = registry.version(ws, f"{manifest.model}@{manifest.version}")
    if version.code is None:
        raise Invalid(
            f"{version.ref} has the feature {view.name!r}, but its code was not captured. Train it from a loop file."
        )
    function = features.load_function(view, checked_out(ws, version.code))
    return features.training_values(view, function, rows, history=past)
