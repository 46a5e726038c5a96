"""Reading what people said from a file or table: which row, what, who and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everloop import data
from everloop.errors import Invalid
from everloop.labels.records import Value

_UTC = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Claims:
    """What a file says, one place a row in each tuple. `file` is its BLAKE3, None for a table in memory.

    `at` is None where the file has no times. Times without a zone are taken as UTC.
    """

    origin: str
    file: str | None
    keys: tuple[str, ...]
    values: tuple[Value, ...]
    by: tuple[str, ...]
    at: tuple[datetime | None, ...]


def read_claims(
    source: Path | pa.Table, *, key: str, value: str, by: str | None, by_column: str | None, at: str | None
) -> Claims:
    """What the rows of a file (CSV, JSONL, Parquet) or table say, in their order.

    Parameters
    ----------
    key, value, at
        The columns that name the row, say what it is, and when that was said (None: the file does not tell).
    by, by_column
        Who says it: one name for all rows, or the column with the names.

    Raises
    ------
    NotFound
        There is no such file.
    Invalid
        There is no row, a column is missing, a value is empty, or a time is none.
    """
    loaded = data.load(source, key=None, file_format=None)
    table, origin = loaded.rows, loaded.file["name"] if loaded.file else "the table"
    _check(table, [name for name in (key, value, by_column, at) if name is not None], origin)
    columns: dict[str, list[Any]] = table.select(list({key, value, by_column or key})).to_pydict()
    return Claims(
        origin,
        loaded.file["digest"] if loaded.file else None,
        tuple(map(str, columns[key])),
        tuple(columns[value]),
        tuple(map(str, columns[by_column])) if by_column else (by or "",) * table.num_rows,
        (None,) * table.num_rows if at is None else tuple(_times(table.column(at), at, origin)),
    )


def _check(table: pa.Table, columns: Sequence[str], origin: str) -> None:
    if missing := [name for name in columns if name not in table.column_names]:
        raise Invalid(
            f"{origin} has no column {', '.join(map(repr, missing))}; it has {', '.join(table.column_names)}. "
            "Name the right columns, or rename them in the file. Nothing was recorded."
        )
    for name in columns:
        if table.column(name).null_count:
            first = pc.index(pc.is_null(table.column(name)), pa.scalar(True)).as_py() + 1
            raise Invalid(
                f"{origin} has {table.column(name).null_count} rows without {name!r}, the first is row {first}. "
                "Fill them in or take them out. Nothing was recorded."
            )


def _times(column: pa.ChunkedArray[Any], name: str, origin: str) -> list[datetime]:
    times: list[datetime] = []
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        # Python's datetime knows no nanoseconds; cut them off rather than refuse the file.
        column = column.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False)
    values: list[Any] = column.to_pylist()
    for row, value in enumerate(values, start=1):
        try:
            at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except (TypeError, ValueError) as error:
            raise Invalid(
                f"{origin}, row {row}: {name!r} is not a time. Write times as 2026-10-01T08:30:00Z. "
                "Nothing was recorded."
            ) from error
        times.append(at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC))
    return times
