"""Moving in from Weights & Biases: the run folders that it keeps on disk, read from their record files."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from everloop.adapters.carrying import (
    Carried,
    Carrier,
    Progress,
    SourceFile,
    SourceRun,
    files_below,
    flattened,
    id_from,
    state_of,
)
from everloop.adapters.record_files import (
    Damaged,
    Value,
    as_bytes,
    as_float,
    as_int,
    as_text,
    fields,
    wandb_records,
)
from everloop.clock import from_micros
from everloop.errors import NotFound
from everloop.tracking import MetricPoint, Run
from everloop.workspace import Workspace

# Numbers of the fields of a record, and of the messages in it, as wandb 0.31 writes them; older ones have fewer.
_HISTORY, _SUMMARY, _CONFIG, _STATS, _ARTIFACT, _ALERT = 2, 3, 5, 7, 8, 10
_RUN, _EXIT, _USED_ARTIFACT, _ENVIRONMENT = 17, 18, 25, 26
_RUN_TEXTS = {
    1: "id",
    2: "entity",
    3: "project",
    6: "group",
    7: "job_type",
    8: "name",
    9: "notes",
    12: "sweep_id",
    13: "host",
}
_RUN_CONFIG, _RUN_SUMMARY, _RUN_TAGS, _RUN_START, _RUN_GIT = 4, 5, 10, 17, 21
_ENVIRONMENT_TEXTS = {1: "os", 2: "python", 6: "program"}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_PATTERNS = ("run-*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb")
_WHY_KIND = "a metric is a number"


@dataclass
class _Told:
    """What the record files of a run say of it, but for its history."""

    files: list[Path] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    began_at: datetime | None = None
    runtime_s: int = 0
    exit_code: int | None = None
    last_row: bytes = b""
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)


def import_wandb(
    ws: Workspace, folder: Path, *, is_dry_run: bool = False, progress: Progress = lambda _: None
) -> Carried:
    """Carry over the runs below a folder, or what is new in them since the last time.

    `folder` is the one that `wandb.init` wrote to, its folder `wandb`, or that of one run. A run that went on in several
    folders is one run. Raises NotFound when there are no record files.
    """
    found = [one for pattern in _PATTERNS for one in sorted(folder.glob(pattern)) if not one.is_symlink()]
    if not found:
        raise NotFound(
            f"there is no run of wandb in {folder}: no run-*.wandb in it or in folders named *run-*. Name the folder 'wandb' that holds them."
        )
    carrier = Carrier(ws, is_dry_run=is_dry_run, progress=progress)
    runs: dict[str, list[Path]] = defaultdict(list)
    for file in found:
        if (key := _key_of(file, carrier)) is not None:
            runs[key].append(file)
    carrier.carry(_source_run(key, files, carrier) for key, files in runs.items())
    return carrier.finish(str(folder.resolve()))


def _key_of(file: Path, carrier: Carrier) -> str | None:
    """What wandb calls the run of a file; None for one that does not say."""
    try:
        for number, content in _records(file, lambda _: None):
            if number == _RUN:
                texts = {of: as_text(value) for of, value in fields(content) if of in (1, 2, 3)}
                return f"wandb:{texts.get(2, '')}/{texts.get(3, '')}/{texts.get(1, '')}"
    except (Damaged, OSError) as error:
        carrier.leave_out("run", f"its record file cannot be read: {error}", str(file))
        return None
    carrier.leave_out("run", "its record file does not say which run it is of", str(file))
    return None


def _source_run(key: str, files: Sequence[Path], carrier: Carrier) -> SourceRun:
    told = _Told(files=list(files))
    for file in files:
        note = partial(_note_problem, carrier, file)
        for number, content in _records(file, note):
            try:
                _learn(told, number, content)
            except Damaged as error:
                note(f"a record holds {error}")
    for (what, why), count in told.left_out.items():
        for _ in range(count):
            carrier.leave_out(what, why, key)
    began = told.began_at or datetime.fromtimestamp(files[0].stat().st_mtime, UTC)
    last = _row(told.last_row)[1] if told.last_row else None
    ended = began + timedelta(seconds=told.runtime_s) if told.exit_code is not None else began
    run = Run(
        id=id_from(int(began.timestamp() * 1000), key),
        experiment=told.texts.get("project") or "wandb",
        name=told.texts.get("name") or told.texts.get("id") or files[0].parent.name,
        kind="run",
        status="killed" if told.exit_code is None else "failed" if told.exit_code else "finished",
        parent=None,
        actor=told.texts.get("entity") or carrier.ws.actor,
        started_at=began,
        ended_at=max(ended, last) if last else ended,
        error=f"exit code {told.exit_code}" if told.exit_code else None,
        code=None,
        environment=None,
        params=flattened({name: value for name, value in told.config.items() if name != "_wandb"}),
        tags=_tags(told),
    )
    sizes = [(one.name, one.stat().st_size) for one in files]
    return SourceRun(
        key=key,
        run=run,
        state=state_of(sizes, run.name, run.status),
        points=partial(_points, told, carrier, key, began),
        files=partial(_files, files, carrier),
    )


def _note_problem(carrier: Carrier, file: Path, problem: str) -> None:
    carrier.leave_out("part of a record file", problem, str(file))


def _records(file: Path, problem: Callable[[str], None]) -> Iterator[tuple[int, bytes]]:
    """What each record is about, as the number of its field, and the message about it."""
    for record in wandb_records(file, problem):
        try:
            for number, value in fields(record):
                if isinstance(value, bytes):
                    yield number, value
        except Damaged as error:
            problem(f"a record holds {error}")


def _learn(told: _Told, number: int, content: bytes) -> None:
    if number == _HISTORY:
        told.last_row = content
    elif number == _RUN:
        _learn_run(told, content)
    elif number == _CONFIG:
        _apply(told.config, content)
    elif number == _SUMMARY:
        _apply(told.summary, content)
    elif number == _EXIT:
        found = dict(fields(content))
        told.exit_code, told.runtime_s = as_int(found.get(1, 0)), as_int(found.get(2, 0))
    elif number == _ENVIRONMENT:
        told.texts |= {
            _ENVIRONMENT_TEXTS[of]: as_text(value)
            for of, value in fields(content)
            if of in _ENVIRONMENT_TEXTS
        }
        _learn_commit(told, dict(fields(content)).get(9))
    elif number in (_ARTIFACT, _USED_ARTIFACT):
        told.left_out[
            "artifact", "wandb keeps the content of its versioned artifacts elsewhere: log the files again"
        ] += 1
    elif number == _ALERT:
        told.left_out["alert", "alerts come from findings here"] += 1


def _learn_run(told: _Told, content: bytes) -> None:
    for number, value in fields(content):
        if number in _RUN_TEXTS:
            told.texts[_RUN_TEXTS[number]] = as_text(value)
        elif number == _RUN_TAGS and as_text(value) not in told.labels:
            told.labels.append(as_text(value))
        elif number == _RUN_CONFIG:
            _apply(told.config, as_bytes(value))
        elif number == _RUN_SUMMARY:
            _apply(told.summary, as_bytes(value))
        elif number == _RUN_GIT:
            _learn_commit(told, value)
        elif number == _RUN_START and told.began_at is None:
            told.began_at = _timestamp(as_bytes(value))


def _learn_commit(told: _Told, git: Value | None) -> None:
    if git is not None and (commit := dict(fields(as_bytes(git))).get(2)) is not None:
        told.texts["commit"] = as_text(commit)


def _timestamp(message: bytes) -> datetime:
    found = dict(fields(message))
    return from_micros(as_int(found.get(1, 0)) * 1_000_000 + as_int(found.get(2, 0)) // 1000)


def _apply(values: dict[str, Any], content: bytes) -> None:
    """Bring a config or summary up to date with a record: field 1 are items that are set, field 2 those that are removed."""
    for number, item in fields(content):
        if number not in (1, 2):
            continue
        path, value = _item(as_bytes(item))
        inner = _inner(values, path)
        if number == 1:
            inner[path[-1]] = value
        else:
            inner.pop(path[-1], None)


def _inner(values: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """The dict in nested ones that holds the end of a path, made where there is none."""
    for name in path[:-1]:
        inner = values.get(name)
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    return values


def _item(content: bytes) -> tuple[list[str], Any]:
    """The path of names and the value of an item of a config, a summary or a history."""
    key, nested, value = "", [], None
    for number, told in fields(content):
        if number == 1:
            key = as_text(told)
        elif number == 2:
            nested.append(as_text(told))
        elif number in (8, 16):
            value = _parsed(as_bytes(told))
        elif number == 4:
            value = bool(told)
        elif number == 5:
            value = as_int(told) >> 1 ^ -(as_int(told) & 1)  # zigzag
        elif number == 6:
            value = as_float(told)
        elif number == 7:
            value = as_text(told)
    return nested or [key], value


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode("utf-8", "replace")


def _row(content: bytes) -> tuple[int, datetime | None, dict[str, Any]]:
    """A row of a history: its step, its time, and its values, nested as they were logged."""
    values: dict[str, Any] = {}
    step = 0
    for number, told in fields(content):
        if number == 1:
            path, value = _item(as_bytes(told))
            _inner(values, path)[path[-1]] = value
        elif number == 2:
            step = as_int(dict(fields(as_bytes(told))).get(1, 0))
    at = values.get("_timestamp")
    own = values.get("_step")
    moment = (
        from_micros(round(at * 1e6)) if isinstance(at, int | float) and 0 <= at < 253_402_300_800 else None
    )
    return own if isinstance(own, int) else step, moment, values


def _points(told: _Told, carrier: Carrier, key: str, began: datetime) -> Iterator[MetricPoint]:
    """The history, then what the summary says besides, then the measures of the machine as system/NAME."""
    newest: dict[str, float] = {}
    step, at = 0, began
    measured: Counter[str] = Counter()
    for file in told.files:
        for number, content in _records(file, lambda _: None):  # what is damaged was told before
            if number == _HISTORY:
                step, moment, values = _row(content)
                at = moment or at
                for name, value in _numbers(values, partial(_note, carrier, key)):
                    newest[name] = value
                    yield MetricPoint(name, value, step, at)
            elif number == _STATS:
                yield from _stats(content, measured, at)
    for name, value in _numbers(told.summary, lambda *_: None):
        if name not in newest:
            yield MetricPoint(name, value, step, at)
        elif newest[name] != value and not math.isnan(value):
            yield MetricPoint(f"summary/{name}", value, step, at)


def _note(carrier: Carrier, key: str, name: str, value: Any) -> None:
    kind = value.get("_type", "dict") if isinstance(value, dict) else type(value).__name__
    carrier.leave_out(f"{kind} in a history", _WHY_KIND, f"{key} {name}")


def _numbers(
    values: Mapping[str, Any], other: Callable[[str, Any], None], above: str = ""
) -> Iterator[tuple[str, float]]:
    """The numbers among values, those of nested ones as outer.inner; `other` hears of the rest. Names with _ are wandb's own."""
    for name, value in values.items():
        path = f"{above}{name}"
        if path.startswith("_"):
            continue
        if isinstance(value, dict) and "_type" not in value:
            yield from _numbers(value, other, f"{path}.")
        elif isinstance(value, int | float):
            try:
                yield path, float(value)
            except OverflowError:
                other(path, value)
        elif isinstance(value, str) and value in _NOT_FINITE:
            yield path, _NOT_FINITE[value]
        elif value is not None:
            other(path, value)


