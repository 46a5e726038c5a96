"""What steps hand to each other: tables that say what they are, labelled rows in two parts, fitted models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from blake3 import blake3
from numpy.typing import NDArray

from everloop.errors import Invalid
from everloop.pipelines.rendering import facts as facts_shown
from everloop.serving import IMAGE_STARTS, Field, FieldType, Signature

Table = pa.Table
Objects: TypeAlias = NDArray[np.object_]

ROW_ID = "_row_id"
_FACTS = b"everloop"


def facts(table: Table) -> dict[str, Any]:
    """What a table says of itself in its schema's metadata: dataset, version, key, time, inputs, features."""
    found = (table.schema.metadata or {}).get(_FACTS)
    return {} if found is None else dict(json.loads(found))


def with_facts(table: Table, **changes: Any) -> Table:
    """The same rows saying something else, or more, of themselves."""
    metadata = {
        **(table.schema.metadata or {}),
        _FACTS: json.dumps({**facts(table), **changes}, sort_keys=True).encode(),
    }
    return table.replace_schema_metadata(metadata)


def with_features(rows: Table, values: Mapping[str, pa.Array[Any]]) -> Table:
    """The rows with a column for each feature, named as features so that a split lets a model use them.

    `values` are (n_rows,) each, in the order of the rows. Raises Invalid when a column of that name is there.
    """
    for name, column in values.items():
        if name in rows.column_names:
            raise Invalid(
                f"the rows have a column {name!r} already; a feature needs a name of its own. Rename it."
            )
        rows = rows.append_column(name, column)
    return with_facts(rows, features=[*facts(rows).get("features", []), *values])


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled rows in two parts that share none: one to learn from, one to be judged on.

    Both tables hold all columns of the rows, `_row_id` and the label; a model sees only `columns`: the inputs,
    then the features. A column that gives the answer away stays there for the checks and never reaches a model.
    """

    train: Table
    test: Table
    inputs: tuple[str, ...]
    label: str = "label"
    features: tuple[str, ...] = ()
    group: str | None = None

    def __post_init__(self) -> None:
        for part, table in (("training", self.train), ("test", self.test)):
            _check_part(self, part, table)
        shared = np.intersect1d(_numbers(self.train[ROW_ID]), _numbers(self.test[ROW_ID]))
        if len(shared):
            raise Invalid(
                f"{len(shared)} rows are in both parts of the split, the first with {ROW_ID} {shared[0]}; a model is "
                "judged on rows it has not seen. Take them out of one part, or let el.split divide the rows."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of x in their order: inputs, then features."""
        return self.inputs + self.features

    def _repr_html_(self) -> str:
        told = {
            "train": f"{self.train.num_rows:,} rows",
            "test": f"{self.test.num_rows:,} rows",
            "label": self.label,
        }
        more = {"inputs": ", ".join(self.inputs), "features": ", ".join(self.features), "by": self.group}
        return facts_shown("Split", {**told, **more})

    def position(self, name: str) -> int:
        """The position of a column in x, for scikit-learn's ColumnTransformer.

        Raises Invalid for a column that is not an input or a feature.
        """
        if name not in self.columns:
            raise Invalid(
                f"{name!r} is not among the inputs {', '.join(self.columns)}: columns that are not inputs cannot become "
                "features. Name it in the dataset's inputs if a live request will carry it."
            )
        return self.columns.index(name)

    def positions(self, names: Sequence[str]) -> list[int]:
        """The positions of several columns in x; see `position`."""
        return [self.position(name) for name in names]

    @property
    def x_train(self) -> Objects:
        """(n_rows, n_columns) objects: text as str, numbers as int or float, missing as None, images as bytes."""
        return as_objects(self.train, self.columns)

    @property
    def y_train(self) -> NDArray[Any]:
        """(n_rows,) labels; text as objects, numbers and truth values in their own dtype."""
        return _labels(self.train, self.label)

    @property
    def x_test(self) -> Objects:
        """As `x_train`, of the rows to be judged on."""
        return as_objects(self.test, self.columns)

    @property
    def y_test(self) -> NDArray[Any]:
        """As `y_train`, of the rows to be judged on."""
        return _labels(self.test, self.label)

    @property
    def digest(self) -> str:
        """Which rows are in which part, with which labels, and which columns a model sees; not the columns' content."""
        names = {"inputs": self.inputs, "features": self.features, "label": self.label, "group": self.group}
        hasher = blake3(json.dumps([names, self.train.num_rows, self.test.num_rows]).encode())
        for table in (self.train, self.test):
            hasher.update(_numbers(table[ROW_ID]).tobytes())
            hasher.update(json.dumps(table[self.label].to_pylist()).encode())
        return hasher.hexdigest()


