"""Turning what feedback learned into label events, at once or as soon as the row is in the dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from everloop import labels
from everloop.feedback import store
from everloop.feedback.records import WaitingLabel
from everloop.labels import LabelEvent, NewLabel
from everloop.storage import Tx
from everloop.workspace import Workspace

_PAGE = 2_000  # waiting labels that one transaction absorbs


@dataclass(frozen=True)
class Labelling:
    """By origin: label events that are ready to be written, and labels whose rows are not there yet."""

    events: dict[str, LabelEvent]
    waiting: dict[str, WaitingLabel]


def prepare(ws: Workspace, wanted: Sequence[WaitingLabel]) -> Labelling:
    """Find the rows of labels; nothing is written. Raises Invalid for a value that is no label."""
    by_set: dict[str, list[WaitingLabel]] = defaultdict(list)
    for one in wanted:
        by_set[one.label_set].append(one)
    events: dict[str, LabelEvent] = {}
    for name, group in by_set.items():
        prepared = labels.prepare(ws, name, [_new_label(one) for one in group])
        found = zip(group, prepared.events, strict=True)
        events |= {one.origin: event for one, event in found if event is not None}
    return Labelling(events, {one.origin: one for one in wanted if one.origin not in events})


def give(ws: Workspace, tx: Tx, labelling: Labelling, *, origins: set[str]) -> None:
    """Write the labels of these origins in the caller's transaction, or put them on the waiting list."""
    labels.append(ws, tx, [event for origin, event in labelling.events.items() if origin in origins])
    store.insert_waiting(tx, [one for origin, one in labelling.waiting.items() if origin in origins])


def absorb(ws: Workspace, name: str) -> int:
    """Turn the waiting labels of a label set into label events where their rows have arrived; how many.

    They are recorded now and keep the time at which they were said. Run it after an ingest and before a snapshot;
    several at once do no harm. Writes `label_event` and takes from `waiting_label`, one transaction a page.

    Raises
    ------
    NotFound
        There is no such label set.
    """
    current = labels.schema(ws, name)
    absorbed, after = 0, ""
    while True:
        with ws.read() as connection:
            page = store.read_waiting(connection, store.waiting_of(name, after=after, limit=_PAGE))
        if not page:
            return absorbed
        # A class may have been taken out of the taxonomy since: such a label goes on waiting for its return.
        known = [one for one in page if current.kind == "number" or one.value in current.labels]
        absorbed += _absorb(ws, prepare(ws, known))
        after = page[-1].origin


def waiting(ws: Workspace, name: str, *, limit: int = 100) -> list[WaitingLabel]:
    """Labels that wait for their rows, oldest origin first."""
    with ws.read() as connection:
        return store.read_waiting(connection, store.waiting_of(name, after="", limit=limit))


def _absorb(ws: Workspace, labelling: Labelling) -> int:
    if not labelling.events:
        return 0

    def change(tx: Tx) -> int:
        # who takes a label off the list writes it: two who absorb at once do not write it twice
        taken = [event for origin, event in labelling.events.items() if store.take_waiting(tx, origin)]
        labels.append(ws, tx, taken)
        return len(taken)

    return ws.write(change)


def _new_label(one: WaitingLabel) -> NewLabel:
    return NewLabel(
        one.key, one.value, one.annotator, source=one.source, at=one.at, prediction_id=one.prediction_id
    )
