"""`/rows/DATASET:KEY`: one row as it is now, and what was said of it."""

from __future__ import annotations

from everloop import data, labels
from everloop.errors import NotFound
from everloop.web.visits import Shown, Visit

_LONGEST = 2_000  # characters of one value


def view(visit: Visit) -> Shown:
    ref = visit.path["ref"]
    dataset, _, key = ref.partition(":")
    version = data.version(visit.ws, dataset)
    rows = data.rows_by_key(visit.ws, version.ref, [key])
    if not rows.num_rows:
        raise NotFound(
            f"{version.ref} has no row with the key {key!r}. A row is written DATASET:KEY, for example {dataset}:1."
        )
    (row,) = rows.slice(0, 1).to_pylist()
    row_id = int(row.pop(data.ROW_ID))
    said = [
        {"label_set": one.name, "events": labels.events_of(visit.ws, one.name, row_id)}
        for one in labels.label_sets(visit.ws)
        if one.dataset == dataset
    ]
    shown = {name: _shown(value) for name, value in row.items()}
    return {"ref": ref, "version": version, "row_id": row_id, "row": shown, "said": said}


def _shown(value: object) -> object:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    return value if not isinstance(value, str) or len(value) <= _LONGEST else value[:_LONGEST] + " …"
