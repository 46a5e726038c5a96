"""The newest predictions, each with what was said of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from everloop import predictions
from everloop.feedback import store
from everloop.feedback.records import Correction, Outcome
from everloop.predictions import PredictionRecord, PredictionSearch
from everloop.workspace import Workspace

_MOST_SAID = 10_000  # corrections among which those of a page are looked for, the newest

Said = Literal["corrected", "contradicted"]


@dataclass(frozen=True)
class Exchange:
    """A prediction, the corrections of it in the order in which they came, and its newest outcome if there is one."""

    prediction: PredictionRecord
    corrections: tuple[Correction, ...]
    outcome: Outcome | None


@dataclass(frozen=True)
class Exchanges:
    """The newest first; earlier ones are asked for with `before`, None: there are none."""

    found: tuple[Exchange, ...]
    looked_at: int
    before: str | None


def exchanges(
    ws: Workspace,
    search: PredictionSearch,
    *,
    said: Said | None = None,
    limit: int = 50,
    before: str | None = None,
) -> Exchanges:
    """The newest predictions that fit, with what was said of them; `said` asks for those that were corrected alone.

    These are looked for among the newest 10,000 corrections. A call takes about a third of a second at most: when `before`
    is given back with fewer than `limit`, there may be more further back.
    """
    if said is not None:
        wanted = store.corrected_ids(
            search.endpoint, only_contradicted=said == "contradicted", limit=_MOST_SAID
        )
        with ws.read() as connection:
            search = replace(search, ids=frozenset(connection.execute(wanted).scalars()))
    page = predictions.newest_predictions(
        ws.home / "serving", search, limit=limit, before=before, is_simulation=ws.is_simulation
    )
    return Exchanges(_with_words(ws, page.records), page.looked_at, page.before)


def _with_words(ws: Workspace, records: Sequence[PredictionRecord]) -> tuple[Exchange, ...]:
    ids = [one.id for one in records]
    with ws.read() as connection:
        corrections = store.corrections_of_predictions(connection, ids)
        outcomes = store.outcomes_of_predictions(connection, ids)
    by_id: dict[str, list[Correction]] = defaultdict(list)
    for one in corrections:
        by_id[one.prediction_id].append(one)
    newest = {one.prediction_id: one for one in outcomes}
    return tuple(Exchange(one, tuple(by_id[one.id]), newest.get(one.id)) for one in records)
