"""Label sets and the versions of their schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
from blake3 import blake3

from everloop import data
from everloop.errors import Conflict, Invalid, NotFound
from everloop.events import emit
from everloop.labels import store
from everloop.labels.records import LabelClass, LabelSchema, ReportRule
from everloop.labels.taxonomy import classes_from_names, classes_from_table
from everloop.ledger import Node, audit, link
from everloop.storage import Tx, to_json
from everloop.workspace import Workspace

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")

Classes = Path | pa.Table | Sequence[str | LabelClass]


def define(
    ws: Workspace,
    name: str,
    *,
    dataset: str,
    classes: Classes | None = None,
    per_item: int = 1,
    reports: Mapping[str, ReportRule] | None = None,
) -> LabelSchema:
    """Declare what rows of a dataset may be labelled with; a new version is made only when something changed.

    The order of classes is not a change. Writes `label_schema`, an audit entry and a lineage edge in one transaction.

    Parameters
    ----------
    classes
        A file (CSV, JSONL or Parquet) or table in a layout of `taxonomy.classes_from_table`, or the names.
        None: rows are labelled with numbers.
    per_item
        How many annotators each row should have, at least 1.
    reports
        What becomes of a correction, by its reporter: `accept` makes it a label at once, `review` asks a reviewer
        first. Reporters who are not named are reviewed.

    Raises
    ------
    Invalid
        The name, a rule or the taxonomy is wrong: empty, a class twice, an unknown parent, a circle.
    NotFound
        There is no such dataset.
    Conflict
        The label set exists for another dataset.
    """
    _check(name, per_item, reports or {})
    _check_dataset(ws, dataset)
    declared = LabelSchema(
        name=name,
        number=1,
        dataset=dataset,
        kind="number" if classes is None else "class",
        classes=() if classes is None else _read(classes),
        per_item=per_item,
        reports=dict(reports or {}),
        digest="",
        created_at=ws.now(),
        created_by=ws.actor,
    )
    wanted = replace(declared, digest=_digest(declared))
    return ws.write(lambda tx: _keep(ws, tx, wanted))


def schema(ws: Workspace, ref: str) -> LabelSchema:
    """A version of a label set: `category#2`, or the newest for `category`. Raises NotFound, Invalid."""
    name, hash_sign, number = ref.partition("#")
    if hash_sign and not number.isdigit():
        raise Invalid(
            f"{ref!r} is not a label schema; one looks like category#1, or category for the newest."
        )
    with ws.read() as connection:
        found = (
            store.schema_by_number(connection, name, int(number))
            if hash_sign
            else store.newest_schema(connection, name)
        )
        if found is None:
            raise NotFound(_unknown(ref, store.names(connection)))
    return found


def schemas(ws: Workspace, name: str) -> list[LabelSchema]:
    """All versions of a label set, oldest first. Raises NotFound when there is none."""
    with ws.read() as connection:
        found = store.schemas_of(connection, name)
        if not found:
            raise NotFound(_unknown(name, store.names(connection)))
    return found


def label_sets(ws: Workspace) -> list[LabelSchema]:
    """The newest version of each label set, by name."""
    with ws.read() as connection:
        newest = (store.newest_schema(connection, name) for name in store.names(connection))
        return [one for one in newest if one is not None]


def _keep(ws: Workspace, tx: Tx, wanted: LabelSchema) -> LabelSchema:
    tx.lock(f"labels:{wanted.name}")
    known = store.newest_schema(tx.connection, wanted.name)
    if known is not None and known.dataset != wanted.dataset:
        raise Conflict(
            f"the label set {wanted.name!r} labels rows of {known.dataset!r}, not of {wanted.dataset!r}; its events "
            "name those rows. Give the labels of the other dataset another name."
        )
    if known is not None and known.digest == wanted.digest:
        return known
    kept = replace(wanted, number=known.number + 1 if known else 1)
    store.insert_schema(tx, kept)
    node = Node("label_schema", kept.ref)
    link(tx, Node("dataset", kept.dataset), node, role="labels rows of", at=kept.created_at)
    audit(ws, tx, "labels.define", node, before=known and _content(known), after=_content(kept))
    emit(ws, tx, "labels.defined", node, message=_told(kept))
    return kept


def _read(classes: Classes) -> tuple[LabelClass, ...]:
    if isinstance(classes, Path):
        rows = data.load(classes, key=None, file_format=None).rows
        return classes_from_table(rows, origin=classes.name)
    if isinstance(classes, pa.Table):
        return classes_from_table(classes, origin="the taxonomy")
    return classes_from_names(classes)


def _check(name: str, per_item: int, reports: Mapping[str, str]) -> None:
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name!r} cannot name a label set: a letter, then up to 99 letters, digits, '_', '.' and '-'."
        )
    if per_item < 1:
        raise Invalid(f"per_item is {per_item}; each row needs at least 1 annotator.")
    for reporter, rule in reports.items():
        if rule not in ("accept", "review"):
            raise Invalid(f"reports gives {reporter!r} the rule {rule!r}; it is 'accept' or 'review'.")


def _check_dataset(ws: Workspace, dataset: str) -> None:
    if data.dataset(ws, dataset).key is None:
        raise Invalid(
            f"the dataset {dataset!r} has no key, and labels name rows by their key. Define it with one."
        )


def _content(schema: LabelSchema) -> dict[str, object]:
    """What makes one version differ from another."""
    return {
        "dataset": schema.dataset,
        "kind": schema.kind,
        "classes": sorted((asdict(one) for one in schema.classes), key=lambda one: str(one["id"])),
        "per_item": schema.per_item,
        "reports": schema.reports,
    }


def _digest(schema: LabelSchema) -> str:
    return blake3(to_json(_content(schema)).encode()).hexdigest()


def _told(schema: LabelSchema) -> str:
    holds = f"{len(schema.labels)} classes" if schema.kind == "class" else "numbers"
    return f"label schema {schema.ref} for {schema.dataset}: {holds}"


def _unknown(ref: str, names: list[str]) -> str:
    known = ", ".join(names[:10]) if names else "none yet"
    return f"there is no label set {ref!r} (there are: {known}). Define it with everloop labels define, or el.label_set() in a loop file."
