"""Corrections: somebody says what an answer should have been."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from everloop import labels
from everloop.errors import Invalid
from everloop.feedback import store
from everloop.feedback.labelling import Labelling, give, prepare
from everloop.feedback.predictions import by_id, by_key
from everloop.feedback.records import Correction, Fate, Prediction, ReviewItem, WaitingLabel, fields_of
from everloop.feedback.truth import Dictionary, Words
from everloop.ids import new_id
from everloop.labels import Value
from everloop.storage import Tx
from everloop.workspace import Workspace


def correct(
    ws: Workspace,
    *,
    endpoint: str,
    value: Value,
    reporter: str,
    prediction_id: str | None = None,
    key: str | int | None = None,
    at: datetime | None = None,
) -> Correction:
    """Keep what a reporter says the answer should have been, and do with it what the label set says of the reporter.

    Saying the same again changes nothing: the first correction is given back. Writes `correction` and, by the rule,
    a label event, a waiting label or a review item, in one transaction.

    Parameters
    ----------
    prediction_id, key
        The prediction: by its id, or the newest one for a key that is not later than `at`.
    at
        When it was said (domain time), None for now.

    Raises
    ------
    NotFound
        There is no such prediction.
    Invalid
        It takes no feedback (a replay, a shadow, no answer), was made after `at`, the value is no label (the
        message names near ones), `at` is in the future, or not exactly one of `prediction_id` and `key` is given.
    """
    if (prediction_id is None) == (key is None):
        raise Invalid("a correction names its prediction by prediction_id or by key, one of them. Give one.")
    said_at = labels.said_at(ws, at)
    if prediction_id is not None:
        prediction = by_id(ws, endpoint, prediction_id)
    else:
        prediction = by_key(ws, endpoint, str(key), at=said_at)
    new = planned(ws, Dictionary(ws), prediction, value=value, reporter=reporter, at=said_at)
    ((kept, _),) = keep(ws, endpoint, [new])
    return kept


def planned(
    ws: Workspace, words: Dictionary, prediction: Prediction, *, value: object, reporter: str, at: datetime
) -> Correction:
    """The correction that would be kept; nothing is written. Raises Invalid."""
    if at < prediction.at:
        raise Invalid(
            f"{prediction.id} was made at {prediction.at.isoformat()}, after the correction of {at.isoformat()}; "
            "an answer cannot be corrected before it is given. Check the time, or name the earlier prediction."
        )
    labels.check_annotator(reporter)
    of = words.words(prediction.release)
    checked = of.checked(prediction, value)
    return Correction(
        id=new_id("corr"),
        **fields_of(prediction),
        value=checked,
        reporter=reporter,
        at=at,
        recorded_at=ws.now(),
        contradicts=of.differ(prediction.answer, checked),
        label_set=of.label_set,
        fate=_fate(of, prediction, reporter),
    )


def keep(ws: Workspace, endpoint: str, new: Sequence[Correction]) -> list[tuple[Correction, bool]]:
    """Write corrections of one endpoint in one transaction; each with whether it is new or was known already."""
    labelling = prepare(ws, [_label(one) for one in new if one.fate == "accept"])
    return ws.write(lambda tx: _keep(ws, tx, endpoint, new, labelling))


def corrections(
    ws: Workspace,
    endpoint: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 1000,
) -> list[Correction]:
    """The newest corrections by the time they were said, in [start, end), newest first."""
    with ws.read() as connection:
        wanted = store.newest_corrections(endpoint, start=start, end=end, limit=limit)
        return store.read_corrections(connection, wanted)


def corrections_of(ws: Workspace, prediction_id: str) -> list[Correction]:
    """What was said about one prediction, in the order in which it was recorded."""
    with ws.read() as connection:
        return store.corrections_of_predictions(connection, [prediction_id])


def _fate(words: Words, prediction: Prediction, reporter: str) -> Fate:
    if words.today is None or prediction.key is None:
        return "keep"
    return words.today.report_rule(reporter)


def _keep(
    ws: Workspace, tx: Tx, endpoint: str, new: Sequence[Correction], labelling: Labelling
) -> list[tuple[Correction, bool]]:
    tx.lock(f"feedback:{endpoint}")
    recorded_at = ws.now()
    known = _Known(
        store.corrections_of_predictions(tx.connection, sorted({one.prediction_id for one in new}))
    )
    kept: list[tuple[Correction, bool]] = []
    for one in new:
        earlier = known.same_as(one)
        kept.append((earlier or known.add(replace(one, recorded_at=recorded_at)), earlier is None))
    fresh = [one for one, is_new in kept if is_new]
    store.insert_corrections(tx, fresh)
    give(ws, tx, labelling, origins={one.id for one in fresh})
    store.insert_items(tx, [_item(one) for one in fresh if one.fate == "review"])
    return kept


class _Known:
    """What reporters have said about some predictions."""

    def __init__(self, earlier: Iterable[Correction]) -> None:
        self._said: dict[tuple[str, str], list[Correction]] = defaultdict(list)
        for one in earlier:
            self.add(one)

    def add(self, one: Correction) -> Correction:
        said = self._said[one.prediction_id, one.reporter]
        said.append(one)
        said.sort(key=lambda each: (each.at, each.id))
        return one

    def same_as(self, one: Correction) -> Correction | None:
        """The earlier correction that this one repeats: said at the same moment, or the reporter's last word by then."""
        until = [each for each in self._said[one.prediction_id, one.reporter] if each.at <= one.at]
        repeats = [each for each in until if each.at == one.at] or until[-1:]
        return next((each for each in repeats if each.value == one.value), None)


def _label(one: Correction) -> WaitingLabel:
    return WaitingLabel(
        origin=one.id,
        label_set=str(one.label_set),
        key=str(one.key),
        value=one.value,
        annotator=one.reporter,
        source="correction",
        at=one.at,
        prediction_id=one.prediction_id,
    )


def _item(one: Correction) -> ReviewItem:
    return ReviewItem(
        id=new_id("rev"),
        endpoint=one.endpoint,
        reason="correction",
        origin=one.id,
        prediction_id=one.prediction_id,
        key=one.key,
        label_set=one.label_set,
        answer=one.answer,
        suggested=one.value,
        inclusion_probability=None,
        variant=one.variant,
        release=one.release,
        model=one.model,
        version=one.version,
        predicted_at=one.predicted_at,
        created_at=one.recorded_at,
    )
