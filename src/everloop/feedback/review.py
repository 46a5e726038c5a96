"""The review queue: asking a person about predictions, one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    return answer_reviews(ws, {item_id: value}, reviewer=reviewer, at=at)[0]


def answer_reviews(
    ws: Workspace, answers: Mapping[str, Value], *, reviewer: str, at: datetime | None = None
) -> list[ReviewItem]:
    """As `answer_review`, for several items by id in one transaction: all of them or, when one is refused, none."""
    labels.check_annotator(reviewer)
    said_at = labels.said_at(ws, at)
    words = Dictionary(ws)
    given = [
        _given(ws, words, review_item(ws, item_id), value, reviewer, said_at)
        for item_id, value in answers.items()
    ]
    labelling = prepare(ws, [one.label for one in given if one.label is not None])
    return ws.write(lambda tx: _keep(ws, tx, given, labelling))


@dataclass(frozen=True)
class _Given:
    """An answer as it would be kept: the closed item, the label and the outcome that it makes."""

    item: ReviewItem
    label: WaitingLabel | None
    outcome: Outcome | None


def _given(
    ws: Workspace, dictionary: Dictionary, item: ReviewItem, value: object, reviewer: str, said_at: datetime
) -> _Given:
    prediction = _prediction(item)
    words = dictionary.words(item.release)
    checked = words.checked(prediction, value)
    label = outcome = None
    if item.label_set is not None and item.key is not None:
        label = WaitingLabel(
            item.id, item.label_set, item.key, checked, reviewer, "review", said_at, item.prediction_id
        )
    if item.inclusion_probability is not None:
        outcome = outcome_of(
            words,
            prediction,
            value=checked,
            source="audit",
            inclusion_probability=item.inclusion_probability,
            at=said_at,
            recorded_at=ws.now(),
        )
    answered = replace(item, state="answered", value=checked, reviewer=reviewer, answered_at=said_at)
    return _Given(answered, label, outcome)


def _keep(ws: Workspace, tx: Tx, given: Sequence[_Given], labelling: Labelling) -> list[ReviewItem]:
    closed = {one.item.id for one in given if store.close_item(tx, one.item)}
    give(ws, tx, labelling, origins=closed)
    store.insert_outcomes(
        tx, [one.outcome for one in given if one.outcome is not None and one.item.id in closed]
    )
    return [one.item if one.item.id in closed else _earlier(tx, one.item) for one in given]


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
