"""Segments of the prediction log: how records are framed, written and scanned.

A segment is a file of frames: length (u32), CRC-32 of the payload (u32), payload, little-endian; the payload
is the msgpack array of a `PredictionRecord`. Only its own process writes a segment, always at the end and
with one write(2) a call, and never goes back to one that it left; so whatever a kill cuts short is at the end
of a file, and nobody was answered for it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from everloop.clock import elapsed_s
from everloop.errors import StorageFailed
from everloop.ids import WRITER_BITS, milliseconds_of, new_prediction_id
from everloop.predictions.records import Head, PredictionRecord
from everloop.predictions.writers import writer_folder
from everloop.storage import sync_folder

Read = TypeVar("Read")

MAPS = ("inputs", "features", "scores")
SEGMENT_BYTES = 64 * 1024 * 1024
SEGMENT_S = 3_600.0
_HEADER = struct.Struct("<II")
_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(PredictionRecord)


head_of = msgspec.msgpack.Decoder(Head).decode
# how the payload goes on after its array header: a text of 37 bytes that begins as all prediction ids do
_ID_MARK = b"\xd9\x25pred_"
_BLOCK_BYTES = 1 << 20
AT_ONCE = 512  # with 8,192 they leave the processor's cache, and reading takes a fifth longer
_ARRAY_HEADERS = (3, 1)  # bytes before the mark: 16 fields or more, fewer


class _Nothing(msgspec.Struct, gc=False):
    """A map of which nothing is read."""


@dataclass(frozen=True)
class Damage:
    """Bytes of a segment that are no frames although frames follow, or that fail their checksum."""

    offset: int
    size_bytes: int


class LogWriter:
    """The end of one process's prediction log; made by `claim`, used by one thread (`sync` by any)."""

    def __init__(
        self, folder: Path, writer: int, *, segment_bytes: int, segment_s: float, is_durable: bool
    ) -> None:
        self.writer = writer
        self._folder = writer_folder(folder, writer)
        self._segment_bytes = segment_bytes
        self._segment_s = segment_s
        self._is_durable = is_durable
        self._lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # waits for one who looks whether we live
        self._swapping = threading.Lock()
        self._segment: int | None = None
        self._size = 0
        self._opened_ms = 0
        self._opened_s = 0.0

    @classmethod
    def claim(
        cls,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
        is_durable: bool = False,
    ) -> LogWriter:
        """A writer under the next free number, which nobody had before and nobody gets again.

        It begins another segment when one has `segment_bytes`, or when it writes `segment_s` seconds after the
        segment's beginning: what is left behind can be sealed, also where there is little traffic.

        Raises StorageFailed when the home cannot be written or all 2^20 numbers are used.
        """
        log = folder / "log"
        try:
            log.mkdir(parents=True, exist_ok=True)
            number = max((int(path.name) for path in log.iterdir() if path.name.isdigit()), default=0) + 1
            while number < 1 << WRITER_BITS:
                try:
                    writer_folder(folder, number).mkdir()
                except FileExistsError:
                    number += 1
                    continue
                return cls(
                    folder,
                    number,
                    segment_bytes=segment_bytes,
                    segment_s=segment_s,
                    is_durable=is_durable,
                )
        except OSError as error:
            raise _cannot_write(log, error) from error
        raise StorageFailed(f"all {1 << WRITER_BITS} writer numbers under {log} are used. Start a new home.")

    def write(self, records: Sequence[PredictionRecord]) -> None:
        """Append the records with one write(2): they survive a kill of this process from here on.

        Raises StorageFailed when they could not be written whole; then none of them is in the log.
        """
        frames = b"".join([_frame(record) for record in records])
        segment = self._segment
        try:
            if segment is None or self._is_finished(len(frames)):
                segment = self._next_segment()
            written = os.write(segment, frames)
        except OSError as error:
            self._take_back()
            raise _cannot_write(self._folder, error) from error
        if written < len(frames):
            self._take_back()
            raise StorageFailed(
                f"{self._folder} took {written} of {len(frames)} bytes: the disk is full. Free space there."
            )
        self._size += written

    def roll(self) -> None:
        """Begin another segment if this one is old, though nothing is written: what waits to be sealed can be."""
        if self._segment is not None and self._size and self._is_finished(0):
            try:
                self._next_segment()
            except OSError as error:
                raise _cannot_write(self._folder, error) from error

    def sync(self) -> None:
        """Force what was written to disk (fdatasync); from then on it survives a power cut."""
        with self._swapping:
            try:
                if self._segment is not None:
                    os.fdatasync(self._segment)
            except OSError as error:
                raise _cannot_write(self._folder, error) from error

    def close(self) -> None:
        """Leave the log; its last segment may be sealed from now on."""
        self._leave_segment()
        os.close(self._lock)

    def _is_finished(self, more_bytes: int) -> bool:
        return self._size + more_bytes > self._segment_bytes or elapsed_s() - self._opened_s > self._segment_s

    def _next_segment(self) -> int:
        self._leave_segment()
        # later than every id in the segments before, and these rise even when the machine's clock does not
        self._opened_ms = max(milliseconds_of(new_prediction_id(self.writer)), self._opened_ms + 1)
        path = self._folder / f"{self._opened_ms}.log"
        segment = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        with self._swapping:
            self._segment, self._size, self._opened_s = segment, 0, elapsed_s()
        if self._is_durable:
            sync_folder(self._folder)
        return segment

    def _leave_segment(self) -> None:
        with self._swapping:
            if self._segment is not None:
                segment, self._segment = self._segment, None
                try:
                    if self._is_durable:
                        os.fdatasync(segment)  # whoever waits for `sync` may find another segment there
                finally:
                    os.close(segment)

    def _take_back(self) -> None:
        """Cut off what was written in part; if that fails too, the torn frame must stay the segment's last."""
        if self._segment is None:
            return
        try:
            os.ftruncate(self._segment, self._size)
        except OSError:
            self._leave_segment()


