"""Runs that were made elsewhere, kept as they were there: with their own ids, times and ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from everloop.errors import Conflict
from everloop.ledger import Node, audit, link
from everloop.storage import Tx
from everloop.tracking import file_store, store
from everloop.tracking.grouping import experiment_for
from everloop.tracking.inputs import put_datasets_in
from everloop.tracking.lifecycle import need_run
from everloop.tracking.measurements import checked_point
from everloop.tracking.records import (
    PARAM_LENGTH,
    TAG_LENGTH,
    Artifact,
    DatasetInput,
    MetricPoint,
    Run,
    check_name,
    check_texts,
)
from everloop.workspace import Workspace

SOURCE_TAG = (
    "everloop.import.source"  # what the run was called where it comes from; no other run has this tag
)
STATE_TAG = "everloop.import.state"  # of the source when the import of the run was complete
_POINTS_A_TRANSACTION = 5_000  # as a call of log_points takes them


@dataclass(frozen=True)
class ImportedRun:
    """What is here of an imported run. `source` is None for a run that was made here.

    `state` is what the source was in when it was last imported whole: None while an import was cut off.
    """

    id: str
    source: str | None
    state: str | None
    parent: str | None


@dataclass(frozen=True)
class Kept:
    """What an import of a run added. `differing` are parameters that have another value here, which they keep."""

    points: int
    differing: tuple[str, ...]


def imported_runs(ws: Workspace, ids: Sequence[str]) -> dict[str, ImportedRun]:
    """Those of the ids that are runs here, imported or not."""
    with ws.read() as connection:
        parents = store.parents_of(connection, ids)
        sources = store.tag_of_runs(connection, ids, SOURCE_TAG)
        states = store.tag_of_runs(connection, ids, STATE_TAG)
    return {
        one: ImportedRun(one, sources.get(one), states.get(one), parent) for one, parent in parents.items()
    }


def keep_imported(
    ws: Workspace,
    told: Run,
    *,
    source: str,
    state: str,
    points: Iterable[MetricPoint],
    files: Sequence[Artifact],
    datasets: Sequence[DatasetInput] = (),
) -> Kept:
    """Keep a run as it was elsewhere, or add what is new of one that is here.

    A run of up to 5,000 points is one transaction, a longer one several. `state` is written by the last, so an import
    that was cut off is seen as such, and may be done again: nothing comes twice. So each is kill-safe alone, without
    waiting for the disk, until `end_import` makes all of them power-safe. Writes the run, its texts, points and files,
    and its lineage.

    Parameters
    ----------
    told
        With the id that it is to have here; its `metrics` are not looked at. A parent that is not here is left out:
        see `adopt`.
    files
        Whose blobs are here already.
    datasets
        What the run read.

    Raises
    ------
    Conflict
        A run of this id was made here.
    Invalid
        A name, a text or a point cannot be stored.
    """
    check_name("a run", told.name)
    params = check_texts("a parameter", told.params, length=PARAM_LENGTH)
    tags = {**check_texts("a tag", told.tags, length=TAG_LENGTH), SOURCE_TAG: source}

    def begin(tx: Tx) -> tuple[int, tuple[str, ...]]:
        _begin(ws, tx, told)
        store.put_texts(tx, store.tags, told.id, tags)
        put_datasets_in(tx, told.id, datasets)
        stored = store.add_texts(tx, store.params, told.id, params) if params else {}
        differing = tuple(sorted(name for name, text in params.items() if stored[name] != text))
        return store.count_points(tx.connection, told.id), differing

    def end(tx: Tx, chunk: Sequence[MetricPoint]) -> int:
        if chunk:
            store.insert_points(tx, told.id, chunk)
        if files:
            file_store.put(tx, told.id, files)
        store.put_texts(tx, store.tags, told.id, {STATE_TAG: state})
        return store.count_points(tx.connection, told.id)

    remaining = iter(points)
    chunk, following = _next(remaining), _next(remaining)
    if not following:
        (before, differing), after = ws.write(lambda tx: (begin(tx), end(tx, chunk)), power_safe=False)
        return Kept(after - before, differing)
    before, differing = ws.write(begin, power_safe=False)
    while following:
        ws.write(partial(store.insert_points, run_id=told.id, points=chunk), power_safe=False)
        chunk, following = following, _next(remaining)
    return Kept(ws.write(partial(end, chunk=chunk), power_safe=False) - before, differing)


def end_import(ws: Workspace, where: str, *, runs: int, points: int, files: int) -> None:
    """Write into the audit log what an import brought, and so force all that it wrote before to disk."""
    node = Node("file", where)
    ws.write(lambda tx: audit(ws, tx, "tracking.import", node, runs=runs, points=points, files=files))


def adopt(ws: Workspace, run_id: str, parent: str) -> bool:
    """Make an imported run part of another that came after it; False when that would close a circle.

    Raises NotFound when one of them is not here. Writes the parent and its lineage in one transaction.
    """

    def change(tx: Tx) -> bool:
        need_run(tx, run_id)
        need_run(tx, parent)
        above: str | None = parent
        while above is not None:
            if above == run_id:
                return False
            above = store.parents_of(tx.connection, [above])[above]
        store.update_run(tx, run_id, {"parent": parent})
        link(tx, Node("run", parent), Node("run", run_id), role="parent", at=ws.now())
        return True

    return ws.write(change)


def _begin(ws: Workspace, tx: Tx, told: Run) -> None:
    if not store.has_run(tx.connection, told.id):
        is_here = told.parent is not None and store.has_run(tx.connection, told.parent)
        begun = told if is_here else replace(told, parent=None)
        store.insert_run(tx, begun, experiment=experiment_for(ws, tx, told.experiment))
        if begun.parent is not None:
            link(tx, Node("run", begun.parent), Node("run", begun.id), role="parent", at=begun.started_at)
        return
    if told.id not in store.tag_of_runs(tx.connection, [told.id], SOURCE_TAG):
        raise Conflict(
            f"run {told.id} was made here; an import adds to imported runs only. Import into another home with --home."
        )
    changing = ("name", "status", "ended_at", "error", "deleted_at")
    store.update_run(tx, told.id, {name: getattr(told, name) for name in changing})


def _next(points: Iterable[MetricPoint]) -> list[MetricPoint]:
    return [checked_point(one) for one in islice(points, _POINTS_A_TRANSACTION)]
