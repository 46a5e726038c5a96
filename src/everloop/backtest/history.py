"""What a workspace knows, and since when: rows by their own time, labels by when they were given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop import data, labels
from everloop.clock import from_micros, to_micros
from everloop.errors import Invalid
from everloop.labels import LabelEvent, NewLabel
from everloop.loop import DeclaredDataset, DeclaredEndpoint, DeclaredLabels, Loop
from everloop.workspace import Workspace

_PAGE = 10_000
_MICROSECOND = timedelta(microseconds=1)
D = TypeVar("D", DeclaredDataset, DeclaredEndpoint, DeclaredLabels)


@dataclass(frozen=True)
class History:
    """Rows in the order of their time, and labels in the order in which they became known, each with that time."""

    dataset: DeclaredDataset
    labels: DeclaredLabels
    endpoint: DeclaredEndpoint
    rows: pa.Table
    times: NDArray[np.int64]  # (n_rows,) microseconds since 1970
    given: tuple[tuple[datetime, NewLabel], ...]

    @property
    def keys(self) -> list[str]:
        """(n_rows,) the key of each row, as text."""
        return [str(key) for key in self.rows[self.dataset.key].to_pylist()]

    @property
    def end(self) -> datetime:
        """Just after the last row."""
        return from_micros(int(self.times[-1])) + _MICROSECOND

    @property
    def middle(self) -> datetime:
        """The first midnight (UTC) by which half of the labels are known."""
        at = self.given[(len(self.given) - 1) // 2][0]
        return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)

    def rows_between(self, start: datetime | None, end: datetime) -> slice:
        """Which rows have start <= time < end."""
        first = 0 if start is None else int(np.searchsorted(self.times, to_micros(start)))
        return slice(first, int(np.searchsorted(self.times, to_micros(end))))


def read_history(ws: Workspace, loop: Loop, *, labels_after: timedelta | None = None) -> History:
    """The newest version of the loop's dataset and everything that was said about its rows; all of it in memory.

    Parameters
    ----------
    labels_after
        When a label became known: so long after its row's own time. None: when it was given, as is on record, but
        not before its row.

    Raises
    ------
    Invalid
        The loop has not exactly one dataset, label set and endpoint, the dataset has no time, or nothing is labelled.
    NotFound
        The workspace has no such dataset or label set.
    """
    dataset, label_set = _only(loop, DeclaredDataset), _only(loop, DeclaredLabels)
    if dataset.time is None:
        raise Invalid(
            f"the dataset {dataset.name!r} has no time, so nobody can say what was known on which day. Declare it with "
            "the column that says when a row happened: el.dataset(..., time=...)."
        )
    rows = data.read(ws, dataset.name).drop_columns([data.ROW_ID])
    rows = rows.filter(pc.is_valid(rows[dataset.time])).sort_by(dataset.time)
    times = np.asarray(rows[dataset.time].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    keys = [str(key) for key in rows[dataset.key].to_pylist()]
    happened = dict(zip(keys, times.tolist(), strict=True))
    given = []
    for event in _events(ws, label_set.name):
        if event.key in happened:
            row_at = from_micros(happened[event.key])
            known_at = max(event.at, row_at) if labels_after is None else row_at + labels_after
            given.append((known_at, _as_new(event, known_at)))
    if not given:
        raise Invalid(
            f"no row of {dataset.name!r} has a label in {label_set.name!r}, so there is nothing to learn from. "
            "Import labels first: everloop labels import."
        )
    given.sort(key=lambda one: one[0])
    return History(dataset, label_set, _only(loop, DeclaredEndpoint), rows, times, tuple(given))


def _only(loop: Loop, kind: type[D]) -> D:
    found = loop.declared.of(kind)
    if len(found) != 1:
        raise Invalid(
            f"{loop.file.name} declares {len(found)} of the kind {kind.kind!r}; a backtest replays one dataset, one "
            "label set and one endpoint. Give it a loop file with one of each."
        )
    return found[0]


def _events(ws: Workspace, name: str) -> Iterator[LabelEvent]:
    before = None
    while page := labels.history(ws, name, before=before, limit=_PAGE):
        yield from page
        before = page[-1].id


def _as_new(event: LabelEvent, at: datetime) -> NewLabel:
    return NewLabel(
        event.key, event.value, event.annotator, at=at, shown=event.shown, duration_ms=event.duration_ms
    )
