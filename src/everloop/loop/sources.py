"""What declarations stand for when a run starts: a dataset's newest version with its features, a label snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pyarrow as pa

from everloop import data, features, feedback, labels
from everloop.errors import Invalid
from everloop.features import ColumnType, FeatureView
from everloop.pipelines import Pinned, with_facts, with_features
from everloop.workspace import Workspace

if TYPE_CHECKING:
    from everloop.loop.declare import DeclaredDataset, DeclaredFeature, DeclaredLabels


def pin_dataset(ws: Workspace, declared: DeclaredDataset) -> Pinned:
    """The newest version. Raises NotFound when nothing was ingested yet."""
    version = data.version(ws, declared.name)
    return Pinned("dataset_version", version.ref, version.digest)


def load_dataset(ws: Workspace, declared: DeclaredDataset, ref: str) -> pa.Table:
    """A version's rows with a column for each declared feature, computed as of each row's event time."""
    rows = with_facts(data.read(ws, ref), inputs=list(declared.inputs))
    values = {
        one.name: features.training_values(view_of(ws, one, ref), one.__wrapped__, rows)
        for one in declared.features
    }
    return with_features(rows, values)


def pin_labels(ws: Workspace, declared: DeclaredLabels) -> Pinned:
    """A snapshot of what is known now, corrections that found their row since included."""
    feedback.absorb(ws, declared.name)
    snapshot = labels.snapshot(ws, declared.name, rule=declared.rule, at=ws.now())
    return Pinned("label_snapshot", snapshot.digest)


def load_labels(ws: Workspace, ref: str) -> pa.Table:
    return labels.read_snapshot(ws, ref)


def view_of(ws: Workspace, declared: DeclaredFeature[..., Any], ref: str) -> FeatureView:
    """The feature as code that is running now has it, over the columns that a live request carries."""
    dataset = declared.of
    assert dataset.time is not None, "feature() refuses datasets without a time"  # noqa: S101
    types = {column.name: column.type for column in data.version(ws, ref).schema.columns}
    wanted = dict.fromkeys([*dataset.inputs, dataset.key, dataset.time])
    if declared.by not in wanted:
        raise Invalid(
            f"feature {declared.name!r} is by {declared.by!r}, which a live request does not carry "
            f"(inputs {', '.join(dataset.inputs)}). Add it to the dataset's inputs."
        )
    known: tuple[ColumnType, ...] = get_args(ColumnType)
    columns: dict[str, ColumnType] = {
        name: kind for name in wanted if name in types for kind in known if kind == types[name]
    }
    return features.describe(
        declared.__wrapped__,
        dataset=dataset.name,
        entity=declared.by,
        time=dataset.time,
        window=declared.window,
        columns=columns,
        key=dataset.key,
        name=declared.name,
    )
