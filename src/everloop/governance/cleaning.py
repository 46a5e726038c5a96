"""Removing deleted runs, logged models and traces for good, with the files that nothing else has: what a registered model needs stays."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop import registry, tracking
from everloop.ledger import Node, audit
from everloop.storage import Tx
from everloop.tracking import LoggedModel, Run, Trace
from everloop.workspace import Workspace

_DIGEST = re.compile(r"[0-9a-f]{64}")
_OWNERS = {"run_artifact": "run", "logged_model_artifact": "model", "trace_artifact": "trace"}
_MANIFEST_BYTES = 64 << 20  # blobs that name other blobs are JSON, and smaller than this


@dataclass(frozen=True)
class Cleaned:
    """What was removed, or would be: runs, logged models, traces, files that nothing else had, and their bytes.

    `refused` says of each deleted run that stays why it does; `elsewhere` are the places of files that everloop does not
    keep and has left.
    """

    runs: int
    models: int
    traces: int
    files: int
    freed_bytes: int
    refused: Mapping[str, str]
    elsewhere: tuple[str, ...]


def clean_runs(ws: Workspace, *, dry_run: bool = False) -> Cleaned:
    """Remove the deleted runs, logged models and traces, and the files that they alone have; audited. A dry run removes
    nothing.

    A logged model that is not deleted outlives its run. A run stays that a model version was registered from, or that is a pipeline's. A file stays whose content anything else in the
    workspace names; which is looked for in all tables and in all blobs that name others, so this takes a while.
    Nothing should be logged meanwhile: a file of the same content that is logged between look and removal is lost.
    """
    deleted = tracking.deleted_runs(ws)
    refused = _refused(deleted, registry.versions_of_runs(ws))
    going = [run for run in deleted if run.id not in refused]
    models = tracking.deleted_models(ws)
    traces = tracking.deleted_traces(ws)
    owners: list[Run | LoggedModel | Trace] = [*going, *models, *traces]
    if dry_run:
        gone = {one.id for one in owners}
        digests = {file.digest: file.size_bytes for file in tracking.files_of(ws, sorted(gone))}
        with ws.read() as connection:
            digests = _unnamed(ws, connection, digests, but_for=gone)
    else:
        digests = _purged(ws, *([one.id for one in some] for some in (going, models, traces)))
    folders = {one.id: tracking.files_below_root(ws.settings, one) for one in owners}
    outside = [_size_of(folder) for folder in folders.values() if folder is not None]
    if not dry_run:
        for digest in digests:
            ws.blobs.delete(digest)
        for folder in folders.values():
            if folder is not None:
                shutil.rmtree(folder.parent, ignore_errors=True)
    left = [one.artifact_uri for one in owners if one.artifact_uri and folders[one.id] is None]
    return Cleaned(
        runs=len(going),
        models=len(models),
        traces=len(traces),
        files=len(digests) + sum(count for count, _ in outside),
        freed_bytes=sum(digests.values()) + sum(size for _, size in outside),
        refused=refused,
        elsewhere=tuple(left),
    )


def _refused(deleted: Iterable[Run], versions: Mapping[str, str]) -> dict[str, str]:
    refused = {}
    for run in deleted:
        if run.id in versions:
            refused[run.id] = f"model version {versions[run.id]} was registered from it"
        elif run.kind != "run":
            refused[run.id] = "it is a pipeline's, whose results and lineage name it"
    return refused


def _purged(ws: Workspace, run_ids: list[str], model_ids: list[str], trace_ids: list[str]) -> dict[str, int]:
    """Remove the runs, models and traces; the digests, with their sizes, of the files that nothing names any more."""

    def change(tx: Tx) -> dict[str, int]:
        files = tracking.purge_in(tx, run_ids, model_ids, trace_ids)
        for run_id in run_ids:
            audit(ws, tx, "run.purge", Node("run", run_id))
        for model_id in model_ids:
            audit(ws, tx, "model.purge", Node("logged_model", model_id))
        if trace_ids:  # there may be very many
            audit(ws, tx, "traces.purge", Node("workspace", ws.id), traces=len(trace_ids))
        return {file.digest: file.size_bytes for file in files}

    digests = ws.write(change) if run_ids or model_ids or trace_ids else {}
    with ws.read() as connection:
        return _unnamed(ws, connection, digests)


def _unnamed(
    ws: Workspace, connection: Connection, digests: Mapping[str, int], *, but_for: Iterable[str] = ()
) -> dict[str, int]:
    """Those of the digests that no table and no other blob names; `but_for` are runs, models and traces whose naming does not count."""
    if not digests:
        return {}
    named: set[str] = set()
    every = sa.MetaData()
    every.reflect(connection)  # also tables of rooms above this one
    for table in every.sorted_tables:
        for column in table.columns:
            if not isinstance(column.type, sa.String):
                continue
            statement = sa.select(column).where(sa.func.length(column) >= 64)
            if table.name in _OWNERS:
                statement = statement.where(table.c[_OWNERS[table.name]].not_in(list(but_for)))
            for (text,) in connection.execute(statement):
                named.update(_DIGEST.findall(text))
    for digest in ws.blobs:
        place = ws.blobs.path(digest)
        if digest not in digests and place.stat().st_size <= _MANIFEST_BYTES and _is_json(place):
            named.update(_DIGEST.findall(place.read_text(errors="replace")))
    return {digest: size for digest, size in digests.items() if digest not in named}


def _is_json(place: Path) -> bool:
    with place.open("rb") as file:
        return file.read(1) in (b"{", b"[")


def _size_of(folder: Path) -> tuple[int, int]:
    """How many files a folder holds, and their bytes."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    return len(sizes), sum(sizes)
