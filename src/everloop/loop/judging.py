"""Gating a version that no pipeline of this workspace trained, such as one that an mlflow client logged, on labelled rows."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from everloop import checks, pipelines, registry
from everloop.checks import CheckInput, Evidence, GateReport, Loadable
from everloop.errors import Invalid
from everloop.loop.answering import typed_inputs
from everloop.serving import Failure, Manifest, Predictor
from everloop.workspace import Workspace


def judge_rows(ws: Workspace, ref: str, *, train: pa.Table, test: pa.Table, label: str) -> GateReport:
    """Run the default checks and the model's gates on rows with their labels, as the version answers them when served.

    Parameters
    ----------
    train, test
        What it learnt from, and rows that it has not seen: its inputs and the column `label`.

    Raises
    ------
    GateFailed
        The version is not what was signed, or brings code of its own that nobody trusts.
    Invalid
        It has no signature or cannot answer, it has features (its pipeline gates it), or a column is missing.
    """
    version, manifest = registry.version(ws, ref), registry.candidate(ws, ref)
    if version.features:
        raise Invalid(
            f"{version.ref} was trained by a pipeline with features, which gated it on its own test rows. Train it again there: "
            "everloop run PIPELINE"
        )
    learnt = _labelled(train, manifest, label, first=1)
    asked = _labelled(test, manifest, label, first=1 + len(learnt))
    names = tuple(one.name for one in manifest.signature.inputs)
    loaded = Predictor.load(
        manifest, ws.blobs, model_python=ws.settings.model_python, hidden=ws.home.absolute()
    )
    with closing(loaded) as predictor:

        def answer(rows: pa.Table) -> list[str | float]:
            return _answers(predictor, pipelines.as_objects(rows, names), version.ref)

        told = {"_row_id": asked["_row_id"], "label": asked[label], "predicted": answer(asked)}
        given = CheckInput(
            train=learnt,
            test=asked,
            inputs=names,
            label=label,
            signature=manifest.signature,
            predictions=pa.table(told),
            metrics=version.metrics,
            answer=answer,
            loadable=None if manifest.brings_code else Loadable(manifest, ws.blobs),
        )
        gates = registry.model(ws, version.model).gates
        return checks.evaluate(ws, version.ref, given, gates=gates, evidence=Evidence(model=version.digest))


def _answers(predictor: Predictor, rows: NDArray[Any], ref: str) -> list[str | float]:
    found = predictor.answer(rows.tolist())
    failed = [(number, one) for number, one in enumerate(found, start=1) if isinstance(one, Failure)]
    if failed:
        number, first = failed[0]
        raise Invalid(
            f"{ref} does not answer {len(failed)} of {len(rows)} rows, the first of them row {number}: {first.kind}: {first.text[:300]}. "
            "Mend the model or take these rows out."
        )
    return [one[0] for one in found if not isinstance(one, Failure)]


def _labelled(rows: pa.Table, manifest: Manifest, label: str, *, first: int) -> pa.Table:
    """The inputs in the model's types, the labels as texts if it tells classes, and numbers for row ids."""
    ref = f"{manifest.model}@{manifest.version}"
    if label not in rows.column_names:
        raise Invalid(
            f"the rows lack the label {label!r}; they have {', '.join(rows.column_names)}. Name it with --label."
        )
    if rows.num_rows == 0:
        raise Invalid(
            f"there are no rows; {ref} is judged by what it answers to some. Give rows with their labels."
        )
    whole = typed_inputs(rows, manifest, ref)
    kind = pa.float64() if manifest.signature.output == "number" else pa.string()
    try:
        whole = whole.set_column(whole.column_names.index(label), label, whole[label].cast(kind))
    except pa.ArrowException as error:
        raise Invalid(
            f"the label {label!r} cannot be compared with {ref}'s answers: {error}. Mend it."
        ) from error
    whole = whole.select([*(one.name for one in manifest.signature.inputs), label])
    return whole.append_column("_row_id", pa.array(range(first, first + len(whole)), pa.int64()))
