"""Tensors of the Open Inference Protocol, in JSON and in its binary form: exactly what their shapes say, or refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from everloop.serving.form import invalid

# bfloat16, which numpy does not have, is the upper half of a float of 32 bits
_NUMPY: dict[str, str] = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DATATYPES = (*_NUMPY, "BYTES")
MOST_DIMENSIONS = 8
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Values in row-major order; bytes where they came as bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: list[Any]

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def width(self) -> int:
        """Values of each row."""
        return math.prod(self.shape[1:])

    def row(self, number: int) -> list[Any]:
        return self.values[number * self.width : (number + 1) * self.width]


def check_shape(name: str, datatype: str, shape: Sequence[int]) -> int:
    """How many values the tensor has. Raises Refusal for a shape or datatype that there is not."""
    if datatype not in DATATYPES:
        raise invalid(f"input {name!r} has datatype {datatype!r}; it must be one of {', '.join(DATATYPES)}.")
    if not 0 < len(shape) <= MOST_DIMENSIONS or min(shape) < 0:
        raise invalid(
            f"input {name!r} has shape {_shown(shape)}; it must have 1 to {MOST_DIMENSIONS} dimensions, the first of which is the "
            "rows, and none below 0."
        )
    return math.prod(shape)


def from_json(name: str, datatype: str, shape: Sequence[int], data: list[Any]) -> Tensor:
    """A tensor whose values are listed, flat or nested as its shape. Raises Refusal when they are not as it says."""
    count = check_shape(name, datatype, shape)
    values = _flat(data, shape) if data and isinstance(data[0], list) else data
    if values is None or len(values) != count:
        found = "nested otherwise" if values is None else f"{len(values):,} values"
        raise invalid(
            f"input {name!r} has shape {list(shape)}, which is {count:,} values; its data is {found}."
        )
    wanted = _json_types(datatype)
    for value in values:
        if type(value) not in wanted:
            raise invalid(f"input {name!r} has datatype {datatype}; {_shown(value)} in its data is none.")
    if datatype == "BOOL" or not datatype.startswith(("INT", "UINT")):
        return Tensor(name, datatype, tuple(shape), values)
    limits = np.iinfo(_NUMPY[datatype])
    if any(value is not None and not limits.min <= value <= limits.max for value in values):
        raise invalid(
            f"input {name!r} has datatype {datatype}, from {limits.min} to {limits.max}; its data goes beyond."
        )
    return Tensor(name, datatype, tuple(shape), values)


def from_bytes(name: str, datatype: str, shape: Sequence[int], content: memoryview) -> Tensor:
    """A tensor in binary form. Raises Refusal when there are more or fewer bytes than it takes."""
    count = check_shape(name, datatype, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, tuple(shape), _texts(name, count, content))
    kind = np.dtype(_NUMPY[datatype])
    if len(content) != count * kind.itemsize:
        raise invalid(
            f"input {name!r} of {count:,} {datatype} takes {count * kind.itemsize:,} bytes; "
            f"binary_data_size is {len(content):,}."
        )
    array = np.frombuffer(content, dtype=kind)
    if datatype == "BF16":
        array = (array.astype("<u4") << 16).view("<f4")
    elif datatype == "BOOL":
        array = array.view("|u1") != 0  # a byte that is neither 0 nor 1 is no bool of numpy's
    return Tensor(name, datatype, tuple(shape), array.tolist())


def to_bytes(tensor: Tensor) -> bytes:
    """The binary form of a tensor of BYTES, INT64 or FP64."""
    if tensor.datatype == "BYTES":
        encoded = [value.encode() for value in tensor.values]
        return b"".join(part for text in encoded for part in (_LENGTH.pack(len(text)), text))
    return np.asarray(tensor.values, dtype=_NUMPY[tensor.datatype]).tobytes()


def _texts(name: str, count: int, content: memoryview) -> list[bytes]:
    found: list[bytes] = []
    place = 0
    while place < len(content) and len(found) < count:
        if place + _LENGTH.size > len(content):
            break
        (length,) = _LENGTH.unpack_from(content, place)
        end = place + _LENGTH.size + length
        if end > len(content):
            break
        found.append(bytes(content[place + _LENGTH.size : end]))
        place = end
    if len(found) != count or place != len(content):
        raise invalid(
            f"input {name!r} is {count:,} BYTES in {len(content):,} bytes; of these, {place:,} bytes hold {len(found):,} "
            "whole ones. Each has its length before it, in 4 bytes, little-endian."
        )
    return found


def _flat(data: list[Any], shape: Sequence[int]) -> list[Any] | None:
    """The values of nested lists; None when they are not nested as the shape says."""
    level: list[Any] = [data]
    for size in shape:
        inner: list[Any] = []
        for one in level:
            if not isinstance(one, list) or len(one) != size:
                return None
            inner += one
        level = inner
    return level


def _json_types(datatype: str) -> tuple[type | None, ...]:
    """Types of values in JSON; null is a gap, which the protocol has no word for."""
    gap = type(None)
    if datatype == "BYTES":
        return (str, gap)
    if datatype == "BOOL":
        return (bool, gap)
    return (int, gap) if datatype.startswith(("INT", "UINT")) else (float, int, gap)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
