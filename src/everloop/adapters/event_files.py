"""Event files of TensorBoard: the values in their events, and what they say of a run besides its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from everloop.adapters.carrying import SourceFile
from everloop.adapters.record_files import (
    Damaged,
    Problem,
    Value,
    as_bytes,
    as_float,
    as_int,
    as_text,
    fields,
    tensorflow_record_at,
    tensorflow_records,
    varint,
)
from everloop.clock import from_micros
from everloop.tracking import MetricPoint, RunStatus

_LAST_SECOND = 253_402_300_799  # of the year 9999

# Numbers of fields: of an Event, of a Summary's Value, of the parameters' plugin; and of types of a tensor.
_WALL_TIME, _STEP, _SUMMARY = 1, 2, 5
_TAG, _SIMPLE, _IMAGE, _HISTOGRAM, _AUDIO, _TENSOR, _METADATA = 1, 2, 4, 5, 6, 8, 9
_OTHER_EVENTS = {4: "graph", 8: "profile of a step", 9: "graph"}
_OTHER_VALUES = {3: "histogram", _HISTOGRAM: "histogram", _AUDIO: "audio"}
_SESSION_START, _SESSION_END = 3, 4
_SESSION_STATUS: dict[int, RunStatus] = {2: "failed", 3: "running"}
_TENSOR_TYPE, _TENSOR_BYTES = 1, 4
_HALVES, _UNSIGNED = 13, 17
# of each type of tensor that may be a scalar: how its bytes are read, and the field of its values when they are not bytes
_NUMBER_TENSORS = {
    1: ("<f4", 5),
    2: ("<f8", 6),
    3: ("<i4", 7),
    9: ("<i8", 10),
    10: ("|b1", 11),
    19: ("<f2", 13),
    22: ("<u4", 16),
    23: ("<u8", 17),
}
_PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"GIF8": "gif", b"RIFF": "webp"}


@dataclass(frozen=True)
class _Seen:
    """One value of an event: its tag, its plugin and what that says, its step, which field it is in, and what it is."""

    tag: str
    plugin: str
    content: bytes
    step: int
    kind: int
    value: Value


@dataclass(frozen=True)
class _Event:
    at_s: float
    values: Sequence[_Seen]
    others: Sequence[str]  # what the event is about when it is not a value


@dataclass(frozen=True)
class _Place:
    """Where an event stands, and its time."""

    file: Path
    offset: int
    at_s: float


@dataclass
class FolderTold:
    """What the event files of a folder say, but for their scalars."""

    began_s: float | None = None
    ended_s: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)
    status: RunStatus = "finished"
    texts: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[SourceFile] = field(default_factory=list)
    left_out: dict[tuple[str, str], None] = field(default_factory=dict)


def read_folder(files: Sequence[Path], problem: Callable[[Path, str], None]) -> FolderTold:
    """What event files say of their run besides its numbers."""
    told = FolderTold()
    for file in files:
        for offset, event in _events(file, partial(problem, file)):
            told.began_s = event.at_s if told.began_s is None else min(told.began_s, event.at_s)
            told.ended_s = max(told.ended_s, event.at_s)
            told.left_out |= {(what, ""): None for what in event.others}
            try:
                for seen in event.values:
                    if _number(seen) is None:
                        _learn(told, seen, _Place(file, offset, event.at_s))
            except Damaged as error:
                problem(file, f"a value holds {error}")
    return told


def numbers(files: Sequence[Path]) -> Iterator[MetricPoint]:
    """The numbers in event files; what is damaged is left out, as `read_folder` tells."""
    for file in files:
        for _, event in _events(file, lambda _: None):
            for seen in event.values:
                with suppress(Damaged):
                    if (value := _number(seen)) is not None:
                        yield MetricPoint(seen.tag, value, seen.step, from_micros(round(event.at_s * 1e6)))


def _events(file: Path, problem: Problem) -> Iterator[tuple[int, _Event]]:
    """The events of a file, each with where its record begins. What a tag is about is said with its first value alone."""
    plugins: dict[str, tuple[str, bytes]] = {}
    for offset, record in tensorflow_records(file, problem):
        try:
            event = _event(record, plugins)
        except Damaged as error:
            problem(f"an event holds {error}")
        else:
            yield offset, event


def _event(record: bytes, plugins: dict[str, tuple[str, bytes]]) -> _Event:
    found = dict(fields(record))
    at_s, step = as_float(found.get(_WALL_TIME, b"")), as_int(found.get(_STEP, 0))
    if not 0 <= at_s <= _LAST_SECOND:
        raise Damaged("a time that cannot be")
    values = [
        _seen(as_bytes(value), step, plugins)
        for number, value in fields(as_bytes(found.get(_SUMMARY, b"")))
        if number == 1
    ]
    return _Event(at_s, values, [_OTHER_EVENTS[number] for number in found if number in _OTHER_EVENTS])


def _seen(content: bytes, step: int, plugins: dict[str, tuple[str, bytes]]) -> _Seen:
    tag, kind, metadata = "", 0, b""
    what: Value = b""
    for number, value in fields(content):
        if number == _TAG:
            tag = as_text(value)
        elif number == _METADATA:
            metadata = as_bytes(value)
        elif number in (_SIMPLE, _IMAGE, _TENSOR) or number in _OTHER_VALUES:
            kind, what = number, value
    if metadata and tag not in plugins:
        plugin = dict(fields(as_bytes(dict(fields(metadata)).get(1, b""))))
        plugins[tag] = as_text(plugin.get(1, b"")), as_bytes(plugin.get(2, b""))
    return _Seen(tag, *plugins.get(tag, ("", b"")), step, kind, what)


def _number(seen: _Seen) -> float | None:
    """The value as a number, if it is one: alone, or as a tensor with one element."""
    if seen.kind == _SIMPLE:
        return as_float(seen.value)
    if seen.kind != _TENSOR or seen.plugin not in ("", "scalars"):
        return None
    return _only_number(as_bytes(seen.value))


def _only_number(tensor: bytes) -> float | None:
    """The number of a tensor that has one; None for one of several, or of texts."""
    told = list(fields(tensor))
    found = dict(told)
    form, own = _NUMBER_TENSORS.get(as_int(found.get(_TENSOR_TYPE, 0)), ("", 0))
    data, value = as_bytes(found.get(_TENSOR_BYTES, b"")), found.get(own)
    if not form:
        return None
    if data:
        return float(np.frombuffer(data, form)[0]) if len(data) == np.dtype(form).itemsize else None
    if value is None or sum(number == own for number, _ in told) > 1:
        return None
    if form in ("<f4", "<f8"):
        return as_float(value) if len(as_bytes(value)) == np.dtype(form).itemsize else None
    whole, end = varint(value, 0) if isinstance(value, bytes) else (value, 0)
    if isinstance(value, bytes) and end < len(value):
        return None
    if own == _HALVES:
        return float(np.uint16(whole & 0xFFFF).view(np.float16))
    return float(whole if own == _UNSIGNED else as_int(whole))


def _learn(told: FolderTold, seen: _Seen, place: _Place) -> None:
    if seen.plugin == "hparams":
        _learn_parameters(told, seen.content)
    elif seen.plugin == "text":
        texts = [value.decode("utf-8", "replace") for value in _strings(seen)]
        told.texts.append({"tag": seen.tag, "step": seen.step, "at": place.at_s, "text": texts})
    elif seen.kind == _IMAGE or seen.plugin == "images":
        told.pictures += _pictures(seen, place)
    elif seen.kind:
        what = seen.plugin.removesuffix("s") or _OTHER_VALUES.get(seen.kind, "tensor")
        told.left_out[what, seen.tag] = None


def _learn_parameters(told: FolderTold, content: bytes) -> None:
    for number, value in fields(content):
        if number == _SESSION_START:
            for inner, pair in fields(as_bytes(value)):
                if inner == 1:
                    entry = dict(fields(as_bytes(pair)))
                    told.params[as_text(entry.get(1, b""))] = _parameter(as_bytes(entry.get(2, b"")))
        elif number == _SESSION_END:
            told.status = _SESSION_STATUS.get(as_int(dict(fields(as_bytes(value))).get(1, 0)), "finished")


def _parameter(content: bytes) -> Any:
    """A value of google.protobuf.Value: a number that is whole is shown as one."""
    for number, value in fields(content):
        if number == 2:
            told = as_float(value)
            return int(told) if told.is_integer() and abs(told) < 1 << 53 else told
        if number == 3:
            return as_text(value)
        if number == 4:
            return bool(value)
        if number == 6:
            return [_parameter(as_bytes(one)) for _, one in fields(as_bytes(value))]
    return None


def _strings(seen: _Seen) -> list[bytes]:
    """The texts of a tensor."""
    return (
        [as_bytes(value) for number, value in fields(as_bytes(seen.value)) if number == 8]
        if seen.kind == _TENSOR
        else []
    )


def _pictures(seen: _Seen, place: _Place) -> Iterator[SourceFile]:
    for number, content in enumerate(_contents(seen)):
        ending = next((kind for begin, kind in _PICTURES.items() if content.startswith(begin)), "bin")
        tag = "/".join(part for part in seen.tag.split("/") if part not in ("", ".", ".."))
        index = f"-{number}" if number else ""
        path = f"images/{tag or 'image'}/{seen.step}{index}.{ending}"
        yield SourceFile(path, len(content), partial(_fetch_picture, place, seen.tag, number))


def _contents(seen: _Seen) -> list[bytes]:
    """The pictures of a value; in a tensor, width and height stand before them as texts."""
    if seen.kind == _IMAGE:
        return [as_bytes(dict(fields(as_bytes(seen.value))).get(4, b""))]
    return _strings(seen)[2:]


def _fetch_picture(place: _Place, tag: str, number: int, copy: Path) -> Path:
    """Read a picture again from its record: they are not all held in memory."""
    for seen in _event(tensorflow_record_at(place.file, place.offset), {}).values:
        if seen.tag == tag:
            copy.write_bytes(_contents(seen)[number])
    return copy
