"""How often corrections contradict the answers."""

from __future__ import annotations

from datetime import datetime

from everloop.feedback import store
from everloop.feedback.records import Contradictions
from everloop.workspace import Workspace


def contradictions(ws: Workspace, endpoint: str, *, start: datetime, end: datetime) -> Contradictions:
    """Predictions whose answer was contradicted, by what was said in [start, end) (domain time).

    Most corrections confirm the answer, so their number is no signal; this is. A prediction that several people
    contradict counts once, and one that a reviewer found right, by what was known before `end`, does not count.
    """
    with ws.read() as connection:
        variants = store.read_variant_counts(
            connection, store.count_by_variant(endpoint, start=start, end=end)
        )
        classes = store.read_class_counts(connection, store.count_by_class(endpoint, start=start, end=end))
    return Contradictions(
        endpoint=endpoint,
        start_at=start,
        end_at=end,
        corrected=sum(one.corrected for one in variants),
        contradicted=sum(one.contradicted for one in variants),
        by_variant=tuple(variants),
        by_class=classes,
    )
