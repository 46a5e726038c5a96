from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from everloop.feedback import Outcome, store
from everloop.workspace import Workspace
from tests.conftest import START
from tests.labels.plans import query_plan

WINDOW: dict[str, Any] = {"start": START, "end": START}


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (store.newest_corrections("kind", **WINDOW, limit=10), "ix_correction_endpoint"),
        (store.count_by_variant("kind", **WINDOW), "ix_correction_endpoint"),
        (store.count_by_class("kind", **WINDOW), "ix_correction_endpoint"),
        (store.outcomes_of("kind", **WINDOW, source=None, after=None), "ix_outcome_endpoint"),
        (store.outcomes_of("kind", **WINDOW, source="audit", after=(START, "out_1")), "ix_outcome_endpoint"),
        (store.open_items("kind", after="rev_1", limit=10), "ix_review_item_queue"),
        (store.newest_samples("kind", limit=10), "ix_audit_sample_endpoint"),
        (store.waiting_of("kind", after="corr_1", limit=10), "ix_waiting_label_set"),
    ],
    ids=["corrections", "variants", "classes", "outcomes", "next outcomes", "queue", "samples", "waiting"],
)
def test_what_can_grow_is_found_by_an_index(
    any_ws: Workspace, statement: sa.Select[tuple[object, ...]], index: str
) -> None:
    with any_ws.read() as connection:
        plan = query_plan(connection, statement)
    assert index in plan
    assert "SCAN" not in plan, "not the whole table"


def test_outcomes_are_read_page_by_page(ws: Workspace) -> None:
    for number in range(7):
        ws.write(lambda tx, number=number: store.insert_outcomes(tx, [_outcome(number)]))  # type: ignore[misc]
    end = START.replace(day=2)
    with ws.read() as connection:
        whole = list(store.read_outcomes(connection, "kind", start=START, end=end, source=None))
        paged = list(store.read_outcomes(connection, "kind", start=START, end=end, source=None, page=3))
    assert whole == paged
    assert [one.id for one in whole] == [f"out_{number}" for number in range(7)]


def _outcome(number: int) -> Outcome:
    return Outcome(
        id=f"out_{number}",
        endpoint="kind",
        prediction_id=f"pred_{number}",
        key=None,
        value="TVs",
        source="audit",
        inclusion_probability=0.5,
        at=START,
        recorded_at=START,
        answer="TVs",
        is_correct=True,
        variant="control",
        release="rel_1",
        model="kind",
        version=1,
        predicted_at=START,
    )
