"""Features for live requests: the last rows of each entity, in memory."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from everloop.clock import from_micros, to_micros
from everloop.errors import Invalid
from everloop.features.records import FeatureFunction, FeatureValue, FeatureView, evaluate

_MANY_CHUNKS = 16  # a table of more chunks is copied into one: slices of a chunked table get slow


def online_value(
    view: FeatureView, function: FeatureFunction, history: OnlineHistory, *, entity: Any, at: datetime
) -> FeatureValue:
    """The feature's value for `entity` at `at`: the same as `training_values` gives for such a row.

    Raises Invalid when the function fails.
    """
    past, newest_us = history.window_before(entity, to_micros(at))
    value = evaluate(view, function, past)
    return FeatureValue(value, None if newest_us is None else from_micros(newest_us))


class OnlineHistory:
    """The rows that a view may look at, per entity, sorted by event time.

    A row is known by its key: one that arrives again (a client that tries again, a log that is read again
    after a restart) is not counted twice. Rows older than two windows before the newest are dropped, so that
    memory follows the traffic; a question up to one window late is still answered exactly.
    Not thread-safe: one thread observes and asks.
    """

    def __init__(self, view: FeatureView) -> None:
        self._view = view
        self._schema = view.schema
        self._names = tuple(view.columns)
        self._time = self._names.index(view.time)
        self._key = None if view.key is None else self._names.index(view.key)
        self._window_us = int(view.window_s * 1_000_000)
        self._entities: dict[Any, _Rows] = {}
        self._keys: set[Any] = set()
        self._arrivals: deque[tuple[int, Any]] = deque()
        self._newest_us = -(1 << 62)

    def __len__(self) -> int:
        return sum(len(rows.times) for rows in self._entities.values())

    @property
    def newest_at(self) -> datetime | None:
        """Event time of the newest row, None when there is none."""
        return from_micros(self._newest_us) if self._entities else None

    def observe(self, row: Mapping[str, Any], at: datetime) -> bool:
        """Remember a row that happened at `at`; False when it was known already, or too old to matter.

        Columns of the view that `row` lacks are null; the time column is `at`.
        """
        at_us = to_micros(at)
        values = [row.get(name) for name in self._names]
        values[self._time] = at_us
        return self._add(tuple(values), row.get(self._view.entity), at_us)

    def load(self, path: Path) -> int:
        """Observe all rows of a file written by `materialise`; returns how many were new.

        Raises Invalid when the file is not the view's.
        """
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
        except pa.ArrowInvalid as error:
            raise Invalid(
                f"{path} is not a whole Arrow file: {error}. Materialise feature {self._view.name!r} again."
            ) from error
        if not table.schema.equals(self._schema):
            raise Invalid(
                f"{path} holds columns {table.schema.names}, feature {self._view.name!r} needs {list(self._names)} "
                "in its own types. Materialise the feature again."
            )
        columns = [
            (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
            for column in table.columns
        ]
        entity = self._names.index(self._view.entity)
        return sum(self._add(row, row[entity], row[self._time]) for row in zip(*columns, strict=True))

    def past(self, entity: Any, at: datetime) -> pa.Table:
        """The entity's rows with at - window <= t' < at, oldest first."""
        return self.window_before(entity, to_micros(at))[0]

    def window_before(self, entity: Any, at_us: int) -> tuple[pa.Table, int | None]:
        """As `past`, with the event time (microseconds) of the newest of these rows."""
        rows = self._entities.get(entity)
        if rows is None:
            return self._schema.empty_table(), None
        start, stop = bisect_left(rows.times, at_us - self._window_us), bisect_left(rows.times, at_us)
        if start == stop:
            return self._schema.empty_table(), None
        return rows.table(self._schema).slice(start, stop - start), rows.times[stop - 1]

    def _add(self, row: tuple[Any, ...], entity: Any, at_us: int) -> bool:
        key = None if self._key is None else row[self._key]
        if (
            entity is None
            or at_us < self._newest_us - 2 * self._window_us
            or (key is not None and key in self._keys)
        ):
            return False
        if key is not None:
            self._keys.add(key)
        self._newest_us = max(self._newest_us, at_us)
        self._entities.setdefault(entity, _Rows()).add(row, at_us)
        self._arrivals.append((at_us, entity))
        self._forget_before(self._newest_us - 2 * self._window_us)
        return True

    def _forget_before(self, oldest_us: int) -> None:
        while self._arrivals and self._arrivals[0][0] < oldest_us:
            _, entity = self._arrivals.popleft()
            rows = self._entities.get(entity)
            if rows is None:
                continue
            dropped = rows.drop_before(oldest_us)
            if self._key is not None:
                self._keys.difference_update(row[self._key] for row in dropped)
            if not rows.times:
                del self._entities[entity]


class _Rows:
    """One entity's rows by time, and an Arrow table of the first of them that grows when it is asked for."""

    __slots__ = ("_rows", "_table", "times")

    def __init__(self) -> None:
        self.times: list[int] = []
        self._rows: list[tuple[Any, ...]] = []
        self._table: pa.Table | None = None

    def add(self, row: tuple[Any, ...], at_us: int) -> None:
        if not self.times or at_us >= self.times[-1]:
            self.times.append(at_us)
            self._rows.append(row)
            return
        place = bisect_right(self.times, at_us)
        self.times.insert(place, at_us)
        self._rows.insert(place, row)
        self._table = None  # a late row lands in the middle: rare enough to build the table anew

    def drop_before(self, oldest_us: int) -> list[tuple[Any, ...]]:
        count = bisect_left(self.times, oldest_us)
        dropped = self._rows[:count]
        del self.times[:count], self._rows[:count]
        if self._table is not None:
            self._table = self._table.slice(count) if count < self._table.num_rows else None
        return dropped

    def table(self, schema: pa.Schema) -> pa.Table:
        table = self._table if self._table is not None else schema.empty_table()
        if table.num_rows < len(self._rows):
            table = pa.concat_tables([table, _table_of(self._rows[table.num_rows :], schema)])
            if table.column(0).num_chunks > _MANY_CHUNKS:
                table = table.combine_chunks()
            self._table = table
        return table


def _table_of(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )
