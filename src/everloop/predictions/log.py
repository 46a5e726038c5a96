"""The prediction log as a whole: read it, find one prediction, seal finished segments into Parquet.

    log/00003/lock              held by process 3 as long as it lives
    log/00002@1f3a.../...       a copy of what process 2 of another home logged
    log/00003/1757000000000.log       a segment, named by the millisecond at which it was begun
    log/00003/1756990000000.parquet   a sealed one

Readers see every record exactly once at any moment, also while segments are sealed under them.
`folder` is always `<home>/serving`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import compress, islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from everloop.clock import to_micros
from everloop.errors import Invalid, StorageFailed
from everloop.ids import milliseconds_of, prefix_of, writer_of
from everloop.predictions import sealed
from everloop.predictions.erasing import (
    Erasures,
    erase_in,
    erase_waiting,
    erased,
    read_erasures,
    remember,
    settle,
)
from everloop.predictions.expiring import Old, old_in, remove_old
from everloop.predictions.kept import drawn
from everloop.predictions.records import PredictionRecord
from everloop.predictions.segments import (
    AT_ONCE,
    MAPS,
    Damage,
    begins_frame,
    decoder_of,
    find_in,
    frames,
    head_of,
)
from everloop.predictions.tables import SCHEMA, from_row, schema_of, to_batch
from everloop.predictions.writers import (
    FROM,
    is_live,
    own_folders,
    segments,
    stems,
    writer_folder,
    writer_folders,
)

__all__ = [
    "Passed",
    "Tally",
    "batches",
    "end",
    "erase",
    "erase_in_copy",
    "expire",
    "expired",
    "find",
    "matching",
    "may_be_sealed",
    "parts",
    "read",
    "rows_in",
    "seal",
    "tallies",
    "tally",
]

logger = logging.getLogger(__name__)

BATCH_ROWS = 8_192
_OF_A_SAMPLE = ("id", "release", "probability")
_NEWEST_WRITERS = 8  # processes that may be writing now
# an answer may take this long after its id was made: so much later a segment may begin and still hold it
_LONGEST_REQUEST_MS = 3_600_000


def read(
    folder: Path,
    *,
    endpoint: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    columns: Sequence[str] | None = None,
    chances: Callable[[str], float] | None = None,
) -> pa.Table:
    """All records of an endpoint with start <= at < end, live and sealed, in the columns of `SCHEMA` asked for.

    `at` is domain time. The order is by process and time of writing; sort by id for the order of arrival.
    For more than fits in memory use `batches`. With `chances`, a sample: each prediction of a release is in it with that
    release's chance (`drawn`), and of the others nothing is unpacked. `probability` stays what the log says.
    """
    found = batches(folder, endpoint=endpoint, start=start, end=end, columns=columns, chances=chances)
    return pa.Table.from_batches(list(found), schema=schema_of(columns))


def batches(
    folder: Path,
    *,
    endpoint: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    keys: Collection[str] | None = None,
    columns: Sequence[str] | None = None,
    passed: Passed | None = None,
    chances: Callable[[str], float] | None = None,
) -> Iterator[pa.RecordBatch]:
    """As `read`, a batch of at most 8,192 records at a time; memory holds one segment at most.

    With `keys`, only records that carry one of them. With `passed`, what an earlier reading has passed by is not read again.
    """
    names = schema_of(columns).names
    wanted = _Wanted(endpoint, start, end, None if keys is None else frozenset(keys), chances)
    for found in _scan(folder, names, wanted, passed, at_once=BATCH_ROWS):
        batch = to_batch(found, names) if isinstance(found, list) else found
        if batch.num_rows:
            yield batch


@dataclass(frozen=True)
class Tally:
    """Records by the few kinds that they are of: `kinds[kind[i]]` are the i-th one's values of `by`; when it came, how long it took.

    All of one reading share `kinds`, which grows.
    """

    by: Sequence[str]
    kinds: list[tuple[Any, ...]]
    kind: NDArray[np.int64]  # (n_records,), as the others
    at_us: NDArray[np.int64]
    latency_us: NDArray[np.int64]

    def where(self, wanted: NDArray[np.bool_]) -> Tally:
        return Tally(self.by, self.kinds, self.kind[wanted], self.at_us[wanted], self.latency_us[wanted])

    @classmethod
    def joined(cls, some: Sequence[Tally]) -> Tally:
        """Of some of one reading, at least one."""
        kind, at_us, latency_us = (
            np.concatenate([getattr(one, name) for one in some]) for name in ("kind", "at_us", "latency_us")
        )
        return cls(some[0].by, some[0].kinds, kind, at_us, latency_us)


def tally(rows: pa.Table | pa.RecordBatch, by: Sequence[str]) -> Tally:
    """These rows."""
    return _Tallied(by).of_rows(rows)


def tallies(
    folder: Path,
    *,
    by: Sequence[str],
    endpoint: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    passed: Passed | None = None,
) -> Iterator[Tally]:
    """The records that `batches` gives, shadows left out, by the values of columns that have few; in two thirds of the time."""
    wanted, names = _Wanted(endpoint, start, end, None, None), [*by, "at", "latency_us", "shadow_of"]
    tallied = _Tallied(by)
    for found in _scan(folder, names, wanted, passed, at_once=1):
        yield tallied.of_records(found) if isinstance(found, list) else tallied.of_rows(found)


class _Tallied:
    """The kinds that one reading has found."""

    def __init__(self, by: Sequence[str]) -> None:
        self._by = by
        self._kind_of = attrgetter(*by)
        self._kinds: list[tuple[Any, ...]] = []
        self._places: dict[tuple[Any, ...], int] = {}

    def of_records(self, records: list[PredictionRecord]) -> Tally:
        own = [one for one in records if one.shadow_of is None]
        return self._of(map(self._kind_of, own), [one.at for one in own], [one.latency_us for one in own])

    def of_rows(self, rows: pa.Table | pa.RecordBatch) -> Tally:
        own = rows.filter(pc.is_null(rows["shadow_of"]))
        of_each = zip(*(own[name].to_pylist() for name in self._by), strict=True)
        return self._of(of_each, own["at"].cast(pa.int64()).to_numpy(), own["latency_us"].to_numpy())

    def _of(self, of_each: Iterable[tuple[Any, ...]], at_us: ArrayLike, latency_us: ArrayLike) -> Tally:
        places = self._places
        kind = [places.setdefault(one, len(places)) for one in of_each]
        self._kinds += list(islice(places, len(self._kinds), None))
        found = (np.array(values, dtype=np.int64) for values in (kind, at_us, latency_us))
        return Tally(self._by, self._kinds, *found)


def _scan(
    folder: Path, names: Sequence[str], wanted: _Wanted, passed: Passed | None, *, at_once: int
) -> Iterator[list[PredictionRecord] | pa.RecordBatch]:
    """What is wanted: of sealed segments batches, of others records, but for a few at least so many at once."""
    for directory in writer_folders(folder):
        known = segments(directory)
        for number in known if passed is None else passed.left(directory, known):
            yield from _in_segment(directory / str(number), names, wanted, passed, at_once)


def parts(folder: Path) -> Iterator[Path]:
    """The sealed segments of all processes, oldest process first."""
    for directory in writer_folders(folder):
        for number in segments(directory):
            path = directory / f"{number}.parquet"
            if path.exists():
                yield path


def find(folder: Path, prediction_id: str) -> PredictionRecord | None:
    """The record of one prediction, None when there is none.

    The id carries the writer and the millisecond, so that one folder is listed and usually one segment opened.
    Raises Invalid when the text is no prediction id.
    """
    if not prediction_id.startswith("pred_") or prefix_of(prediction_id) != "pred":
        raise Invalid(f"{prediction_id!r} is not a prediction's id; one begins with pred_.")
    made_ms = milliseconds_of(prediction_id)
    own = writer_folder(folder, writer_of(prediction_id))
    for directory in (own, *own.parent.glob(f"{own.name}{FROM}*")):
        numbers = segments(directory) if directory.is_dir() else []
        # a segment begun in the id's own millisecond may be the one after the record's
        first = max((number for number in numbers if number < made_ms), default=0)
        for number in numbers:
            if first <= number <= made_ms + _LONGEST_REQUEST_MS:
                record = _find_in_segment(directory / str(number), prediction_id)
                if record is not None:
                    return record
    return None


def end(folder: Path) -> str:
    """Where the log ends now: a text that changes when something is logged. Looks at the newest processes alone."""
    ends = []
    folders = writer_folders(folder)
    copies = [path for path in folders if not path.name.isdigit()]
    for directory in (*own_folders(folder)[-_NEWEST_WRITERS:], *copies):
        number = max((int(name) for name in stems(directory)), default=0)
        path = directory / f"{number}.log"
        try:
            ends.append(f"{directory.name}/{number}:{path.stat().st_size}")
        except FileNotFoundError:
            ends.append(f"{directory.name}/{number}")  # sealed, or nothing was logged yet
    return " ".join(ends)


def seal(folder: Path) -> list[Path]:
    """Turn finished segments into Parquet beside them; returns the new files.

    A segment is finished when its process has begun another or is dead. Run by any process, also by several
    at once: the Parquet file appears whole, is on disk before the segment is removed, and repeating it changes
    nothing. A segment with damage is kept as `.damaged` for whoever wants to look. Raises StorageFailed when a
    file cannot be written; what was not sealed stays as it is.
    """
    made = []
    for log in _finished(folder):
        path = log.with_suffix(".parquet")
        if path.exists():
            log.unlink(missing_ok=True)
        elif _seal_segment(log, path):
            made.append(path)
    if made:
        settle(folder, _oldest_open_ms(folder))
    return made


def may_be_sealed(folder: Path) -> bool:
    """Whether there is a finished segment; a look at a few folders."""
    return next(_finished(folder), None) is not None


def rows_in(path: Path) -> int:
    """How many records a sealed segment has; 0 when it is gone."""
    try:
        return sum(span.rows for span in sealed.spans(path).values())
    except FileNotFoundError:
        return 0


def expired(folder: Path, before: Mapping[str, datetime]) -> list[Old]:
    """What is sealed and older than its endpoint's moment; endpoints that are not named keep theirs."""
    return [old for path in parts(folder) for old in old_in(path, before)]


def expire(folder: Path, before: Mapping[str, datetime]) -> list[Old]:
    """Remove it, and say what it was."""
    removed = expired(folder, before)
    for path in dict.fromkeys(one.path for one in removed):
        remove_old(path, SCHEMA, [one for one in removed if one.path == path])
    return removed


def erase(folder: Path, names: Collection[str], key: bytes) -> dict[Path, int]:
    """Take out of the log what was asked under these keys or ids up to now; how many sealed records, by their file.

    What is not sealed yet reads as erased at once and is rewritten when it is sealed. Erased records stay as such.
    """
    remember(folder, names, key)  # first: what is sealed meanwhile is sealed without it
    found = {path: erase_in(path, SCHEMA, names) for path in parts(folder)}
    settle(folder, _oldest_open_ms(folder))
    return {path: count for path, count in found.items() if count}


def erase_in_copy(folder: Path, path: Path) -> None:
    """Take out of a sealed file of another home what was erased here while it was being written there."""
    erase_waiting(path, SCHEMA, read_erasures(folder))


def matching(folder: Path, names: Collection[str]) -> int:
    """How many records have one of these as their key or id."""
    wanted: pa.Array[Any] = pa.array(sorted(names), pa.string())
    return sum(
        pc.sum(sealed.hits(batch, wanted)).as_py() or 0 for batch in batches(folder, columns=["id", "key"])
    )