def frames(
    content: bytes, damage: list[Damage], decode: Callable[[bytes], Read]
) -> Iterator[tuple[list[Read], list[int]]]:
    """What `decode` reads in the frames of a segment, in the order they were written, and where each ends; 512 at a time.

    What cannot be read goes to `damage`. A frame cut short at the end is no damage: its process was killed while it
    wrote it, before it answered.
    """
    size, position, header = len(content), 0, _HEADER.size
    read_header, crc32 = _HEADER.unpack_from, zlib.crc32
    payloads: list[bytes] = []
    ends: list[int] = []
    while position + header <= size:
        length, checksum = read_header(content, position)
        following = position + header + length
        # a copy: a view takes longer to make and to decode, and the collector counts it
        payload = content[position + header : following]
        if crc32(payload) == checksum and length and following <= size:
            payloads.append(payload)
            ends.append(following)
            position = following
            if len(ends) == AT_ONCE:
                yield _decoded(payloads, ends, damage, decode)
                payloads, ends = [], []
            continue
        found = _next_frame(content, memoryview(content), position + 1)
        is_torn = found is None and following > size
        if not is_torn:
            damage.append(Damage(position, (size if found is None else found) - position))
        if found is None:
            break
        position = found
    if ends:
        yield _decoded(payloads, ends, damage, decode)


def _decoded(
    payloads: list[bytes],
    ends: list[int],
    damage: list[Damage],
    decode: Callable[[bytes], Read],
) -> tuple[list[Read], list[int]]:
    try:
        return list(map(decode, payloads)), ends
    except msgspec.MsgspecError:  # what was written was no record
        read = []
        for payload, end in zip(payloads, ends, strict=True):
            try:
                read.append((decode(payload), end))
            except msgspec.MsgspecError:
                size_bytes = _HEADER.size + len(payload)
                damage.append(Damage(end - size_bytes, size_bytes))
        return [one for one, _ in read], [end for _, end in read]


def begins_frame(content: bytes) -> bool:
    """Whether it begins with a whole frame."""
    return _record_at(memoryview(content), 0)[0] is not None


@cache
def decoder_of(maps: frozenset[str]) -> Callable[[bytes], PredictionRecord]:
    """Reads records without their maps, which take two thirds of the time, but for some of `MAPS`: those stay as they are written."""
    fields = [
        (one.name, msgspec.Raw if one.name in maps else _Nothing if one.name in MAPS else one.type)
        for one in msgspec.structs.fields(PredictionRecord)
        if one.required
    ]
    rest = [
        (one.name, one.type, one.default)
        for one in msgspec.structs.fields(PredictionRecord)
        if not one.required
    ]
    made: Any = msgspec.defstruct("Narrow", [*fields, *rest], array_like=True, frozen=True, gc=False)
    return msgspec.msgpack.Decoder(made).decode


