from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
import sqlalchemy as sa

from everloop import events
from everloop.errors import Invalid
from everloop.events.guarded import checked_address
from everloop.events.outbox import Level
from everloop.events.outbox import events as table
from everloop.ledger import Node
from everloop.settings import load_settings
from everloop.storage import Tx
from everloop.workspace import Workspace, open_workspace
from tests.receiver import Receiver, receiving

ENDPOINT = Node("endpoint", "category")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def hooked(ws: Workspace, receiver: Receiver) -> Iterator[Workspace]:
    settings = load_settings(ws.home, webhook_url=receiver.url, webhook_allow_private=True)
    with open_workspace(settings=settings) as workspace:
        yield workspace


def tell(ws: Workspace, level: Level = "attention") -> str:
    return ws.write(
        lambda tx: events.emit(ws, tx, "drift.found", ENDPOINT, message="titles moved", level=level)
    )


def due_now(ws: Workspace) -> None:
    ws.write(lambda tx: tx.execute(sa.update(table).values(due_at=tx.wall())))


def test_an_event_goes_with_its_cause(any_ws: Workspace) -> None:
    def fails(tx: Tx) -> None:
        events.emit(any_ws, tx, "drift.found", ENDPOINT, message="never happened")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        any_ws.write(fails)
    assert events.newest(any_ws) == []


def test_an_event_is_told_to_the_log_once(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    tell(ws)
    with caplog.at_level(logging.INFO, "everloop.events"):
        assert events.deliver(ws) == 1
        assert events.deliver(ws) == 0
    assert [record.getMessage() for record in caplog.records] == ["drift.found: titles moved"]


def test_an_alert_reaches_the_webhook(hooked: Workspace, receiver: Receiver) -> None:
    event_id = tell(hooked)
    events.deliver(hooked)
    (got,) = receiver.got
    assert (got["id"], got["kind"], got["message"]) == (event_id, "drift.found", "titles moved")
    assert got["subject"] == {"kind": "endpoint", "id": "category"}


def test_good_news_stays_in_the_log(hooked: Workspace, receiver: Receiver) -> None:
    tell(hooked, level="info")
    assert events.deliver(hooked) == 1
    assert receiver.got == []


def test_a_failed_delivery_is_repeated_under_the_same_id(hooked: Workspace, receiver: Receiver) -> None:
    receiver.statuses = [500]
    event_id = tell(hooked)
    assert events.deliver(hooked) == 0
    (event,) = events.newest(hooked)
    assert "500" in (event.failure or "")
    due_now(hooked)
    assert events.deliver(hooked) == 1
    assert [got["id"] for got in receiver.got] == [event_id, event_id]


def test_redirects_are_not_followed(hooked: Workspace, receiver: Receiver) -> None:
    receiver.statuses = [302]
    tell(hooked)
    assert events.deliver(hooked) == 0
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:8400/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://0.0.0.0/",
        "http://2130706433/",
        "http://127.1/",
        "http://0x7f000001/",
        "http://0177.0.0.1/",
        "http://[::ffff:169.254.169.254]/",
        "http://[::]/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://[2002:7f00:1::]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2001:0:7f00:1::]/",
        "http://224.0.0.1/",
        "http://100.64.0.1/",
        "http://192.168.1.1:80@127.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://no-such-host.invalid/",
    ],
)
def test_a_webhook_into_the_private_network_is_refused(url: str) -> None:
    with pytest.raises((Invalid, httpx.InvalidURL)):
        checked_address(httpx.URL(url), allow_private=False)


def test_events_are_listed_by_family_subject_and_level(ws: Workspace) -> None:
    tell(ws)
    tell(ws, level="info")
    assert len(events.newest(ws, kind="drift.")) == 2
    assert len(events.newest(ws, kind="drift")) == 0
    assert len(events.newest(ws, subject=ENDPOINT, levels=("attention",))) == 1
    assert len(events.newest(ws, before=events.newest(ws)[0].id)) == 1