def _stats(content: bytes, measured: Counter[str], at: datetime) -> Iterator[MetricPoint]:
    """Measures of the machine: each is counted, since they have a time and no step."""
    items: dict[str, Any] = {}
    for number, told in fields(content):
        if number == 2:
            at = _timestamp(as_bytes(told))
        elif number == 3:
            path, parsed = _item(as_bytes(told))
            _inner(items, path)[path[-1]] = parsed
    for name, value in _numbers(items, lambda *_: None):
        yield MetricPoint(f"system/{name}", value, measured[name], at)
        measured[name] += 1


def _tags(told: _Told) -> dict[str, str]:
    named = {
        "wandb.id": "id",
        "wandb.group": "group",
        "wandb.job_type": "job_type",
        "wandb.sweep": "sweep_id",
        "wandb.host": "host",
        "wandb.python": "python",
        "wandb.os": "os",
        "mlflow.note.content": "notes",
        "mlflow.source.name": "program",
        "mlflow.source.git.commit": "commit",
    }
    tags = {tag: told.texts[name] for tag, name in named.items() if told.texts.get(name)}
    if told.labels:
        tags["wandb.tags"] = json.dumps(told.labels, ensure_ascii=False)
    if told.exit_code is not None:
        tags["wandb.exit_code"] = str(told.exit_code)
    texts = {
        name: value
        for name, value in told.summary.items()
        if isinstance(value, str) and not name.startswith("_")
    }
    return tags | {
        f"wandb.summary.{name}": value for name, value in texts.items() if value not in _NOT_FINITE
    }


def _files(records: Iterable[Path], carrier: Carrier) -> Iterator[SourceFile]:
    for record in records:
        folder = record.parent / "files"
        if folder.is_dir() and not folder.is_symlink():
            yield from files_below(folder, carrier.leave_out)
