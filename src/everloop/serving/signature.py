"""Whether a request's inputs are what the model takes, and their values as the model wants them."""

from __future__ import annotations

import base64
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import blake3
import msgspec
import numpy as np
from numpy.typing import NDArray

from everloop.compiled import Column
from everloop.features import ColumnType
from everloop.serving.records import Field, FieldType, Signature

_INT64 = range(-(1 << 63), 1 << 63)
_BINARY: tuple[FieldType, ...] = ("image", "binary")
# JPEG, PNG, GIF, BMP, TIFF, and RIFF for WebP
IMAGE_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")
MOST_PIXELS = 50_000_000
"""Of an image, unless its field says otherwise: as uncompressed colours 150 MB."""
_MISSING = object()

_WHAT: dict[FieldType, str] = {
    "string": "a text",
    "integer": "a whole number (of 64 bits)",
    "number": "a number",
    "boolean": "true or false",
    "time": "a time such as 2026-09-01T12:00:00Z, with its zone",
    "image": "the bytes of a JPEG, PNG, GIF, BMP, TIFF or WebP file in base64",
    "binary": "bytes in base64",
}


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with one field, in words for whoever sent the request."""

    field: str
    problem: str


class _WrongTypeError(ValueError):
    """A value is not of its field's type."""


class Reader:
    """A signature made ready to read rows quickly.

    Reading a row of two texts takes about 1 us; `check` is the same in one call, for tests and tools.
    """

    def __init__(self, signature: Signature) -> None:
        self._fields = [
            (field.name, _CONVERTERS[field.type], _needs_more(field), field) for field in signature.inputs
        ]
        self._names = dict.fromkeys(field.name for field in signature.inputs)
        self._binary = [field.name for field in signature.inputs if field.type in _BINARY]
        self.column_types: dict[str, ColumnType] = {
            field.name: field.type
            for field in signature.inputs
            if field.type != "image" and field.type != "binary"
        }

    def read(self, row: Mapping[str, Any]) -> tuple[list[Any], list[FieldProblem]]:
        """The values in the order of the signature, as the model takes them, and what is wrong with the row.

        Text is str, whole numbers int, numbers float, times aware datetimes, images and binaries bytes,
        null None. A nullable field may be left out. The values mean nothing when there is a problem.
        """
        values: list[Any] = []
        problems: list[FieldProblem] = []
        given = 0
        for name, convert, needs_more, field in self._fields:
            value = row.get(name, _MISSING)
            if value is not _MISSING:
                given += 1
            if value is None or value is _MISSING:
                if not field.nullable:
                    problems.append(_absent(field, is_missing=value is _MISSING))
                values.append(None)
                continue
            try:
                value = convert(value)
            except ValueError:
                problems.append(FieldProblem(name, f"is {_shown(value)}; it must be {_WHAT[field.type]}"))
                continue
            if needs_more and (problem := _rule_broken(field, value)) is not None:
                problems.append(FieldProblem(name, problem))
            values.append(value)
        if given < len(row):
            known = ", ".join(self._names)
            problems += [
                FieldProblem(name, f"is not an input of this model; its inputs are {known}")
                for name in row
                if name not in self._names
            ]
        return values, problems

    def logged(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row as the log keeps it: images and binaries by the digest of their bytes."""
        kept = dict(row)
        for name in self._binary:
            if isinstance(text := kept.get(name), str):
                kept[name] = f"blake3:{_digest(text)}"
        return kept


def check(signature: Signature, row: Mapping[str, Any]) -> list[FieldProblem]:
    """All that is wrong with a row: missing and extra fields, wrong types, values outside the stated limits."""
    return Reader(signature).read(row)[1]


def refusals(signature: Signature, rows: NDArray[np.object_]) -> list[str | None]:
    """Why an endpoint would refuse each row whose values are of the fields' types already; None: it would not.

    Parameters
    ----------
    rows
        (n_rows, n_inputs) object: the signature's inputs in order.
    """
    found: list[str | None] = [None] * len(rows)
    for position, field in enumerate(signature.inputs):
        if field.nullable and not _needs_more(field):
            continue
        for row, value in enumerate(rows[:, position]):
            if value is not None:
                problem = _rule_broken(field, value)
            else:
                problem = None if field.nullable else _absent(field, is_missing=False).problem
            if problem is not None and found[row] is None:
                found[row] = f"{field.name} {problem}"
    return found


def takes_all(signature: Signature, columns: Sequence[Column]) -> bool:
    """Whether an endpoint would refuse none of these rows, as far as columns tell it; if it is not so, ask `refusals`.

    Parameters
    ----------
    columns
        One for each input of the signature, in its order, of the fields' types; more may follow.
    """
    return all(
        (field.nullable or not column.null_count)
        and (
            not _needs_more(field)
            or not any(
                value is not None and _rule_broken(field, value) for value in column.unique().to_pylist()
            )
        )
        for field, column in zip(signature.inputs, columns, strict=False)
    )


def example_row(signature: Signature) -> list[Any]:
    """A row that fits the signature, made up: what a new predictor is warmed with."""
    return [field.allowed[0] if field.allowed else example_of(field) for field in signature.inputs]


def _string(value: Any) -> str:
    if type(value) is str:
        return value
    raise _WrongTypeError


def _integer(value: Any) -> int:
    if type(value) is int and value in _INT64:
        return value
    raise _WrongTypeError


def _number(value: Any) -> float:
    if type(value) is float:
        if math.isfinite(value):
            return value
    elif type(value) is int and value in _INT64:
        return float(value)
    raise _WrongTypeError


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    raise _WrongTypeError


def _time(value: Any) -> datetime:
    at = datetime.fromisoformat(_string(value))
    if at.tzinfo is None:
        raise _WrongTypeError
    return at.astimezone(UTC)


def _bytes(value: Any) -> bytes:
    content = base64.b64decode(_string(value), validate=True)
    if not content:
        raise _WrongTypeError
    return content


def _image(value: Any) -> bytes:
    """Refuses what is plainly no image, so that it is not held against the model; pixels are the model's to decode."""
    content = _bytes(value)
    if not content.startswith(IMAGE_STARTS):
        raise _WrongTypeError
    return content


_CONVERTERS: dict[FieldType, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "time": _time,
    "image": _image,
    "binary": _bytes,
}


def _needs_more(field: Field) -> bool:
    is_limited = field.minimum is not None or field.maximum is not None or field.longest is not msgspec.UNSET
    return is_limited or field.type == "image" or (field.allowed is not None and field.unseen != "pass")


def _rule_broken(field: Field, value: Any) -> str | None:
    if field.allowed is not None and field.unseen != "pass" and value not in field.allowed:
        return f"is {_shown(value)}; allowed are {', '.join(map(repr, field.allowed[:20]))}"
    if field.longest is not msgspec.UNSET and len(value) > field.longest:
        what = "characters" if field.type == "string" else "bytes"
        return f"has {len(value):,} {what}; the most allowed are {field.longest:,}"
    if field.type == "image":
        return _too_large(field, value)
    if field.minimum is not None and value < field.minimum:
        return f"is {_shown(value)}; the least allowed is {field.minimum:g}"
    if field.maximum is not None and value > field.maximum:
        return f"is {_shown(value)}; the most allowed is {field.maximum:g}"
    return None


def _too_large(field: Field, content: bytes) -> str | None:
    """Looks at an image's header alone: a file of some kilobytes may say that it unpacks to gigabytes.

    One whose header cannot be read is the model's to refuse, as it cannot be unpacked either.
    """
    from PIL import Image  # noqa: PLC0415  (only who is asked about images needs it)

    most = MOST_PIXELS if field.most_pixels is msgspec.UNSET else field.most_pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        return f"unpacks to over {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; the most allowed are {most:,}"
    except Exception:  # noqa: BLE001  (what decoders raise about a broken header is theirs)
        return None
    if width * height > most:
        return f"has {width:,} x {height:,} pixels; the most allowed are {most:,}"
    return None


def _absent(field: Field, *, is_missing: bool) -> FieldProblem:
    what = "is missing" if is_missing else "is null"
    return FieldProblem(field.name, f"{what}; it must be {_WHAT[field.type]}")


def _shown(value: Any) -> str:
    """The value in an answer to the one who sent it, short."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _digest(text: str) -> str:
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError:
        content = text.encode()  # refused anyway; its own digest is still better than megabytes in the log
    return blake3.blake3(content).hexdigest()


def example_of(field: Field) -> Any:
    """A value that fits a field, made up."""
    if field.nullable and field.type in _BINARY:
        return None
    least = 0.0 if field.minimum is None else field.minimum
    value = least if field.maximum is None else min(least, field.maximum)
    examples: dict[FieldType, Any] = {
        "string": "a text",
        "integer": math.ceil(value),
        "number": value,
        "boolean": False,
        "time": datetime(2026, 1, 1, tzinfo=UTC),
        "image": _GREY_PIXEL,
        "binary": b"\0",
    }
    return examples[field.type]


def in_json(value: Any) -> Any:
    """A value as the model takes it, as a request carries it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


# a PNG of one grey pixel
_GREY_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
