"""The review queue: asking a person about predictions, one at a time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from everloop import labels
from everloop.errors import Conflict, NotFound
from everloop.feedback import store
from everloop.feedback.labelling import Labelling, give, prepare
from everloop.feedback.outcomes import outcome_of
from everloop.feedback.records import Outcome, Prediction, ReviewItem, WaitingLabel
from everloop.feedback.truth import Dictionary
from everloop.labels import Value
from everloop.storage import Tx
from everloop.workspace import Workspace


def review_queue(
    ws: Workspace, endpoint: str | None = None, *, after: str | None = None, limit: int = 50
) -> list[ReviewItem]:
    """What waits for a reviewer, oldest first; page on with the last one's id as `after`."""
    with ws.read() as connection:
        return store.read_items(connection, store.open_items(endpoint, after=after, limit=limit))


def open_reviews(ws: Workspace, *, most: int = 10_000) -> dict[str, int]:
    """How many review items wait on each endpoint; counts no more than `most` in all."""
    with ws.read() as connection:
        return store.count_open_items(connection, most=most)


def review_item(ws: Workspace, item_id: str) -> ReviewItem:
    """One review item, open or answered. Raises NotFound."""
    with ws.read() as connection:
        found = store.item_by_id(connection, item_id)
    if found is None:
        raise NotFound(f"there is no review item {item_id!r}. 'everloop feedback queue' lists the open ones.")
    return found


def answer_review(
    ws: Workspace, item_id: str, *, value: Value, reviewer: str, at: datetime | None = None
) -> ReviewItem:
    """Close an item with the reviewer's answer, which becomes a label; of an audit also an outcome.

    A correction's review makes no outcome: it was looked at because somebody complained. Answering again with the
    same value changes nothing. Writes `review_item` and a label event or waiting label, for an audit `outcome` too,
    in one transaction.

    Raises
    ------
    NotFound
        There is no such item.
    Invalid
        The value is no label (the message names near ones), or `at` is in the future.
    Conflict
        It was answered with another value.
    """
    item = review_item(ws, item_id)
    words = Dictionary(ws).words(item.release)
    checked = words.checked(_prediction(item), value)
    labels.check_annotator(reviewer)
    said_at = labels.said_at(ws, at)
    answered = replace(item, state="answered", value=checked, reviewer=reviewer, answered_at=said_at)
    wanted = []
    if item.label_set is not None and item.key is not None:
        wanted = [
            WaitingLabel(
                item.id, item.label_set, item.key, checked, reviewer, "review", said_at, item.prediction_id
            )
        ]
    outcome = None
    if item.inclusion_probability is not None:
        outcome = outcome_of(
            words,
            _prediction(item),
            value=checked,
            source="audit",
            inclusion_probability=item.inclusion_probability,
            at=said_at,
            recorded_at=ws.now(),
        )
    labelling = prepare(ws, wanted)
    return ws.write(lambda tx: _keep(ws, tx, answered, labelling, outcome))


def _keep(
    ws: Workspace, tx: Tx, answered: ReviewItem, labelling: Labelling, outcome: Outcome | None
) -> ReviewItem:
    if not store.close_item(tx, answered):
        return _earlier(tx, answered)
    give(ws, tx, labelling, origins={answered.id})
    if outcome is not None:
        store.insert_outcome(tx, outcome)
    return answered


def _earlier(tx: Tx, answered: ReviewItem) -> ReviewItem:
    earlier = store.item_by_id(tx.connection, answered.id)
    if earlier is None or earlier.value != answered.value:
        given = "nothing" if earlier is None else f"{earlier.value!r} by {earlier.reviewer}"
        raise Conflict(
            f"{answered.id} was answered with {given}, not {answered.value!r}. Record a label for the row instead, "
            "if the answer was wrong."
        )
    return earlier


def _prediction(item: ReviewItem) -> Prediction:
    return Prediction(
        item.prediction_id,
        item.endpoint,
        item.variant,
        item.release,
        item.model,
        item.version,
        item.key,
        item.predicted_at,
        item.answer,
    )