@dataclass(frozen=True, eq=False)
class Model:
    """A fitted estimator with what it takes and gives, and how well it did on the split's test rows.

    The estimator's columns are the signature's inputs, then the features. `evaluation` has a row for each test row:
    `_row_id`, `label`, `predicted`, and `score`, the probability given to the answer (null where there is none).
    `per_class` is None when the output is a number. `load` gives the estimator: choosing among models by what they
    scored reads none of them. `example` is a value for each column, as JSON has it; see `example_of`.
    """

    load: Callable[[], Any]
    signature: Signature
    metrics: Mapping[str, float]
    evaluation: Table
    split_ref: str
    feature_fields: tuple[Field, ...] = ()
    per_class: Table | None = None
    example: Mapping[str, Any] | None = None

    @cached_property
    def estimator(self) -> Any:
        """The fitted estimator; that of a model from a step's result is read when it is asked for.

        Raises
        ------
        Invalid
            It cannot be read: another scikit-learn wrote it.
        GateFailed
            Its file holds types that are not audited.
        """
        return self.load()

    def _repr_html_(self) -> str:
        signature = {
            "columns": ", ".join(one.name for one in self.signature.inputs),
            "features": ", ".join(self.features),
        }
        classes = {
            "classes": ", ".join(self.classes or ()),
            "tested on": f"{self.evaluation.num_rows:,} rows",
        }
        return facts_shown("Model", {**self.metrics, **signature, **classes})

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features, in the order of the estimator's columns."""
        return tuple(field.name for field in self.feature_fields)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes in the order of the estimator's probabilities; None when the output is a number."""
        classes: tuple[str, ...] | None = self.signature.classes
        return classes


def split(
    rows: Table,
    labels: Table,
    *,
    by: str | None = None,
    test: float = 0.2,
    seed: int = 0,
    inputs: Sequence[str] | None = None,
) -> Split:
    """Join labels to rows by `_row_id` and divide the labelled ones in two.

    A row's part depends on the seed and its own group alone: equal values of `by` go to one part, and a row stays in
    its part when rows are added, so that models trained months apart are compared on rows that neither saw.

    Parameters
    ----------
    rows
        As `everloop.data.read` gives them. Rows without a label are left out.
    labels
        A label snapshot's table: `_row_id`, once each, and `label`.
    by
        Column whose equal values must not be divided, for example the product that several listings offer. A row
        where it is missing is a group of its own. None: each row is.
    test
        Expected share of groups in the test part, between 0 and 1.
    inputs
        Columns a model may see; None: those that the dataset declares.

    Raises
    ------
    Invalid
        A column is missing, a row is labelled twice, no row is labelled, or a part comes out empty.
    """
    if not 0 < test < 1:
        raise Invalid(f"test={test} is no share of the rows; it lies between 0 and 1, for example test=0.2.")
    for table, what, needed in (
        (rows, "rows", [ROW_ID, *([by] if by else [])]),
        (labels, "labels", [ROW_ID, "label"]),
    ):
        _need_columns(table, what, needed)
    label = (
        "label" if "label" not in rows.column_names else "_label"
    )  # a dataset may have a `label` of its own
    labelled = _joined(rows, labels, label)
    chosen = facts(rows).get("inputs") if inputs is None else list(inputs)
    if not chosen:
        raise Invalid(
            "the rows do not say which columns are inputs. Declare inputs=[...] on the dataset, or pass inputs=[...] here."
        )
    in_test = _in_test(labelled, by or ROW_ID, test=test, seed=seed)
    parts = [labelled.filter(pa.array(mask)) for mask in (~in_test, in_test)]
    if not all(part.num_rows for part in parts):
        raise Invalid(
            f"{labelled.num_rows} labelled rows in {len(set(labelled[by or ROW_ID].to_pylist()))} groups leave a part "
            f"empty at test={test}; groups are not divided. Label more rows, or choose another by, test or seed."
        )
    return Split(parts[0], parts[1], tuple(chosen), label, tuple(facts(rows).get("features", ())), by)


def as_objects(table: Table, columns: Sequence[str]) -> Objects:
    """The columns as (n_rows, n_columns) Python objects, the form in which a live request reaches the model too."""
    x = np.empty((table.num_rows, len(columns)), dtype=object)
    for position, name in enumerate(columns):
        x[:, position] = table[name].to_pylist()
    return x


