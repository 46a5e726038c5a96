"""Routes of datasets and their versions."""

from __future__ import annotations

from typing import Any

from everloop import data
from everloop.api.routes import Call, Route
from everloop.errors import Invalid


def list_datasets(call: Call) -> Any:
    """All datasets with their schema."""
    return data.datasets(call.ws)


def list_versions(call: Call) -> Any:
    """The versions of a dataset, newest first."""
    return data.versions(call.ws, call.path["name"], limit=call.limit())


def show_version(call: Call) -> Any:
    """One version: `listings@3`, or `listings` for the newest."""
    return data.version(call.ws, call.path["ref"])


def show_profile(call: Call) -> Any:
    """What each column of a version looks like."""
    return data.profile(call.ws, call.path["ref"])


def ingest(call: Call) -> Any:
    """Add the file in the body to a dataset: `format` csv, jsonl or parquet, `mode` merge, append or replace."""
    mode = call.query.get("mode", "merge")
    if mode not in ("merge", "append", "replace"):
        raise Invalid(f"mode is {mode!r}; it is merge, append or replace.")
    with call.file() as path:
        return data.ingest(call.ws, call.path["name"], path, mode=mode)  # type: ignore[arg-type]  # checked above


def diff(call: Call) -> Any:
    """What changed from one version to another: row ids and keys."""
    found = data.diff(call.ws, call.path["before"], call.path["after"])
    parts = {"added": found.added, "removed": found.removed, "changed": found.changed}
    return {
        "before": found.before,
        "after": found.after,
        **{
            name: {"count": rows.num_rows, "first": rows.slice(0, call.limit()).to_pylist()}
            for name, rows in parts.items()
        },
    }


ROUTES = [
    Route("GET", "/api/datasets", "see", list_datasets),
    Route("GET", "/api/datasets/{name}/versions", "see", list_versions),
    Route("POST", "/api/datasets/{name}/ingest", "run", ingest),
    Route("GET", "/api/versions/{ref}", "see", show_version),
    Route("GET", "/api/versions/{ref}/profile", "see", show_profile),
    Route("GET", "/api/versions/{before}/diff/{after}", "see", diff),
]
