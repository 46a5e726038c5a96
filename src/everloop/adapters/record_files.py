"""Files of framed records, and the protocol buffers in them, read without the packages that wrote them.

Two framings: LevelDB's log format as wandb writes it, and TensorFlow's record files. Of a protocol buffer only the wire
format is read here, some fifty lines: the `protobuf` package would need the messages' descriptions, which are generated
code of the packages that we read without, and those change with every release while field numbers do not.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_BLOCK = 32 * 1024
_WANDB_HEADER = struct.Struct("<4sHB")  # ":W&B", a magic number, the version of the format
_CHUNK_HEADER = struct.Struct("<IHB")  # checksum, length, type
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_RECORD_HEADER = struct.Struct("<QI")  # length, its checksum
_CHECKSUM = struct.Struct("<I")
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")
LONGEST_RECORD = 1 << 30  # a length beyond it is damage, not a record

Value = int | bytes
Problem = Callable[[str], None]


class Damaged(Exception):  # noqa: N818  (said of a record, as the other errors are named for what they find)
    """A record that is not what it should be; the message says where."""


def wandb_records(file: Path, problem: Problem) -> Iterator[bytes]:
    """The records of a `.wandb` file, in order; what is cut off or damaged is told and skipped.

    After damage the next block of 32 KB is where records begin again. Raises Damaged when it is no such file.
    """
    with file.open("rb") as stream:
        header = stream.read(_WANDB_HEADER.size)
        if len(header) < _WANDB_HEADER.size or _WANDB_HEADER.unpack(header) != (b":W&B", 0xBEE1, 0):
            raise Damaged("it does not begin as a record file of wandb does")
        yield from _joined(_chunks(stream, problem), problem)


def _chunks(stream: BinaryIO, problem: Problem) -> Iterator[tuple[int, bytes]]:
    """Types and contents of the chunks; a type of 0 stands for what was lost."""
    offset = stream.tell()
    while block := stream.read(_BLOCK - offset % _BLOCK):
        place = 0
        while place + _CHUNK_HEADER.size <= len(block):
            checksum, length, kind = _CHUNK_HEADER.unpack_from(block, place)
            begin, place = place, place + _CHUNK_HEADER.size + length
            if kind == 0 and length == 0 and checksum == 0:
                break  # the rest of the block was never written
            if place > len(block):
                problem(
                    "it ends in the middle of a record"
                    if len(block) + offset % _BLOCK < _BLOCK
                    else f"damaged at byte {offset + begin}"
                )
                yield 0, b""
                break
            if zlib.crc32(block[begin + 6 : place]) != checksum:
                problem(f"damaged at byte {offset + begin}")
                yield 0, b""
                break
            yield kind, block[begin + _CHUNK_HEADER.size : place]
        offset += len(block)


def _joined(chunks: Iterator[tuple[int, bytes]], problem: Problem) -> Iterator[bytes]:
    parts: list[bytes] | None = None
    for kind, content in chunks:
        if kind == _WHOLE:
            parts = None
            yield content
        elif kind == _FIRST:
            parts = [content]
        elif kind in (_MIDDLE, _LAST) and parts is not None:
            parts.append(content)
            if kind == _LAST:
                yield b"".join(parts)
                parts = None
        else:
            parts = None
    if parts is not None:
        problem("it ends in the middle of a record")


def tensorflow_records(file: Path, problem: Problem) -> Iterator[tuple[int, bytes]]:
    """The records of a TensorFlow record file with where each begins; what is cut off or damaged is told.

    A record with a wrong checksum is skipped. After a damaged length nothing more can be found.
    """
    with file.open("rb") as stream:
        while header := stream.read(_RECORD_HEADER.size):
            offset = stream.tell() - len(header)
            if len(header) < _RECORD_HEADER.size:
                problem("it ends in the middle of a record")
                return
            length, checksum = _RECORD_HEADER.unpack(header)
            if masked_crc32c(header[:8]) != checksum or length > LONGEST_RECORD:
                problem(f"damaged at byte {offset}; what comes after it cannot be found")
                return
            content, end = stream.read(length), stream.read(_CHECKSUM.size)
            if len(end) < _CHECKSUM.size:
                problem("it ends in the middle of a record")
                return
            if masked_crc32c(content) != _CHECKSUM.unpack(end)[0]:
                problem(f"damaged at byte {offset}")
                continue
            yield offset, content


def tensorflow_record_at(file: Path, offset: int) -> bytes:
    """The content of a record that was found there before."""
    with file.open("rb") as stream:
        stream.seek(offset)
        length, _ = _RECORD_HEADER.unpack(stream.read(_RECORD_HEADER.size))
        return stream.read(length)


def masked_crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, appendix B.4), rotated and shifted as record files have it.

    >>> hex(masked_crc32c(b"123456789"))
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _crc32c_table()


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a protocol buffer, in order; unknown ones included.

    A whole number comes as the 64 bits that are there, everything else as bytes. Raises Damaged.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            value, place = varint(message, place)
            yield key >> 3, value
            continue
        if kind == 2:
            length, place = varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise Damaged(f"a field of unknown kind {kind}")
        if place + length > end:
            raise Damaged("a field that is longer than its message")
        yield key >> 3, message[place : place + length]
        place += length


def as_int(value: Value) -> int:
    """A field of type int64 or int32. Raises Damaged when it is no whole number."""
    if not isinstance(value, int):
        raise Damaged("bytes where a whole number should be")
    return value - (1 << 64) if value >> 63 else value


def as_bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise Damaged("a whole number where bytes should be")
    return value


def as_text(value: Value) -> str:
    return as_bytes(value).decode("utf-8", "replace")


def as_float(value: Value) -> float:
    """A field of type double or float."""
    data = as_bytes(value)
    if len(data) not in (4, 8):
        raise Damaged("a number of unknown width")
    number: float = (_DOUBLE if len(data) == 8 else _FLOAT).unpack(data)[0]
    return number


def varint(message: bytes, place: int) -> tuple[int, int]:
    """The whole number that begins at `place`, and where it ends. Raises Damaged."""
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
        shift += 7
    raise Damaged("a whole number without an end")