def whole_frames(content: bytes, wanted: Callable[[Head], bool]) -> tuple[list[PredictionRecord], int]:
    """The wanted records of the frames that stand whole at the beginning of what a process is writing, and their size in bytes."""
    view, position, found = memoryview(content), 0, []
    while position + _HEADER.size <= len(content):
        if after := _passed_over(view, position, wanted):
            position = after
            continue
        record, following = _record_at(view, position)
        if record is None:
            break
        found.append(record)
        position = following
    return found, position


def frames_backwards(path: Path) -> Iterator[PredictionRecord]:
    """The records of a segment from its end back; what cannot be read is passed over. Raises FileNotFoundError.

    A frame is known by the id that its payload begins with, so that the end is read alone, `_BLOCK_BYTES` at a time. Of a
    segment that is being written, what is appended meanwhile is not seen.
    """
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        rest = b""  # the beginning of the block before, in which a frame may end that begins further back
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            block = file.read(end - start) + rest
            view = memoryview(block)
            first, place = len(block), block.rfind(_ID_MARK)
            while place >= 0:
                for header in _ARRAY_HEADERS:
                    record, _ = _record_at(view, place - header - _HEADER.size)
                    if record is not None:
                        first = place - header - _HEADER.size
                        yield record
                place = block.rfind(_ID_MARK, 0, place)
            rest, end = block[:first], start


def find_in(content: bytes, prediction_id: str) -> PredictionRecord | None:
    """The record of one prediction in a segment, without decoding the others."""
    mark = b"\xd9\x25" + prediction_id.encode()
    view = memoryview(content)
    place = content.find(mark)
    while place >= 0:
        for header in _ARRAY_HEADERS:
            record, _ = _record_at(view, place - header - _HEADER.size)
            if (
                record is not None and record.id == prediction_id
            ):  # the mark may also be a shadow's `shadow_of`
                return record
        place = content.find(mark, place + 1)
    return None


def _frame(record: PredictionRecord) -> bytes:
    try:
        payload = _encode(record)
    except OverflowError:
        # a refused row may hold whole numbers beyond 64 bits, for which msgpack has no form: JSON has
        texts = {name: msgspec.json.encode(value).decode() for name, value in record.inputs.items()}
        payload = _encode(msgspec.structs.replace(record, inputs=texts))
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def _passed_over(view: memoryview, position: int, wanted: Callable[[Head], bool]) -> int:
    """Where the frame at `position` ends if it holds a record that is not wanted; 0 if it is to be read, or damaged."""
    length, checksum = _HEADER.unpack_from(view, position)
    start, end = position + _HEADER.size, position + _HEADER.size + length
    payload = view[start:end]
    if length == 0 or end > len(view) or zlib.crc32(payload) != checksum:
        return 0
    try:
        return 0 if wanted(head_of(payload)) else end
    except msgspec.MsgspecError:
        return 0


def _record_at(view: memoryview, position: int) -> tuple[PredictionRecord | None, int]:
    """The record framed at `position`, None if there is no whole one; and where its frame says it ends."""
    if position < 0:
        return None, 0
    length, checksum = _HEADER.unpack_from(view, position)
    start, end = position + _HEADER.size, position + _HEADER.size + length
    payload = view[start:end]
    if length == 0 or end > len(view) or zlib.crc32(payload) != checksum:
        return None, end
    try:
        return _decoder.decode(payload), end
    except msgspec.MsgspecError:
        return None, end


def _next_frame(content: bytes, view: memoryview, start: int) -> int | None:
    """Where the next whole frame begins at or after `start`: found by the id that each payload begins with."""
    place = content.find(_ID_MARK, start)
    while place >= 0:
        for header in _ARRAY_HEADERS:
            position = place - header - _HEADER.size
            if position >= start and _record_at(view, position)[0] is not None:
                return position
        place = content.find(_ID_MARK, place + 1)
    return None


def _cannot_write(place: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"the prediction log in {place} cannot be written: {error.strerror or error}. Free space there or make it writable."
    )
