"""Routes of datasets and their versions."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from everloop import data
from everloop.api.routes import Call, File, Limited, Route
from everloop.data import Dataset, DatasetVersion, Profile


class Ingest(File, frozen=True, kw_only=True):
    mode: Literal["merge", "append", "replace"] = "merge"


class Rows(msgspec.Struct, frozen=True):
    count: int
    first: list[dict[str, Any]]


class Difference(msgspec.Struct, frozen=True):
    before: str
    after: str
    added: Rows
    removed: Rows
    changed: Rows


def list_datasets(call: Call) -> list[Dataset]:
    """All datasets with their schema."""
    return data.datasets(call.ws)


def list_versions(call: Call, asked: Limited) -> list[DatasetVersion]:
    """The versions of a dataset, newest first."""
    return data.versions(call.ws, call.path["name"], limit=asked.limit)


def show_version(call: Call) -> DatasetVersion:
    """One version: `listings@3`, or `listings` for the newest."""
    return data.version(call.ws, call.path["ref"])


def show_profile(call: Call) -> Profile:
    """What each column of a version looks like."""
    return data.profile(call.ws, call.path["ref"])


def ingest(call: Call, asked: Ingest) -> DatasetVersion:
    """Add the file in the body to a dataset: `format` csv, jsonl or parquet, `mode` merge, append or replace."""
    with call.file(asked.format) as path:
        return data.ingest(call.ws, call.path["name"], path, mode=asked.mode)


def diff(call: Call, asked: Limited) -> Difference:
    """What changed from one version to another: row ids and keys."""
    found = data.diff(call.ws, call.path["before"], call.path["after"])
    added, removed, changed = (
        Rows(rows.num_rows, rows.slice(0, asked.limit).to_pylist())
        for rows in (found.added, found.removed, found.changed)
    )
    return Difference(found.before, found.after, added, removed, changed)


ROUTES = [
    Route("GET", "/api/datasets", "see", list_datasets),
    Route("GET", "/api/datasets/{name}/versions", "see", list_versions),
    Route("POST", "/api/datasets/{name}/ingest", "run", ingest),
    Route("GET", "/api/versions/{ref}", "see", show_version),
    Route("GET", "/api/versions/{ref}/profile", "see", show_profile),
    Route("GET", "/api/versions/{before}/diff/{after}", "see", diff),
]
