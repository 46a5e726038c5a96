"""What is scored: a file, a folder, a dataset version or a query, as the input of the run that scores it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.parquet as pq

from everloop import data
from everloop.data import ROW_ID
from everloop.errors import Invalid
from everloop.pipelines import Pinned, secret, sql, step
from everloop.serving import Manifest
from everloop.settings import secret_value
from everloop.workspace import Workspace

_VERSION = re.compile(r'"([A-Za-z][A-Za-z0-9_.-]*@\d+)"')
Kind = Literal["dataset_version", "file", "query", "database"]


@dataclass(frozen=True)
class Query:
    """One SELECT over datasets, in DuckDB's SQL: `listings` is the newest version of that dataset, `"listings@3"` that one.

    With `database` it is asked in that database, in its own SQL: the name of a secret whose value is the database's URL.
    """

    text: str
    database: str | None = None

    def __str__(self) -> str:
        return f"a query of {self.database}" if self.database else "a query"


Source = Path | str | Query
"""A file or folder, a dataset version such as `listings@3`, or a query."""


@dataclass(frozen=True)
class Rows:
    """Rows as a run's input: those of a dataset version, or of a file, which are kept as a Parquet blob, `digest`."""

    kind: Literal["dataset_version", "file"]
    ref: str
    digest: str
    name: str = "rows"

    def pin(self, _ws: Workspace) -> Pinned:
        return Pinned(self.kind, self.ref, self.digest)

    def load(self, ws: Workspace, ref: str) -> pa.Table:
        if self.kind == "dataset_version":
            return data.read(ws, ref)
        if (read := _at_hand.pop(self.digest, None)) is not None:
            return read
        return data.load_typed(ws.blobs.path(self.digest), file_format="parquet")[0]


@dataclass(frozen=True)
class Given:
    """Rows before a run begins: how it names them, their columns, and the column that names a row unless told otherwise.

    `tables` are the dataset versions that a query reads, by the name that it calls them; `read` holds the rows if they had to
    be read to say so. `count` is how many they are, None where only asking would tell.
    """

    kind: Kind
    ref: str
    digest: str
    columns: Sequence[str]
    key: str
    tables: Mapping[str, Sequence[str]] = field(default_factory=dict)
    read: list[pa.Table] = field(default_factory=list)
    count: int | None = None

    @property
    def named(self) -> list[str]:
        return [self.kind, self.ref, self.digest]

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """The run that is begun meanwhile takes the rows that were read already, if it loads them in this process, once."""
        if self.read:
            _at_hand[self.digest] = self.read.pop()
        try:
            yield
        finally:
            _at_hand.pop(self.digest, None)


_at_hand: dict[str, pa.Table] = {}  # by the digest of the blob that holds them


def given(ws: Workspace, source: Source, manifest: Manifest) -> Given:
    """Settle what the rows of a source are, so that a run can be begun on them.

    Raises
    ------
    NotFound
        There is no such dataset, file or folder.
    Invalid
        The file is broken, the query cannot be run, or images are given to a model that takes none.
    """
    if isinstance(source, Query):
        return (
            _of_database(ws, source.text, source.database) if source.database else _of_query(ws, source.text)
        )
    if isinstance(source, Path):
        return _of_file(ws, source, manifest)
    version = data.version(ws, source)
    columns = [ROW_ID, *(column.name for column in version.schema.columns)]
    key = data.dataset(ws, version.dataset).key or ROW_ID
    return Given("dataset_version", version.ref, version.digest, columns, key, count=version.rows)


def rows_in_run(rows: Sequence[str], tables: Mapping[str, Sequence[str]]) -> Any:
    """In a pipeline's body: what `Given` stands for, as what a step takes."""
    kind, ref, digest = rows
    if kind == "query":
        return sql(ref, **{name: dataset_rows(name, *pinned) for name, pinned in tables.items()})
    if kind == "database":
        return asked(url=secret(digest), query=ref)
    return Rows(cast("Literal['dataset_version', 'file']", kind), ref, digest)


def dataset_rows(name: str, ref: str, digest: str) -> Any:
    """A dataset version as an input of this name."""
    return Rows("dataset_version", ref, digest, name)


@step(cache=False)  # the same query gives other rows tomorrow
def asked(url: str, query: str) -> pa.Table:
    """What a query gives in a database of the user's."""
    return data.query_database(url, query)


def _of_file(ws: Workspace, path: Path, manifest: Manifest) -> Given:
    table, found = data.load_typed(path)
    if found.format == "images":
        table = table.rename_columns(_image_columns(table.column_names, path, manifest))
    digest: str = (found.file or {})["digest"]
    kept = ws.blobs.put_file(path) if found.format == "parquet" and path.is_file() else ""
    if kept != digest:  # of another form, a folder, or written anew meanwhile
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        kept = ws.blobs.put(memoryview(sink.getvalue()))
    return Given(
        "file", digest, kept, table.column_names, table.column_names[0], read=[table], count=table.num_rows
    )


def _image_columns(columns: list[str], path: Path, manifest: Manifest) -> list[str]:
    """The columns of a folder of images, the image itself under the name that the model gives it."""
    takes = [one.name for one in manifest.signature.inputs if one.type == "image"]
    if len(takes) != 1:
        raise Invalid(
            f"the folder {path} holds images, and {manifest.model}@{manifest.version} takes {len(takes) or 'no'} images a row; a "
            "folder gives one. Score a dataset, or a folder of CSV, JSONL or Parquet files."
        )
    return [takes[0] if name == "image" else name for name in columns]


def _of_query(ws: Workspace, text: str) -> Given:
    """The query is run over tables without rows, so that what is wrong with it is told before anything begins."""
    newest = {one.name: one.name for one in data.datasets(ws) if one.name.lower() in text.lower()}
    stated = {ref: ref for ref in _VERSION.findall(text)}
    versions = {
        name: data.version(ws, ref)
        for name, ref in {**newest, **stated}.items()
        if name in stated or data.versions(ws, ref, limit=1)
    }
    empty = {name: data.read(ws, one.ref, row_ids=[]) for name, one in versions.items()}
    columns = sql(text, **empty).column_names
    tables = {
        name: [one.ref, one.digest] for name, one in versions.items() if not _runs_without(text, empty, name)
    }
    return Given("query", text, "", columns, _first(columns), tables)


def _runs_without(text: str, tables: Mapping[str, pa.Table], name: str) -> bool:
    """Whether a query only mentions a table: as a column, a name of its own, in a text."""
    try:
        sql(text, **{other: table for other, table in tables.items() if other != name})
    except Invalid:
        return False
    return True


def _of_database(ws: Workspace, text: str, database: str) -> Given:
    url = secret_value(ws.settings, secret(database).name)
    if url is None:
        raise Invalid(
            f"there is no secret {database}, which is to hold the database's URL, such as postgresql+psycopg://reader:...@host/shop. "
            "Set the environment variable of that name, or name another secret."
        )
    columns = data.queried_columns(url, text)
    return Given("database", text, database, columns, _first(columns))


def _first(columns: Sequence[str]) -> str:
    """The first column, but for the row ids that `SELECT *` gives."""
    return next((name for name in columns if name != ROW_ID), ROW_ID)