def _oldest_open_ms(folder: Path) -> int | None:
    """When the oldest segment that is not sealed was begun."""
    # a copy whose home is lost is never sealed, and what is erased stays so: those are waited for, too
    begun = [int(path.stem) for one in writer_folders(folder) for path in one.glob("*.log")]
    return min(begun, default=None)


def _finished(folder: Path) -> Iterator[Path]:
    """Segments that are not sealed and that nobody writes any more."""
    for directory in own_folders(folder):
        logs = sorted(directory.glob("*.log"), key=lambda path: int(path.stem))
        if logs and is_live(folder, int(directory.name)):
            logs.pop()
        yield from logs


@dataclass(frozen=True)
class Passed:
    """Where a reader goes on that comes again: of each segment that is not sealed, after how many bytes; of each process, after
    which of its sealed segments.

    Before them is nothing that the reader asks for. Reading with it puts into `found` where one may begin who asks for nothing
    before `until`.
    """

    known: Mapping[str, int]
    until: datetime
    found: dict[str, int] = field(default_factory=dict)

    def left(self, directory: Path, numbers: Sequence[int]) -> list[int]:
        """Those of a process's segments that are to be looked at."""
        if not directory.name.isdigit():
            return list(numbers)  # copies may come in another order
        last = self.known.get(directory.name, 0)
        left = [number for number in numbers if number > last]
        for number in left:
            if not _ended_before(directory / f"{number}.parquet", self.until):
                break
            last = number
        self.found[directory.name] = last
        return left


def _ended_before(path: Path, moment: datetime) -> bool:
    """Whether it is sealed, and all in it was earlier."""
    try:
        return all(span.last < moment for span in sealed.spans(path).values())
    except FileNotFoundError:
        return False


