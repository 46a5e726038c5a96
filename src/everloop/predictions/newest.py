"""The newest predictions that fit what somebody looks for, without reading the log from its beginning.

Segments are read from their ends, all processes' side by side: of a live one the last frames first, of a sealed one the
last row groups, and a group is passed over when its statistics say that nothing in it fits. Reading stops at `limit`
records, or after a third of a second's work; what is not found by then is asked for with `before`.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from everloop.clock import to_micros
from everloop.errors import Invalid
from everloop.ids import milliseconds_of, prefix_of
from everloop.predictions.erasing import erased, read_erasures
from everloop.predictions.records import PredictionRecord, Status
from everloop.predictions.segments import frames_backwards
from everloop.predictions.tables import SCHEMA, from_row
from everloop.predictions.writers import segments, writer_folders

MOST_EFFORT = 90_000
"""As many records of a live segment as are read in a third of a second; sealed ones take a fifth of that."""
_FOREVER_MS = 1 << 48
_WRITING_MS = 250  # between an answer and its record in the log, at most
_APART_MS = 30_000  # between a prediction's time and its id's, at most; both are now, outside a simulation
_LONGEST_REQUEST_MS = 3_600_000  # as in `log`: so long before a segment was begun its ids may have been made
_CHUNK = 512  # records of a live segment between two looks at what the other processes have
_SEALED_PER_EFFORT = 5
_OPENING = 300  # of a sealed segment

_EQUAL = ("endpoint", "version", "variant", "status", "key")  # the columns that are looked for as they are

PredictionKind = Literal["live", "replay", "shadow"]


@dataclass(frozen=True)
class PredictionSearch:
    """What is looked for; None leaves a field open.

    `text` stands in one of the inputs, in whatever letters. `slower_than_ms` and `score_below` (the best score) are limits
    that are not met themselves. `kind` tells live traffic from what was sent again and from a shadow's copies. `ids` are
    the only predictions that are of interest.
    """

    endpoint: str | None = None
    version: int | None = None
    variant: str | None = None
    status: Status | None = None
    output: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    key: str | None = None
    text: str | None = None
    slower_than_ms: float | None = None
    score_below: float | None = None
    kind: PredictionKind | None = None
    ids: frozenset[str] | None = None

    def fits(self, record: PredictionRecord) -> bool:
        return (
            (self.endpoint is None or record.endpoint == self.endpoint)
            and (self.version is None or record.version == self.version)
            and (self.variant is None or record.variant == self.variant)
            and (self.status is None or record.status == self.status)
            and (self.output is None or str(record.output) == self.output)
            and (self.start is None or record.at >= to_micros(self.start))
            and (self.end is None or record.at < to_micros(self.end))
            and (self.key is None or record.key == self.key)
            and (self.slower_than_ms is None or record.latency_us > 1_000 * self.slower_than_ms)
            and (self.kind is None or kind_of(record) == self.kind)
            and (self.ids is None or record.id in self.ids)
            and (self.score_below is None or max(record.scores.values(), default=1.0) < self.score_below)
            and (self.text is None or _holds(record.inputs, self.text.lower()))
        )

    def has_id_between(self, oldest: str, newest: str) -> bool:
        place = bisect_left(self._sorted_ids, oldest)
        return place < len(self._sorted_ids) and self._sorted_ids[place] <= newest

    @cached_property
    def _sorted_ids(self) -> list[str]:
        return sorted(self.ids or ())


@dataclass(frozen=True)
class FoundPredictions:
    """Records, the newest first; those that are older than all of them are found with `before`, None: there are none."""

    records: list[PredictionRecord]
    looked_at: int
    before: str | None


@dataclass(frozen=True)
class _Part:
    """What a part of a segment held; every record before it has an id that was made at `below_ms` or earlier.

    None of its own was made later than `newest_ms`.
    """

    records: list[PredictionRecord]
    looked_at: int
    effort: int
    below_ms: int
    newest_ms: int = 0


def newest_predictions(
    folder: Path,
    search: PredictionSearch,
    *,
    limit: int,
    before: str | None = None,
    is_simulation: bool = False,
    most_effort: int = MOST_EFFORT,
) -> FoundPredictions:
    """The newest predictions that fit, newest first by the moment at which their ids were made.

    Spends no more than about `most_effort`; then `before` says where to go on, though fewer than `limit` were found.
    Outside a simulation ids are made when things happen, so that a time leads straight to its segments.

    Raises Invalid when `before` is no prediction's id.
    """
    if before is not None and (not before.startswith("pred_") or prefix_of(before) != "pred"):
        raise Invalid(f"before is {before!r}; it is the id of a prediction, which begins with pred_.")
    first_ms, last_ms = _bounds(search, before, is_simulation=is_simulation)
    # the process whose next record may be the newest is asked next
    waiting = [
        (-last_ms, number, _newest_parts(directory, search, before, last_ms))
        for number, directory in enumerate(writer_folders(folder))
    ]
    heapq.heapify(waiting)
    found: list[PredictionRecord] = []
    looked_at, effort, newest_ms = 0, 0, 0
    while waiting:
        below_ms = -waiting[0][0]
        is_enough = len(found) >= limit and milliseconds_of(found[limit - 1].id) > below_ms
        has_come_on = below_ms < min(newest_ms, last_ms - 1)  # so that the next look begins further back
        if is_enough or below_ms < first_ms or (effort >= most_effort and has_come_on):
            break
        _, number, parts = waiting[0]
        part = next(parts, None)
        if part is None:
            heapq.heappop(waiting)
            continue
        heapq.heapreplace(waiting, (-part.below_ms, number, parts))
        looked_at, effort = looked_at + part.looked_at, effort + part.effort
        newest_ms = max(newest_ms, part.newest_ms)
        found = heapq.nlargest(limit + 1, [*found, *part.records], key=lambda one: one.id)
    below_ms = -waiting[0][0] if waiting else 0
    return _told(found, limit=limit, looked_at=looked_at, below_ms=below_ms if below_ms >= first_ms else 0)


def _told(
    found: Sequence[PredictionRecord], *, limit: int, looked_at: int, below_ms: int
) -> FoundPredictions:
    """What is sure to be the newest: who has not been asked yet may still have any record below."""
    sure = [one for one in found if milliseconds_of(one.id) > below_ms]
    if len(sure) > limit or (len(sure) == limit and below_ms):
        return FoundPredictions(sure[:limit], looked_at, sure[limit - 1].id)
    return FoundPredictions(sure, looked_at, _first_id_of(below_ms + 1) if below_ms else None)


def _bounds(search: PredictionSearch, before: str | None, *, is_simulation: bool) -> tuple[int, int]:
    """Between which milliseconds the ids were made."""
    first_ms, last_ms = 0, _FOREVER_MS if before is None else milliseconds_of(before)
    if not is_simulation:
        if search.start is not None:
            first_ms = to_micros(search.start) // 1_000 - _APART_MS
        if search.end is not None:
            last_ms = min(last_ms, to_micros(search.end) // 1_000 + _APART_MS)
    if search.ids is not None:
        last_ms = min(last_ms, max(map(milliseconds_of, search.ids), default=0))
        first_ms = max(first_ms, min(map(milliseconds_of, search.ids), default=_FOREVER_MS))
    return first_ms, last_ms


def _newest_parts(
    directory: Path, search: PredictionSearch, before: str | None, last_ms: int
) -> Iterator[_Part]:
    """What a process wrote, part by part, from its newest record back."""
    numbers = segments(directory)
    # a segment is begun later than every id in those before
    for number, end in reversed([*pairwise([*numbers, _FOREVER_MS])]):
        if number > last_ms + _LONGEST_REQUEST_MS:
            continue
        below_ms = min(end, last_ms)
        if number != numbers[-1]:
            yield _Part([], 0, 0, below_ms)  # somebody else's turn, perhaps, before this one is opened
        sealed = directory / f"{number}.parquet"
        try:
            if not sealed.exists():
                yield from _live_parts(directory / f"{number}.log", search, before)
                continue
        except FileNotFoundError:
            pass  # sealed since it was looked for
        with suppress(FileNotFoundError):  # removed since then: it was too old to be kept
            yield from _sealed_parts(sealed, search, before, number)


def _live_parts(path: Path, search: PredictionSearch, before: str | None) -> Iterator[_Part]:
    written, erasures = _Written(), read_erasures(path.parent.parent.parent)
    records = frames_backwards(path)
    while chunk := list(islice(records, _CHUNK)):
        for record in chunk:
            written.see(record)
        asked = [
            erased(one) if erasures.meet(one) else one for one in chunk if before is None or one.id < before
        ]
        fitting = [one for one in asked if search.fits(one)]
        newest_ms = milliseconds_of(max(one.id for one in chunk))
        # the way to `before` is no effort, or a look far back in a long segment would end where it begins
        yield _Part(fitting, len(asked), len(asked), written.by_ms + _WRITING_MS, newest_ms)


class _Written:
    """When the records seen so far, from the end of a segment back, had been written at the latest.

    A record is written as soon as it is answered, its latency after its id was made; the rows of a request together, with
    the slowest of them. What stands before it was written earlier, so that its id was made earlier, too.
    """

    def __init__(self) -> None:
        self.by_ms = _FOREVER_MS
        self._request: str | None = None
        self._together_ms = _FOREVER_MS

    def see(self, record: PredictionRecord) -> None:
        answered_ms = milliseconds_of(record.id) + record.latency_us // 1_000
        if record.request is None:
            self.by_ms = min(self.by_ms, self._together_ms, answered_ms)
            self._together_ms = _FOREVER_MS
        elif record.request == self._request:
            self._together_ms = max(self._together_ms, answered_ms)
        else:
            self.by_ms = min(self.by_ms, self._together_ms)
            self._together_ms = answered_ms
        self._request = record.request


def _sealed_parts(path: Path, search: PredictionSearch, before: str | None, number: int) -> Iterator[_Part]:
    file = pq.ParquetFile(path)
    groups = [_Group(file.metadata.row_group(group)) for group in range(file.metadata.num_row_groups)]
    below_ms = [number, *accumulate((milliseconds_of(one.newest) for one in groups), max)]
    yield _Part([], 0, _OPENING, below_ms[-1])
    for place, group in reversed([*enumerate(groups)]):
        fitting: list[PredictionRecord] = []
        rows = 0
        if (before is None or group.oldest < before) and group.may_hold(search):
            fitting, rows = _fitting(file, place, search, before), group.rows
        effort = rows // _SEALED_PER_EFFORT
        yield _Part(fitting, rows, effort, below_ms[place], milliseconds_of(group.newest))


class _Group:
    """What the statistics of a row group say: between which values each column lies."""

    def __init__(self, metadata: pq.RowGroupMetaData) -> None:
        self.rows = metadata.num_rows
        self._ends: dict[str, tuple[Any, Any]] = {}
        for position in range(metadata.num_columns):
            column = metadata.column(position)
            statistics = column.statistics
            if statistics is not None and statistics.has_min_max:
                self._ends[column.path_in_schema] = statistics.min, statistics.max
        self.oldest, self.newest = self._ends["id"]

    def may_hold(self, search: PredictionSearch) -> bool:
        return (
            all(self._may_be(name, getattr(search, name)) for name in _EQUAL)
            and (search.start is None or self._end("at", search.start, 1) >= search.start)
            and (search.end is None or self._end("at", search.end, 0) <= search.end)
            and (
                search.slower_than_ms is None
                or self._end("latency_us", 1e18, 1) > 1_000 * search.slower_than_ms
            )
            and (search.kind != "replay" or self._end("replay", True, 1))
            and (search.kind != "shadow" or "shadow_of" in self._ends)
            and (search.ids is None or search.has_id_between(self.oldest, self.newest))
        )

    def _may_be(self, column: str, value: Any) -> bool:
        low, high = self._ends.get(column, (value, value))
        return value is None or bool(low <= value <= high)

    def _end(self, column: str, otherwise: Any, which: int) -> Any:
        return self._ends.get(column, (otherwise, otherwise))[which]


def _fitting(
    file: pq.ParquetFile, group: int, search: PredictionSearch, before: str | None
) -> list[PredictionRecord]:
    """The records of a row group that fit: columns leave most out, and what is left is looked at one by one."""
    asked = _columns_asked(search)
    table = file.read_row_group(group, columns=[*dict.fromkeys(("id", *asked))])
    for one in _filters(search, before):
        table = table.filter(one)
    rows = table["id"]
    if not len(rows):
        return []
    whole = file.read_row_group(group)
    for field in SCHEMA:
        if field.name not in whole.column_names:  # sealed before there was such a column
            whole = whole.append_column(field, pa.nulls(whole.num_rows, field.type))
    whole = whole.filter(pc.is_in(whole["id"], value_set=rows.combine_chunks()))
    records = (from_row(row) for batch in whole.to_batches() for row in batch.to_pylist())
    return [record for record in records if search.fits(record)]


def _columns_asked(search: PredictionSearch) -> list[str]:
    of_field = {
        "endpoint": "endpoint", "version": "version", "variant": "variant", "status": "status", "output": "output",
        "start": "at", "end": "at", "key": "key", "text": "inputs", "slower_than_ms": "latency_us",
    }  # fmt: skip
    asked = [column for name, column in of_field.items() if getattr(search, name) is not None]
    return [*asked, *(("replay", "shadow_of") if search.kind is not None else ())]


def _filters(search: PredictionSearch, before: str | None) -> Iterator[pc.Expression]:
    """Which rows may fit, as far as that is seen column by column."""
    if before is not None:
        yield pc.field("id") < before
    for name in _EQUAL:
        if (value := getattr(search, name)) is not None:
            yield pc.field(name) == value
    yield from _in_time(search.start, search.end)
    if search.output is not None:
        yield (pc.field("output") == search.output) | pc.field("output").is_null()
    if search.slower_than_ms is not None:
        yield pc.field("latency_us") > 1_000 * search.slower_than_ms
    if search.kind is not None:
        yield from _of_kind(search.kind)
    if search.ids is not None:
        yield pc.field("id").isin(pa.array(list(search.ids), pa.string()))
    if search.text is not None:
        in_json = msgspec.json.encode(search.text).decode()[1:-1]
        yield pc.match_substring(pc.field("inputs"), in_json, ignore_case=True)


def _in_time(start: datetime | None, end: datetime | None) -> Iterator[pc.Expression]:
    at = SCHEMA.field("at").type
    if start is not None:
        yield pc.field("at") >= pa.scalar(start, at)
    if end is not None:
        yield pc.field("at") < pa.scalar(end, at)


def _of_kind(kind: PredictionKind) -> Iterator[pc.Expression]:
    is_own = pc.field("shadow_of").is_null()
    yield is_own if kind != "shadow" else ~is_own
    if kind != "shadow":
        yield pc.field("replay") == (kind == "replay")


def kind_of(record: PredictionRecord) -> PredictionKind:
    """Live traffic, a request that was sent again, or a shadow's copy of one."""
    if record.shadow_of is not None:
        return "shadow"
    return "replay" if record.replay else "live"


def _holds(value: Any, text: str) -> bool:
    """Whether a text stands in a value, or in one of those that it consists of."""
    if isinstance(value, dict):
        return any(_holds(one, text) for one in value.values())
    if isinstance(value, list):
        return any(_holds(one, text) for one in value)
    return text in str(value).lower()


def _first_id_of(milliseconds: int) -> str:
    return f"pred_{milliseconds << 80:032x}"
