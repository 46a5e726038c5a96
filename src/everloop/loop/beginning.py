"""Beginning with a user's own table: from a file to a project with a trained, gated first version."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from everloop import data, labels, pipelines, registry
from everloop.errors import Conflict, Invalid, StorageFailed
from everloop.loop import project
from everloop.loop.applying import apply, newest
from everloop.loop.guess import Guess, Wanted, class_names, guess
from everloop.loop.loading import load
from everloop.loop.project import Names
from everloop.loop.training import Trained, train
from everloop.pipelines import OnProgress, Split
from everloop.workspace import Workspace

SPLIT_STEP = "split"


@dataclass(frozen=True)
class Look:
    """A user's file as rows, and what it is about. `named` are the labels as the file writes them."""

    file: Path
    rows: pa.Table
    named: pa.Table
    guess: Guess
    names: Names


@dataclass(frozen=True)
class Begun:
    """What beginning made. `majority` are the metrics of always answering the most frequent class, on the same rows."""

    look: Look
    files: tuple[Path, ...]
    data_version: str
    labels: int
    trained: Trained | None = None
    metrics: dict[str, float] | None = None
    majority: dict[str, float] | None = None
    test_rows: int = 0


def look(file: Path, wanted: Wanted) -> Look:
    """Read a CSV, JSONL or Parquet file and guess what it is about; changes nothing.

    Raises
    ------
    NotFound, Invalid
        There is no such file, it is broken, or see `guess`.
    """
    source = data.load(file, key=None, file_format=None)
    rows, schema = data.typed(source)
    found = guess(rows, schema, source.rows, wanted)
    return Look(file, rows, source.rows, found, project.names_for(file, found))


def write_project(look: Look, folder: Path, *, force: bool) -> tuple[Path, ...]:
    """Write loop.py, the body of a request and what the loop file needs besides; returns the files.

    Raises
    ------
    Conflict
        One of them is there already, and `force` is not given.
    StorageFailed
        The folder cannot be written.
    """
    found = look.guess
    texts = {
        project.LOOP_FILE: project.loop_file(look.file.name, found, look.names),
        project.REQUEST_FILE: project.request_file(*_request(look)),
    }
    if (classes := project.classes_file(found)) is not None:
        texts[project.CLASSES_FILE] = classes
    rows = (
        () if found.key else (f"{look.names.dataset}_with_key.parquet",)
    )  # never the user's own file's name
    project.check_free(folder, [*texts, *rows], force=force)
    project.write(folder, texts)
    for name in rows:
        _write_rows(_with_key(look), folder / name)
    return tuple(folder / name for name in [*texts, *rows])


def begin(
    ws: Workspace,
    look: Look,
    files: tuple[Path, ...],
    *,
    with_training: bool = True,
    say: Callable[[str], None],
    on_progress: OnProgress | None = None,
) -> Begun:
    """Apply a project's loop file, take the rows and labels in and train the first version.

    Each of these is a verb of its own, and is repeated as such: `everloop apply`, `data ingest`, `labels import`, `run`.
    """
    say("Applying loop.py ...")
    loop = load(files[0])
    apply(ws, loop)
    say(f"Taking in {look.guess.rows:,} rows ...")
    version = data.ingest(ws, look.names.dataset, look.file if look.guess.key else files[-1])
    table = _labels(look)
    report = labels.import_labels(
        ws, look.names.label, table, key=look.guess.key_name, value=look.guess.label, annotator=look.file.name
    )
    begun = Begun(look, files, version.ref, report.imported + report.repeated)
    if not with_training:
        return begun
    say("Training ...")
    trained = train(ws, loop, "train", reason=f"everloop init {look.file.name}", on_progress=on_progress)
    split: Split = pipelines.output_of(ws, trained.run, SPLIT_STEP)
    metrics = dict(registry.version(ws, str(trained.version)).metrics)
    return Begun(
        look, files, version.ref, begun.labels, trained, metrics, majority_metrics(split), split.test.num_rows
    )


def check_unused(ws: Workspace) -> None:
    """Raises Conflict when the workspace has a loop already: a new one would take its place."""
    if (known := newest(ws)) is not None:
        raise Conflict(
            f"the workspace {ws.home} has a loop already ({known.file}, applied {known.applied_at:%Y-%m-%d}); a new one would take "
            "its place. Begin in another folder with --into DIR, or replace it with --force."
        )


def majority_metrics(split: Split) -> dict[str, float]:
    """Accuracy and macro F1 on the test rows of always answering the most frequent class of the training rows."""
    names, counts = np.unique(np.asarray(split.train[split.label].to_pylist(), dtype=str), return_counts=True)
    truth = np.asarray(split.test[split.label].to_pylist(), dtype=str)
    answer = names[counts.argmax()]
    share = float((truth == answer).mean())
    classes = len(np.union1d(truth, [answer]))
    return {"accuracy": share, "macro_f1": 2 * share / (1 + share) / classes}


def _request(look: Look) -> tuple[dict[str, Any], str]:
    """The first row as a request would carry it, and its key."""
    row = look.rows.select([one.column for one in look.guess.inputs]).slice(0, 1).to_pylist()[0]
    inputs = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in row.items()
    }
    key = str(look.rows[look.guess.key][0].as_py()) if look.guess.key else "a-new-row"
    return inputs, key


def _labels(look: Look) -> pa.Table:
    """Key and label of each row that is labelled with a class in use."""
    found = look.guess
    rows = look.rows if found.key else _with_key(look)
    keyed = pa.table({found.key_name: rows[found.key_name], found.label: look.named[found.label]})
    return labelled_rows(keyed, key=found.key_name, value=found.label, among=found.per_class)


def labelled_rows(rows: pa.Table, *, key: str, value: str, among: Collection[str] | None = None) -> pa.Table:
    """The key and the label, as text, of the rows that have one; `among`: that have one of these.

    Raises Invalid when a column is missing.
    """
    if missing := [name for name in (key, value) if name not in rows.column_names]:
        raise Invalid(
            f"there is no column {' and no '.join(map(repr, missing))} among {', '.join(rows.column_names)}; labels are read "
            "from a column with the row's key and one with the label. Name the right ones."
        )
    named = class_names(rows[value])
    is_used = pa.array([one is not None and (among is None or one in among) for one in named.to_pylist()])
    return pa.table({key: rows[key], value: named}).filter(is_used)


def _with_key(look: Look) -> pa.Table:
    """The rows with a key made of each one's content without its label; equal rows are numbered."""
    content = look.rows.drop_columns([look.guess.label])
    seen: dict[str, int] = {}
    keys = []
    for row in zip(*(content[name].to_pylist() for name in content.column_names), strict=True):
        digest = blake3(repr(row).encode()).hexdigest(length=10)
        seen[digest] = number = seen.get(digest, 0) + 1
        keys.append(digest if number == 1 else f"{digest}-{number}")
    return look.rows.add_column(0, look.guess.key_name, pa.array(keys, pa.large_string()))


def _write_rows(rows: pa.Table, path: Path) -> None:
    try:
        pq.write_table(rows, path)
    except OSError as error:
        raise StorageFailed(
            f"{path} cannot be written: {error.strerror}. Make room, or name another folder with --into DIR."
        ) from error
