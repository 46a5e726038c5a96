from __future__ import annotations

import pytest

from everloop.ledger import Node, downstream, link, upstream
from everloop.storage import Tx
from everloop.workspace import Workspace

FILE, DATA, RUN, MODEL = (
    Node("file", "f1"),
    Node("dataset_version", "listings@1"),
    Node("run", "run_1"),
    Node("model_version", "category@1"),
)


def record_chain(ws: Workspace) -> None:
    def change(tx: Tx) -> None:
        for source, target in ((FILE, DATA), (DATA, RUN), (RUN, MODEL)):
            link(tx, source, target, role="made", at=ws.now())

    ws.write(change)


def test_upstream_reaches_the_file_that_a_model_came_from(any_ws: Workspace) -> None:
    record_chain(any_ws)
    assert [edge.source for edge in upstream(any_ws, MODEL)] == [RUN, DATA, FILE]


def test_downstream_reaches_the_model_that_a_file_went_into(any_ws: Workspace) -> None:
    record_chain(any_ws)
    assert [edge.target for edge in downstream(any_ws, FILE)] == [DATA, RUN, MODEL]


def test_recording_an_edge_again_changes_nothing(any_ws: Workspace) -> None:
    record_chain(any_ws)
    record_chain(any_ws)
    assert len(upstream(any_ws, MODEL)) == 3


def test_a_circle_ends(ws: Workspace) -> None:
    record_chain(ws)
    ws.write(lambda tx: link(tx, MODEL, FILE, role="suggested", at=ws.now()))
    assert len(upstream(ws, MODEL)) == 4


def test_an_edge_goes_with_its_change(any_ws: Workspace) -> None:
    def fails(tx: Tx) -> None:
        link(tx, FILE, DATA, role="made", at=any_ws.now())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        any_ws.write(fails)
    assert upstream(any_ws, DATA) == []