@dataclass(frozen=True)
class _Wanted:
    """What a reader looks for; None leaves a field open."""

    endpoint: str | None
    start: datetime | None
    end: datetime | None
    keys: frozenset[str] | None
    chances: Callable[[str], float] | None

    def of_records(self, records: list[PredictionRecord]) -> list[PredictionRecord]:
        """Those of an unsealed segment."""
        if self.endpoint is not None:
            records = [one for one in records if one.endpoint == self.endpoint]
        if self.start is not None:
            first = to_micros(self.start)
            records = [one for one in records if one.at >= first]
        if self.end is not None:
            last = to_micros(self.end)
            records = [one for one in records if one.at < last]
        if self.chances is not None and records:
            records = list(compress(records, self._drawn(to_batch(records, _OF_A_SAMPLE))))
        return records

    def meets(self, endpoint: str, span: sealed.Span) -> bool:
        """Whether what a sealed segment holds of an endpoint may be wanted."""
        return (
            self.endpoint in (None, endpoint)
            and (self.start is None or span.last >= self.start)
            and (self.end is None or span.first < self.end)
        )

    def drawn(self, batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
        """Its rows that are in the sample, in these columns."""
        if self.chances is not None:
            batch = batch.filter(pa.array(self._drawn(batch)))
        return batch.select(list(names))

    def _drawn(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        assert self.chances is not None, "the caller looked"  # noqa: S101
        releases: Any = batch["release"].dictionary_encode()
        of_each = np.array([self.chances(name) for name in releases.dictionary.to_pylist()])
        return drawn(batch, of_each.take(releases.indices.to_numpy()))

    def of_columns(self, known: Mapping[str, sealed.Span]) -> pc.Expression | None:
        """For rows of a sealed one that holds these; None where they are all wanted."""
        parts = []
        if self.endpoint is not None and known.keys() != {self.endpoint}:
            parts.append(pc.field("endpoint") == self.endpoint)
        if self.start is not None and any(span.first < self.start for span in known.values()):
            parts.append(pc.field("at") >= pa.scalar(self.start, type=SCHEMA.field("at").type))
        if self.end is not None and any(span.last >= self.end for span in known.values()):
            parts.append(pc.field("at") < pa.scalar(self.end, type=SCHEMA.field("at").type))
        if self.keys is not None:
            parts.append(pc.field("key").isin(pa.array(sorted(self.keys), pa.string())))
        wanted = None
        for part in parts:
            wanted = part if wanted is None else wanted & part
        return wanted


def _in_segment(
    stem: Path, names: Sequence[str], wanted: _Wanted, passed: Passed | None, at_once: int
) -> Iterator[list[PredictionRecord] | pa.RecordBatch]:
    name = f"{stem.parent.name}/{stem.name}"
    place = 0 if passed is None else passed.known.get(name, 0)
    content = _content(stem, place)
    if content and place and not begins_frame(content):  # it did: what was written then was cut off again
        place, content = 0, _content(stem)
    if content is None:
        yield from _sealed_batches(stem.with_suffix(".parquet"), names, wanted)
        return
    damage: list[Damage] = []
    decode = decoder_of(frozenset(names).intersection(MAPS))
    if passed is None:
        records = _wanted_records(content, damage, decode, wanted)
    else:
        records = _passing_by(content, damage, decode, wanted, passed, name, place)
    erasures = read_erasures(stem.parent.parent.parent)
    yield from _batched(records, erasures, has_key=wanted.keys is not None, at_once=at_once)
    _tell_of(damage, stem.with_suffix(".log"), place)


def _wanted_records(
    content: bytes, damage: list[Damage], decode: Callable[[bytes], PredictionRecord], wanted: _Wanted
) -> Iterator[list[PredictionRecord]]:
    keys = wanted.keys
    if keys is None:
        for records, _ in frames(content, damage, decode):
            yield wanted.of_records(records)
        return

    # few are wanted: to look at the first fields alone takes a third of the time
    def read(payload: bytes) -> PredictionRecord | None:
        return decode(payload) if head_of(payload).key in keys else None

    for some, _ in frames(content, damage, read):
        yield wanted.of_records([one for one in some if one is not None])


def _passing_by(
    content: bytes,
    damage: list[Damage],
    decode: Callable[[bytes], PredictionRecord],
    wanted: _Wanted,
    passed: Passed,
    name: str,
    place: int,
) -> Iterator[list[PredictionRecord]]:
    """The wanted records from `place` on, where `content` begins; notes how far none is of `passed.until` or later."""
    until_us, is_passed = to_micros(passed.until), True
    passed.found[name] = place
    for records, ends in frames(content, damage, decode):
        later = next((number for number, one in enumerate(records) if one.at >= until_us), len(records))
        if is_passed and later:
            passed.found[name] = place + ends[later - 1]
        is_passed = is_passed and later == len(records)
        yield wanted.of_records(records)


def _sealed_batches(path: Path, names: Sequence[str], wanted: _Wanted) -> Iterator[pa.RecordBatch]:
    read = [*names, *(name for name in _OF_A_SAMPLE if wanted.chances is not None and name not in names)]
    try:
        known = sealed.spans(path)
        if not any(wanted.meets(name, span) for name, span in known.items()):
            return  # its footer says so, which was read once: to open it takes milliseconds
        where = wanted.of_columns(known)
        found = _all_of(path, read) if where is None else _some_of(path, read, where)
        for batch in found:
            yield wanted.drawn(_with_probability(batch), names)
    except FileNotFoundError:
        return  # removed since it was listed


def _all_of(path: Path, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A file's batches where no row is left out: at two thirds of the time."""
    with pq.ParquetFile(path) as file:
        if set(names) <= set(file.schema_arrow.names):
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=list(names), use_threads=False)
            return
    yield from _some_of(path, names, None)  # an older one, which lacks some


def _some_of(path: Path, names: Sequence[str], where: pc.Expression | None) -> Iterator[pa.RecordBatch]:
    # little read-ahead: the default would hold some hundred thousand records of a large window in memory
    yield from _sealed(path).to_batches(
        columns=list(names), filter=where, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1
    )


def _with_probability(batch: pa.RecordBatch) -> pa.RecordBatch:
    place = batch.schema.get_field_index("probability")
    if place < 0 or batch.column(place).null_count == 0:
        return batch
    return batch.set_column(place, SCHEMA.field("probability"), sealed.whole(batch.num_rows))


def _sealed(path: Path) -> pa.dataset.Dataset:
    import pyarrow.dataset  # noqa: PLC0415  (6 MB that a server without predictions does without)

    return pyarrow.dataset.dataset(path, schema=SCHEMA, format="parquet")


def _find_in_segment(stem: Path, prediction_id: str) -> PredictionRecord | None:
    content = _content(stem)
    if content is not None:
        record = find_in(content, prediction_id)
        erasures = read_erasures(stem.parent.parent.parent)
        return record if record is None or not erasures.meet(record) else erased(record)
    try:
        row = sealed.find(stem.with_suffix(".parquet"), prediction_id)
    except FileNotFoundError:
        return None  # removed since it was listed
    return None if row is None else from_row(row)


def _content(stem: Path, place: int = 0) -> bytes | None:
    """A segment's bytes from a place on, None when it is sealed (perhaps since it was listed).

    Read and not mapped: a writer cuts off what it could not write whole, and reading a mapped page that is
    gone would kill the reader.
    """
    if os.path.exists(f"{stem}.parquet"):  # noqa: PTH110  (of each segment there is)
        return None
    try:
        with stem.with_suffix(".log").open("rb") as file:
            file.seek(place)
            return file.read()
    except FileNotFoundError:
        return None


def _batched(
    found: Iterable[list[PredictionRecord]],
    erasures: Erasures,
    *,
    has_key: bool = False,
    at_once: int = BATCH_ROWS,
) -> Iterator[list[PredictionRecord]]:
    """Lists of nearly so many records, in which the erased ones are; without these where those with a key are wanted."""
    some: list[PredictionRecord] = []
    for records in found:
        left = (
            [erased(one) if erasures.meet(one) else one for one in records] if erasures.waiting else records
        )
        some += [one for one in left if one.key is not None] if has_key else left
        if len(some) > at_once - AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _tell_of(damage: Sequence[Damage], path: Path, place: int = 0) -> None:
    for one in damage:
        logger.warning(
            "%s: %d bytes at %d are damaged and were skipped", path, one.size_bytes, place + one.offset
        )


def _seal_segment(log: Path, path: Path) -> bool:
    """Whether this process sealed it. The segment stays until its Parquet file is on disk."""
    try:
        content = log.read_bytes()
    except FileNotFoundError:
        return False  # another process sealed it first
    damage: list[Damage] = []
    try:
        read = frames(content, damage, decoder_of(frozenset(MAPS)))
        found = _batched((some for some, _ in read), read_erasures(log.parent.parent.parent))
        sealed.write(path, SCHEMA, (to_batch(some) for some in found))
    except OSError as error:
        raise StorageFailed(
            f"{log} cannot be sealed: {error.strerror or error}. Nothing is lost, it is read as it is. "
            "Free space there, and sealing goes on by itself."
        ) from error
    _tell_of(damage, log)
    if damage:
        log.replace(log.with_suffix(".damaged"))
    else:
        log.unlink(missing_ok=True)
    return path.exists()  # a segment in which nothing was written leaves none
