"""Removing what is older than its endpoint keeps, from sealed segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from everloop.predictions import sealed
from everloop.predictions.sealed import Span


@dataclass(frozen=True)
class Old:
    """The records of one endpoint in one sealed segment, all of them older than it keeps."""

    path: Path
    endpoint: str
    span: Span


def old_in(path: Path, before: Mapping[str, datetime]) -> list[Old]:
    """What of a segment is older than its endpoint's moment, endpoint by endpoint, read from the file's footer.

    An endpoint's records go together, when the youngest of them is old: a segment is an hour, or 64 MB, and is written
    again once and not every day.
    """
    try:
        found = sealed.spans(path)
    except FileNotFoundError:
        return []  # another process removed it
    return [
        Old(path, name, span) for name, span in found.items() if name in before and span.last < before[name]
    ]


def remove_old(path: Path, schema: pa.Schema, old: list[Old]) -> None:
    """Write the segment without them, or remove it when nothing else is in it."""
    going: pa.Array[Any] = pa.array([one.endpoint for one in old], pa.string())
    try:
        sealed.rewrite(
            path, schema, lambda batch: batch.filter(pc.invert(pc.is_in(batch["endpoint"], going)))
        )
    except FileNotFoundError:
        return
