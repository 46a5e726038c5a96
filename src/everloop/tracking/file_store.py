"""The tables of the files of runs, logged models and traces, and all SQL over them.

An owner's id tells which table: logged models' begin with `m-`, traces' with `tr-`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Tx, Utc, inserting, metadata
from everloop.tracking import model_store, store, trace_store
from everloop.tracking.queries import in_parts
from everloop.tracking.records import Artifact, Keeping, OwnerKind, owner_kind


def _file_table(name: str, owner: str, owners: sa.Table) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column(owner, sa.ForeignKey(owners.c.id), primary_key=True),
        sa.Column("path", sa.String(500), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("at", Utc, nullable=False),
    )


run_files = _file_table("run_artifact", "run", store.run_table)
model_files = _file_table("logged_model_artifact", "model", model_store.models)
trace_files = _file_table("trace_artifact", "trace", trace_store.traces)
_TABLES: dict[OwnerKind, sa.Table] = {"run": run_files, "model": model_files, "trace": trace_files}


def put(tx: Tx, owner: str, files: Iterable[Artifact]) -> None:
    """Name files of an owner, replacing those of the same paths."""
    table = _table(owner)
    rows = [{table.c[0].name: owner, **vars(file)} for file in files]
    tx.execute(_replacing(tx.connection.dialect.name, table), rows)


@cache
def _replacing(dialect: str, table: sa.Table) -> sa.Executable:
    statement = inserting(dialect, table)
    set_ = {name: statement.excluded[name] for name in ("digest", "size_bytes", "at")}
    return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=set_)


def below(connection: Connection, owner: str, prefix: str) -> list[Artifact]:
    """The owner's files whose path begins with `prefix`, in order of their paths."""
    table = _table(owner)
    statement = sa.select(*_columns(table)).where(table.c[0] == owner, *_begins(table, prefix))
    return [Artifact(*row) for row in connection.execute(statement.order_by(table.c.path))]


def at(connection: Connection, owner: str, path: str) -> Artifact | None:
    row = connection.execute(_at(_table(owner)), {"owner": owner, "of_path": path}).first()
    return None if row is None else Artifact(*row)


@cache
def _at(table: sa.Table) -> sa.Executable:
    is_it = (table.c[0] == sa.bindparam("owner"), table.c.path == sa.bindparam("of_path"))
    return sa.select(*_columns(table)).where(*is_it)


def remove(tx: Tx, owner: str, path: str) -> int:
    """Forget a file, or all below a folder, or all for an empty path; how many it were."""
    table = _table(owner)
    which = [sa.or_(table.c.path == path, *_begins(table, f"{path}/"))] if path else []
    return tx.execute(sa.delete(table).where(table.c[0] == owner, *which)).rowcount


def of_all(connection: Connection, owners: Sequence[str]) -> list[Artifact]:
    """All files of some owners, deleted ones too."""
    found: list[Artifact] = []
    for table in _TABLES.values():
        for part in in_parts(owners):
            selected = connection.execute(sa.select(*_columns(table)).where(table.c[0].in_(part)))
            found += [Artifact(**row._mapping) for row in selected]
    return found


def remove_all(tx: Tx, owners: Sequence[str]) -> list[Artifact]:
    """Forget all files of some owners; which they were."""
    found = of_all(tx.connection, owners)
    for table in _TABLES.values():
        for part in in_parts(owners):
            tx.execute(sa.delete(table).where(table.c[0].in_(part)))
    return found


def keeping(connection: Connection, owner: str) -> Keeping | None:
    """Where an owner's files are, None for an unknown one and for a trace that is deleted."""
    row = connection.execute(_KEEPING[owner_kind(owner)], {"owner": owner}).first()
    return None if row is None else Keeping(*row)


def _keeping(table: sa.Table, *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(table.c.experiment, table.c.artifact_uri).where(
        table.c.id == sa.bindparam("owner"), *which
    )


_KEEPING: dict[OwnerKind, sa.Select[Any]] = {
    "run": _keeping(store.run_table),
    "model": _keeping(model_store.models),
    "trace": _keeping(trace_store.traces, trace_store.traces.c.deleted_at.is_(None)),
}


def _table(owner: str) -> sa.Table:
    return _TABLES[owner_kind(owner)]


def _columns(table: sa.Table) -> list[sa.Column[Any]]:
    return list(table.c)[1:]


def _begins(table: sa.Table, prefix: str) -> list[sa.ColumnElement[bool]]:
    # not LIKE: SQLite's does not tell upper from lower case
    return [sa.func.substr(table.c.path, 1, len(prefix)) == prefix] if prefix else []
