"""Record files of wandb: what they say of a run, and the rows of its history."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from everloop.adapters.record_files import (
    Damaged,
    Problem,
    Value,
    as_bytes,
    as_float,
    as_int,
    as_text,
    fields,
    wandb_records,
)
from everloop.clock import from_micros

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
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LONGEST_RUN_S = 10 * 366 * 86_400
_LAST_SECOND = 253_402_300_799  # of the year 9999


@dataclass
class WandbRun:
    """What the record files of a run say of it, but for its history."""

    files: Sequence[Path]
    texts: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    began_at: datetime | None = None
    runtime_s: int = 0
    exit_code: int | None = None
    last_at: datetime | None = None
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True)
class Row:
    """What was measured at one time, nested as it was logged: at a step of the run, or of the machine without one."""

    values: dict[str, Any]
    step: int | None
    at: datetime | None


def key_of(file: Path) -> str:
    """What wandb calls the run of a file: entity, project and id. Raises Damaged for a file that does not say."""
    for number, content in _records(file, lambda _: None):
        if number == _RUN:
            texts = {of: as_text(value) for of, value in fields(content) if of in _RUN_TEXTS}
            return f"{texts.get(2, '')}/{texts.get(3, '')}/{texts.get(1, '')}"
    raise Damaged("it does not say which run it is of")


def read_run(files: Sequence[Path], problem: Callable[[Path, str], None]) -> WandbRun:
    """What the files of a run say of it, the later ones last."""
    told = WandbRun(files)
    for file in files:
        last = b""
        for number, content in _records(file, partial(problem, file)):
            if number == _HISTORY:
                last = content
                continue
            _attempt(partial(_learn, told, number, content), partial(problem, file))
        _attempt(partial(_learn_end, told, last), partial(problem, file))
    return told


def rows(file: Path, problem: Problem) -> Iterator[Row]:
    """The rows of a history and the measures of the machine, in the order in which they were written."""
    for number, content in _records(file, lambda _: None):  # damage between records is told by read_run
        try:
            if number == _HISTORY:
                yield _row(content)
            elif number == _STATS:
                yield _stats(content)
        except Damaged as error:
            problem(f"a row holds {error}")


def _records(file: Path, problem: Callable[[str], None]) -> Iterator[tuple[int, bytes]]:
    """What each record is about, as the number of its field, and the message about it."""
    for record in wandb_records(file, problem):
        try:
            for number, value in fields(record):
                if isinstance(value, bytes):
                    yield number, value
        except Damaged as error:
            problem(f"a record holds {error}")


def _attempt(act: Callable[[], None], problem: Problem) -> None:
    try:
        act()
    except Damaged as error:
        problem(f"a record holds {error}")


def _learn_end(told: WandbRun, last_row: bytes) -> None:
    told.last_at = _row(last_row).at or told.last_at


def _learn(told: WandbRun, number: int, content: bytes) -> None:
    if number == _RUN:
        _learn_run(told, content)
    elif number == _CONFIG:
        _apply(told.config, content)
    elif number == _SUMMARY:
        _apply(told.summary, content)
    elif number == _EXIT:
        found = dict(fields(content))
        told.exit_code, told.runtime_s = as_int(found.get(1, 0)), min(as_int(found.get(2, 0)), _LONGEST_RUN_S)
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


def _learn_run(told: WandbRun, content: bytes) -> None:
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


def _learn_commit(told: WandbRun, git: Value | None) -> None:
    if git is not None and (commit := dict(fields(as_bytes(git))).get(2)) is not None:
        told.texts["commit"] = as_text(commit)


def _timestamp(message: bytes) -> datetime:
    found = dict(fields(message))
    seconds = as_int(found.get(1, 0))
    if not 0 <= seconds <= _LAST_SECOND:
        raise Damaged("a time that cannot be")
    return from_micros(seconds * 1_000_000 + as_int(found.get(2, 0)) // 1000)


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
    except (ValueError, RecursionError):  # no JSON, or nested without end
        return text.decode("utf-8", "replace")


def _row(content: bytes) -> Row:
    values: dict[str, Any] = {}
    step = 0
    for number, told in fields(content):
        if number == 1:
            path, value = _item(as_bytes(told))
            _inner(values, path)[path[-1]] = value
        elif number == 2:
            step = as_int(dict(fields(as_bytes(told))).get(1, 0))
    at, own = values.get("_timestamp"), values.get("_step")
    moment = from_micros(round(at * 1e6)) if isinstance(at, int | float) and 0 <= at <= _LAST_SECOND else None
    return Row(values, own if isinstance(own, int) else step, moment)


def _stats(content: bytes) -> Row:
    values: dict[str, Any] = {}
    at = None
    for number, told in fields(content):
        if number == 2:
            at = _timestamp(as_bytes(told))
        elif number == 3:
            path, value = _item(as_bytes(told))
            _inner(values, path)[path[-1]] = value
    return Row(values, None, at)
