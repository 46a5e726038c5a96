"""Moving in from Weights & Biases: the run folders that it keeps on disk, read from their record files."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from everloop.adapters.carrying import (
    DEEPEST,
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
from everloop.adapters.record_files import Damaged
from everloop.adapters.wandb_files import NOT_FINITE, WandbRun, key_of, read_run, rows
from everloop.errors import NotFound
from everloop.tracking import MetricPoint, Run
from everloop.workspace import Workspace

_PATTERNS = ("run-*.wandb", "*run-*/run-*.wandb", "wandb/*run-*/run-*.wandb")
_WHY_KIND = "a metric is a number"


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
        try:
            runs[f"wandb:{key_of(file)}"].append(file)
        except (Damaged, OSError) as error:
            carrier.leave_out("run", f"its record file cannot be read: {error}", str(file))
    carrier.carry(_source_run(key, files, carrier) for key, files in runs.items())
    return carrier.finish(str(folder.resolve()))


def _source_run(key: str, files: Sequence[Path], carrier: Carrier) -> SourceRun:
    told = read_run(files, partial(_note_problem, carrier))
    for (what, why), count in told.left_out.items():
        for _ in range(count):
            carrier.leave_out(what, why, key)
    began = told.began_at or datetime.fromtimestamp(files[0].stat().st_mtime, UTC)
    ended = began + timedelta(seconds=told.runtime_s) if told.exit_code is not None else began
    run = Run(
        id=id_from(int(began.timestamp() * 1000), key),
        experiment=told.texts.get("project") or "wandb",
        name=told.texts.get("name") or told.texts.get("id") or files[0].parent.name,
        kind="run",
        status="killed" if told.exit_code is None else "failed" if told.exit_code else "finished",
        parent=None,
        actor=carrier.ws.actor,
        client_user=told.texts.get("entity"),
        started_at=began,
        ended_at=max(ended, told.last_at or began),
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


def _points(told: WandbRun, carrier: Carrier, key: str, began: datetime) -> Iterator[MetricPoint]:
    """The history, then what the summary says besides, then the measures of the machine as system/NAME."""
    newest: dict[str, float] = {}
    step, at = 0, began
    measured: Counter[str] = Counter()  # measures of the machine have a time and no step: they are counted
    other = partial(_note, carrier, key)
    for file in told.files:
        for row in rows(file, partial(_note_problem, carrier, file)):
            at = row.at or at
            if row.step is None:
                for name, value in _numbers(row.values, other):
                    yield MetricPoint(f"system/{name}", value, measured[name], at)
                    measured[name] += 1
                continue
            step = row.step
            for name, value in _numbers(row.values, other):
                newest[name] = value
                yield MetricPoint(name, value, step, at)
    for name, value in _numbers(told.summary, lambda *_: None):
        if name not in newest:
            yield MetricPoint(name, value, step, at)
        elif newest[name] != value and not math.isnan(value):
            yield MetricPoint(f"summary/{name}", value, step, at)


def _note_problem(carrier: Carrier, file: Path, problem: str) -> None:
    carrier.leave_out("part of a record file", problem, str(file))


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
        if isinstance(value, dict) and "_type" not in value and path.count(".") < DEEPEST:
            yield from _numbers(value, other, f"{path}.")
        elif isinstance(value, int | float):
            try:
                yield path, float(value)
            except OverflowError:
                other(path, value)
        elif isinstance(value, str) and value in NOT_FINITE:
            yield path, NOT_FINITE[value]
        elif value is not None:
            other(path, value)


def _tags(told: WandbRun) -> dict[str, str]:
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
    return tags | {f"wandb.summary.{name}": value for name, value in texts.items() if value not in NOT_FINITE}


def _files(records: Iterable[Path], carrier: Carrier) -> Iterator[SourceFile]:
    for record in records:
        folder = record.parent / "files"
        if folder.is_dir() and not folder.is_symlink():
            yield from files_below(folder, carrier.leave_out)
