"""Names datasets and finds them and their versions."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from everloop.data import store
from everloop.data.constraints import check_schema
from everloop.data.records import Column, Dataset, DatasetVersion, Schema, check_dataset_name
from everloop.data.versioning import Proposal, State, change
from everloop.errors import Conflict, Invalid, NotFound
from everloop.ledger import Node, audit
from everloop.storage import Tx
from everloop.workspace import Workspace


def define(
    ws: Workspace,
    name: str,
    *,
    key: str | None,
    time: str | None = None,
    inputs: Sequence[str] | None = None,
    columns: Sequence[Column] | None = None,
) -> Dataset:
    """Say what a dataset is; saying the same again changes nothing, and what is left out stays as it was.

    Columns that are not declared get their type from the first file that has them. `time`, `inputs` and the rules
    of columns may be changed later by another definition: a dataset that has versions gets a new one then, with
    the same rows. Rules hold for what is ingested from then on.

    Parameters
    ----------
    key
        The column that identifies a row, text or whole numbers; its values are unique. None for rows that
        nothing identifies: they can be appended and replaced, not merged.
    time
        The column that says when a row happened (event time).
    inputs
        The columns that a model may see. Other columns cannot become features by accident.
    columns
        Columns with a type or rules of their own.

    Raises
    ------
    Invalid
        A name, a column or a rule is wrong.
    Conflict
        The dataset has another key, or a declared column has another type already.

    Writes `dataset`, and `dataset_version` where a version is made, with the audit entry, in one transaction.
    """
    check_dataset_name(name)
    said = _Said(
        tuple(_as_key(column) if column.name == key else column for column in columns or ()),
        key,
        time,
        None if inputs is None else tuple(dict.fromkeys(inputs)),
    )
    check_schema(_first_schema(said))
    if not ws.write(lambda tx: _settle(ws, tx, name, said)):
        change(ws, name, lambda state: _meant_otherwise(state, said))
    return dataset(ws, name)


def dataset(ws: Workspace, name: str) -> Dataset:
    """The dataset of this name. Raises NotFound, with the nearest name."""
    with ws.read() as connection:
        found = store.dataset_named(connection, name)
        names = [] if found else [one.name for one in store.all_datasets(connection)]
    if found is None:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else " Define it: everloop data define NAME --key COLUMN"
        raise NotFound(f"there is no dataset {name!r}.{hint}")
    return found


def datasets(ws: Workspace) -> list[Dataset]:
    """All datasets, by name."""
    with ws.read() as connection:
        return store.all_datasets(connection)


def version(ws: Workspace, ref: str) -> DatasetVersion:
    """The version that `ref` names: `listings@3`, or `listings` for the newest.

    Raises
    ------
    NotFound
        There is no such dataset or version, or the dataset has no version yet.
    """
    name, at, number = ref.partition("@")
    if at and not number.isdecimal():
        raise Invalid(
            f"{ref!r} does not name a version; that is a dataset's name, '@' and a number: listings@3."
        )
    found_dataset = dataset(ws, name)
    with ws.read() as connection:
        newest = store.newest_version(connection, found_dataset.name)
        found = store.version_numbered(connection, name, int(number)) if at else newest
    if newest is None:
        raise NotFound(f"dataset {name!r} has no version yet. Ingest a file into it first.")
    if found is None:
        raise NotFound(
            f"there is no version {ref}; the newest is {newest.ref}. All are listed by: everloop data versions {name}"
        )
    return found


def versions(
    ws: Workspace, name: str, *, before: int | None = None, limit: int = 100
) -> list[DatasetVersion]:
    """The newest versions of a dataset, newest first; page on with `before`, a version's number."""
    dataset(ws, name)
    with ws.read() as connection:
        return store.versions_before(connection, name, before=before, limit=limit)


@dataclass(frozen=True)
class _Said:
    """A definition as it was given; None is what was left unsaid."""

    columns: tuple[Column, ...]
    key: str | None
    time: str | None
    inputs: tuple[str, ...] | None


def _first_schema(said: _Said) -> Schema:
    return Schema(said.columns, said.key, said.time, said.inputs or ())


def _redefined(found: Dataset, said: _Said) -> Schema:
    """The dataset's schema under a new definition. Raises Conflict where that contradicts what is there."""
    if said.key != found.key:
        raise Conflict(
            f"dataset {found.name!r} has the key {found.key!r}, not {said.key!r}; a key identifies its rows for good. "
            "Keep the key, or define a dataset of another name."
        )
    for column in said.columns:
        there = found.schema.get(column.name)
        if there is not None and there.type != column.type:
            raise Conflict(
                f"column {column.name!r} of dataset {found.name!r} is of type {there.type}, not {column.type}; rows are "
                "stored so. Keep the type, or define a dataset of another name."
            )
    by_name = {column.name: column for column in said.columns}
    kept = tuple(by_name.pop(column.name, column) for column in found.schema.columns)
    wanted = Schema(
        (*kept, *by_name.values()),
        found.key,
        found.time if said.time is None else said.time,
        found.inputs if said.inputs is None else said.inputs,
    )
    check_schema(wanted)
    return wanted


def _as_key(column: Column) -> Column:
    return dataclasses.replace(column, nullable=False, unique=True)


def _settle(ws: Workspace, tx: Tx, name: str, said: _Said) -> bool:
    """Put the definition in place; False when that takes a new version."""
    tx.lock(f"dataset:{name}")
    found = store.dataset_named(tx.connection, name)
    if found is None:
        made = Dataset(name, _first_schema(said), ws.now(), ws.actor)
        store.insert_dataset(tx, made)
        audit(ws, tx, "data.define", Node("dataset", name), after=made.schema.as_json())
        return True
    wanted = _redefined(found, said)
    if wanted == found.schema:
        return True
    if store.newest_version(tx.connection, name) is not None:
        return False
    store.set_schema(tx, name, wanted)
    audit(
        ws,
        tx,
        "data.define",
        Node("dataset", name),
        before=found.schema.as_json(),
        after=wanted.as_json(),
    )
    return True


def _meant_otherwise(state: State, said: _Said) -> Proposal | None:
    """The same rows under the new definition."""
    schema = _redefined(state.dataset, said)
    if schema == state.dataset.schema:
        return None
    return Proposal(schema, state.manifest, {"kind": "define"})
