"""Moving in from TensorBoard: event files, each folder that holds some as a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from everloop.adapters.carrying import (
    Carried,
    Carrier,
    Progress,
    SourceFile,
    SourceRun,
    flattened,
    id_from,
    plain_name,
    state_of,
    told_as_file,
)
from everloop.adapters.record_files import (
    Damaged,
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
from everloop.errors import NotFound
from everloop.tracking import MetricPoint, Run, RunStatus
from everloop.workspace import Workspace

TEXTS = "text.json"  # file of a run with the texts of the text plugin
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
    """One value of an event: its tag, its plugin, where it stands, and what it is."""

    tag: str
    plugin: str
    content: bytes  # of the plugin
    step: int
    at_s: float
    kind: int
    value: Any


@dataclass
class _Told:
    """What the event files of a folder say, but for their scalars."""

    began_s: float | None = None
    ended_s: float = 0.0
    params: dict[str, Any] = field(default_factory=dict)
    status: RunStatus = "finished"
    texts: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[SourceFile] = field(default_factory=list)
    left_out: dict[tuple[str, str], None] = field(default_factory=dict)


def import_tensorboard(
    ws: Workspace, folder: Path, *, is_dry_run: bool = False, progress: Progress = lambda _: None
) -> Carried:
    """Carry over the event files below a folder, or what is new in them since the last time.

    Each folder with event files is a run, named by its path, and part of the run of the nearest folder above it that
    has some; several files in one folder are one run. Raises NotFound when there are none.
    """
    found: dict[Path, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*tfevents*")):
        if file.is_file() and not file.is_symlink():
            found[file.parent].append(file)
    if not found:
        raise NotFound(
            f"there is no event file of TensorBoard in {folder} or below: none with 'tfevents' in its name. Name the log folder."
        )
    carrier = Carrier(ws, is_dry_run=is_dry_run, progress=progress)
    carrier.carry(
        _source_runs(folder.resolve(), {place.resolve(): files for place, files in found.items()}, carrier)
    )
    return carrier.finish(str(folder.resolve()))


def _source_runs(root: Path, found: dict[Path, list[Path]], carrier: Carrier) -> Iterator[SourceRun]:
    known: dict[Path, str] = {}
    for place in sorted(found):
        told = _read(place, found[place], carrier)
        if told.began_s is None:
            carrier.leave_out("run", "none of its event files holds an event", str(place))
            continue
        name = place.relative_to(root).as_posix() if place != root else root.name
        key = f"tensorboard:{name}@{told.began_s:.6f}"
        parent = next((known[above] for above in place.parents if above in known), None)
        known[place] = id_from(int(told.began_s * 1000), key)
        run = Run(
            id=known[place],
            experiment=plain_name(root.name) or "tensorboard",
            name=name[-250:],
            kind="run",
            status=told.status,
            parent=parent,
            actor=carrier.ws.actor,
            started_at=from_micros(round(told.began_s * 1e6)),
            ended_at=None if told.status == "running" else from_micros(round(told.ended_s * 1e6)),
            error=None,
            code=None,
            environment=None,
            params=flattened(told.params),
            tags={},
        )
        texts = [told_as_file(TEXTS, told.texts)] if told.texts else []
        yield SourceRun(
            key=key,
            run=run,
            state=state_of([(one.name, one.stat().st_size) for one in found[place]]),
            points=partial(_points, found[place]),
            files=partial(iter, [*texts, *told.pictures]),
        )


def _read(place: Path, files: Sequence[Path], carrier: Carrier) -> _Told:
    told = _Told()
    for file in files:

        def note(problem: str, file: Path = file) -> None:
            carrier.leave_out("part of an event file", problem, str(file))

        for offset, at_s, seen in _values(file, note, told):
            told.began_s = at_s if told.began_s is None else min(told.began_s, at_s)
            told.ended_s = max(told.ended_s, at_s)
            if seen is not None and _number(seen) is None:
                _learn(told, seen, file, offset)
    for what, tag in told.left_out:
        carrier.leave_out(
            what, "an import carries over numbers, texts, pictures and parameters", f"{place.name} {tag}"
        )
    return told


def _values(
    file: Path, note: Callable[[str], None], told: _Told | None = None
) -> Iterator[tuple[int, float, _Seen | None]]:
    """Each value of each event with where its record begins and its time; None for an event without values.

    What a tag is about is said with its first value in a file alone.
    """
    plugins: dict[str, tuple[str, bytes]] = {}
    for offset, record in tensorflow_records(file, note):
        try:
            event = dict(fields(record))
            at_s, step = as_float(event[_WALL_TIME]), as_int(event.get(_STEP, 0))
            if not 0 <= at_s <= _LAST_SECOND:
                raise Damaged("a time that cannot be")
            if told is not None:
                told.left_out |= {
                    (_OTHER_EVENTS[number], ""): None for number in event if number in _OTHER_EVENTS
                }
            yield offset, at_s, None
            for number, value in fields(as_bytes(event.get(_SUMMARY, b""))):
                if number == 1:
                    yield offset, at_s, _seen(as_bytes(value), step, at_s, plugins)
        except (Damaged, KeyError) as error:
            note(f"an event holds {error}" if isinstance(error, Damaged) else "an event without a time")


def _seen(content: bytes, step: int, at_s: float, plugins: dict[str, tuple[str, bytes]]) -> _Seen:
    tag, kind, what = "", 0, None
    metadata = b""
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
    plugin_name, plugin_content = plugins.get(tag, ("", b""))
    return _Seen(tag, plugin_name, plugin_content, step, at_s, kind, what)


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


def _points(files: Sequence[Path]) -> Iterator[MetricPoint]:
    for file in files:
        for _, at_s, seen in _values(file, lambda _: None):  # what is damaged was told before
            if seen is not None and (value := _number(seen)) is not None:
                yield MetricPoint(seen.tag, value, seen.step, from_micros(round(at_s * 1e6)))


def _learn(told: _Told, seen: _Seen, file: Path, offset: int) -> None:
    if seen.plugin == "hparams":
        _learn_parameters(told, seen.content)
    elif seen.plugin == "text":
        texts = [value.decode("utf-8", "replace") for value in _strings(seen)]
        told.texts.append({"tag": seen.tag, "step": seen.step, "at": seen.at_s, "text": texts})
    elif seen.kind == _IMAGE or seen.plugin == "images":
        told.pictures += _pictures(seen, file, offset)
    elif seen.kind:
        what = seen.plugin.removesuffix("s") or _OTHER_VALUES.get(seen.kind, "tensor")
        told.left_out[what, seen.tag] = None


def _learn_parameters(told: _Told, content: bytes) -> None:
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


def _pictures(seen: _Seen, file: Path, offset: int) -> Iterator[SourceFile]:
    """The pictures of a value; a tensor has width and height as texts before them."""
    if seen.kind == _IMAGE:
        contents = [as_bytes(dict(fields(as_bytes(seen.value))).get(4, b""))]
    else:
        contents = _strings(seen)[2:]
    for number, content in enumerate(contents):
        ending = next((kind for begin, kind in _PICTURES.items() if content.startswith(begin)), "bin")
        tag = "/".join(part for part in seen.tag.split("/") if part not in ("", ".", ".."))
        index = f"-{number}" if number else ""
        path = f"images/{tag or 'image'}/{seen.step}{index}.{ending}"
        yield SourceFile(path, len(content), partial(_fetch_picture, file, offset, seen.tag, number))


def _fetch_picture(file: Path, offset: int, tag: str, number: int, place: Path) -> Path:
    """Read a picture again from its record: they are not all held in memory."""
    summary = as_bytes(dict(fields(tensorflow_record_at(file, offset))).get(_SUMMARY, b""))
    for _, value in fields(summary):
        seen = _seen(as_bytes(value), 0, 0.0, {})
        if seen.tag == tag:
            image = seen.kind == _IMAGE
            place.write_bytes(
                as_bytes(dict(fields(as_bytes(seen.value)))[4]) if image else _strings(seen)[2 + number]
            )
    return place