def field_of(data: Split, name: str) -> Field:
    """What a live request must carry for one input: its type, the limits that the dataset's schema states, and null only where
    the split's rows have nulls.

    Raises Invalid for a column of a type that no request can carry, such as a list.
    """
    column = data.train[name]
    has_nulls = column.null_count + data.test[name].null_count > 0
    kind = _field_type(name, column)
    said = facts(data.train).get("rules", {}).get(name, {}) if kind in _LIMITED else {}
    rules: dict[str, Any] = {
        _RULES[rule]: tuple(value) if rule == "allowed" else value for rule, value in sorted(said.items())
    }
    if rules:
        rules["from_schema"] = tuple(rules)
    return Field(name, kind, nullable=has_nulls, **rules)


_LIMITED = ("string", "integer", "number")
_RULES = {"allowed": "allowed", "minimum": "minimum", "maximum": "maximum", "max_length": "longest"}


def _field_type(name: str, column: pa.ChunkedArray[Any]) -> FieldType:
    kind: pa.DataType = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    for is_of, field_type in _FIELD_TYPES:
        if is_of(kind):
            return field_type
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        first = next((value for value in column.to_pylist() if value is not None), b"")
        return "image" if first.startswith(IMAGE_STARTS) else "binary"
    raise Invalid(
        f"input {name!r} has the Arrow type {column.type}, which no request can carry: an input is text, a number, "
        "true or false, a time, an image or bytes. Turn it into one of these, or leave it out of the inputs."
    )


_FIELD_TYPES: tuple[tuple[Callable[[pa.DataType], bool], FieldType], ...] = (
    (pa.types.is_string, "string"),
    (pa.types.is_large_string, "string"),
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_integer, "integer"),
    (pa.types.is_floating, "number"),
    (pa.types.is_timestamp, "time"),
)


def _check_part(data: Split, part: str, table: Table) -> None:
    _need_columns(table, f"{part} rows", [ROW_ID, data.label, *data.columns])
    if data.label in data.columns:
        raise Invalid(
            f"the label {data.label!r} is among the inputs; a live request does not carry the answer. Take it out."
        )
    if not table.num_rows:
        raise Invalid(
            f"the {part} part of the split has no rows; it needs some. Label more rows or divide them otherwise."
        )
    if nulls := table[data.label].null_count:
        raise Invalid(
            f"{nulls} of the {part} rows have no label; both parts hold labelled rows only. Leave them out."
        )


def _need_columns(table: Table, what: str, names: Sequence[str]) -> None:
    if missing := [name for name in names if name not in table.column_names]:
        raise Invalid(
            f"the {what} have no column {', '.join(map(repr, missing))}; they have {', '.join(table.column_names)}. "
            f"Read rows with everloop.data.read and labels with everloop.labels.read_snapshot: both carry {ROW_ID}."
        )


def _labels(table: Table, label: str) -> NDArray[Any]:
    column = table[label]
    if (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_boolean(column.type)
    ):
        return column.to_numpy()
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values


def _numbers(column: pa.ChunkedArray[Any]) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = column.to_numpy().astype(np.int64, copy=False)
    return numbers


def _joined(rows: Table, labels: Table, label: str) -> Table:
    """The rows that have a label, with it, in order of `_row_id`."""
    labelled_ids, row_ids = _numbers(labels[ROW_ID]), _numbers(rows[ROW_ID])
    for what, ids in (("labels", labelled_ids), ("rows", row_ids)):
        if len(np.unique(ids)) < len(ids):
            raise Invalid(
                f"the {what} hold a {ROW_ID} more than once; a split needs one line a row. Take the labels from a snapshot, "
                "which has settled which label counts."
            )
    _, at_row, at_label = np.intersect1d(row_ids, labelled_ids, assume_unique=True, return_indices=True)
    if not len(at_row):
        raise Invalid(
            f"none of the {len(row_ids)} rows is among the {len(labelled_ids)} labelled ones. Are the labels of this dataset?"
        )
    chosen = rows.take(at_row)
    return chosen.append_column(label, labels["label"].take(at_label))


def _in_test(rows: Table, group: str, *, test: float, seed: int) -> NDArray[np.bool_]:
    """(n_rows,) whether each row's group falls into the test part: its hash, as a number from 0 to 1, is below `test`."""
    row_ids = rows[ROW_ID].to_pylist()
    drawn: dict[Any, bool] = {}
    mask = np.empty(rows.num_rows, dtype=bool)
    for position, (value, row_id) in enumerate(zip(rows[group].to_pylist(), row_ids, strict=True)):
        key = (ROW_ID, row_id) if value is None else value
        if key not in drawn:
            digest = blake3(f"{seed}:{type(key).__name__}:{key}".encode()).digest(8)
            drawn[key] = int.from_bytes(digest, "big") / 2**64 < test
        mask[position] = drawn[key]
    return mask
