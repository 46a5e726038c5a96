"""Drawing a random sample of predictions whose truth is then looked for, whatever the model answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime

import pyarrow as pa

from everloop.errors import Conflict, Invalid
from everloop.events import emit
from everloop.feedback import store
from everloop.feedback.predictions import live_tables, predictions_in
from everloop.feedback.records import AuditSample, Prediction, ReviewItem, fields_of
from everloop.feedback.truth import Dictionary
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.predictions import uniform
from everloop.storage import Tx
from everloop.workspace import Workspace


def sample_for_audit(
    ws: Workspace, endpoint: str, *, probability: float | Mapping[str, float], start: datetime, end: datetime
) -> AuditSample:
    """Draw predictions made in [start, end) for review, each by a hash of its id: the same ones whenever it is run.

    Replays, shadows and failed predictions are never drawn. Running it again over the same time adds items only for
    predictions that have none; where traffic runs on, end a little before now, since a request that is being answered
    is not in the log yet. Writes `review_item`, `audit_sample` and an event in one transaction.

    Parameters
    ----------
    probability
        The chance of each prediction, above 0 and at most 1: one number, or one by variant. Variants that are not
        named are not sampled.

    Raises
    ------
    Invalid
        A probability is out of range, the end is in the future or not after the start.
    Conflict
        Some of this time was sampled at other probabilities: the inclusion probability of what was drawn would no
        longer be known.
    """
    _check(ws, probability, start, end)
    considered, chosen = _draw(live_tables(ws, endpoint, start=start, end=end), probability)
    items = list(_items(ws, chosen))
    drawn = AuditSample(
        id=new_id("aud"),
        endpoint=endpoint,
        start_at=start,
        end_at=end,
        probability=dict(probability) if isinstance(probability, Mapping) else {"*": probability},
        considered=dict(considered),
        chosen=dict(Counter(one.variant for one, _ in chosen)),
        created=0,
        at=ws.now(),
        created_by=ws.actor,
    )
    return ws.write(lambda tx: _keep(ws, tx, drawn, items))


def audits(ws: Workspace, endpoint: str, *, limit: int = 100) -> list[AuditSample]:
    """The samples drawn for an endpoint, newest first: the next one begins where the first of these ends."""
    with ws.read() as connection:
        return store.read_samples(connection, store.newest_samples(endpoint, limit=limit))


def _draw(
    tables: Iterable[pa.Table], probability: float | Mapping[str, float]
) -> tuple[Counter[str], list[tuple[Prediction, float]]]:
    """How many predictions of each variant could be drawn, and those that were, each with its chance, by id."""
    considered: Counter[str] = Counter()
    chosen: list[tuple[Prediction, float]] = []
    for table in tables:
        columns: dict[str, list[str]] = table.select(["id", "variant"]).to_pydict()
        counts = Counter(columns["variant"])
        chances = {variant: _chance(probability, variant) for variant in counts}
        considered.update({variant: n for variant, n in counts.items() if chances[variant]})
        of_each = [chances[variant] for variant in columns["variant"]]
        rows = [row for row, one in enumerate(columns["id"]) if uniform(one) < of_each[row]]
        found = predictions_in(table.take(pa.array(rows, pa.int64())))
        # the log keeps those below its own share by the same number: whoever is in both samples had the smaller chance
        chosen += ((one, min(of_each[row], one.logged)) for one, row in zip(found, rows, strict=True))
    return considered, sorted(chosen, key=lambda pair: pair[0].id)


def _keep(ws: Workspace, tx: Tx, drawn: AuditSample, items: Sequence[ReviewItem]) -> AuditSample:
    tx.lock(f"feedback:{drawn.endpoint}")
    _check_design(
        store.overlapping_samples(tx.connection, drawn.endpoint, start=drawn.start_at, end=drawn.end_at),
        drawn,
    )
    known = store.origins_known(tx.connection, [one.origin for one in items])
    new = [one for one in items if one.origin not in known]
    kept = AuditSample(**{**vars(drawn), "created": len(new)})
    store.insert_items(tx, new)
    store.insert_sample(tx, kept)
    if new:
        told = (
            f"{len(new)} of {sum(kept.considered.values())} predictions of {kept.endpoint} drawn for review"
        )
        emit(ws, tx, "feedback.audit", Node("endpoint", kept.endpoint), message=told)
    return kept


def _check_design(overlapping: Sequence[AuditSample], drawn: AuditSample) -> None:
    for one in overlapping:
        if one.probability != drawn.probability:
            raise Conflict(
                f"the time from {one.start_at.isoformat()} to {one.end_at.isoformat()} was sampled with the "
                f"probabilities {one.probability}, not {drawn.probability}; one time has one design, else nobody knows "
                "what an outcome stands for. Begin the new design where the old one ends."
            )


def _items(ws: Workspace, chosen: Sequence[tuple[Prediction, float]]) -> Iterator[ReviewItem]:
    words = Dictionary(ws)
    now = ws.now()
    for one, chance in chosen:
        yield ReviewItem(
            id=new_id("rev"),
            **fields_of(one),
            reason="audit",
            origin=one.id,
            label_set=words.words(one.release).label_set,
            suggested=None,
            inclusion_probability=chance,
            created_at=now,
        )


def _chance(probability: float | Mapping[str, float], variant: str) -> float:
    return probability.get(variant, 0.0) if isinstance(probability, Mapping) else probability


def _check(ws: Workspace, probability: float | Mapping[str, float], start: datetime, end: datetime) -> None:
    chances = probability.values() if isinstance(probability, Mapping) else [probability]
    for chance in chances:
        if not 0 < chance <= 1:
            raise Invalid(
                f"the probability is {chance}; it is above 0 and at most 1. Use 0.02 for one in fifty."
            )
    if start >= end or end > ws.now():
        raise Invalid(
            f"the sample is to be drawn from {start.isoformat()} to {end.isoformat()}; the end comes after the start "
            f"and is not in the future (it is {ws.now().isoformat()} now)."
        )
