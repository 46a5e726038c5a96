"""Webhooks that people add: told once it is committed, signed, tried again, and never led into the private network."""

from __future__ import annotations

import base64
import hmac
import socket
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
import sqlalchemy as sa

from everloop import background, events
from everloop.errors import Invalid, NotFound
from everloop.events.webhooks import deliveries
from everloop.ledger import Node, entries, verify
from everloop.storage import Tx
from everloop.workspace import Workspace
from tests.receiver import Receiver, receiving

KIND = "model_version.created"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture
def near(any_ws: Workspace) -> Workspace:
    """A workspace whose webhooks may be on this machine."""
    return replace(any_ws, settings=replace(any_ws.settings, webhook_allow_private=True))


def happen(ws: Workspace, **data: Any) -> None:
    ws.write(lambda tx: events.announce(ws, tx, KIND, {"name": "category", **data}))


def due_now(ws: Workspace) -> None:
    ws.write(lambda tx: tx.execute(sa.update(deliveries).values(due_at=tx.wall())))


def waiting(ws: Workspace) -> list[tuple[int, bool, str | None]]:
    with ws.read() as connection:
        rows = connection.execute(sa.select(deliveries).order_by(deliveries.c.id))
        return [(row.attempts, row.ended_at is not None, row.failure) for row in rows]


def test_what_happens_is_told_in_mlflows_form(near: Workspace, receiver: Receiver) -> None:
    events.add_webhook(near, "ci", receiver.url, [KIND])
    happen(near, version="1")
    assert background.is_due(near)
    assert events.deliver(near) == 1
    assert not events.has_undelivered(near)
    (got,) = receiver.got
    assert got == {
        "entity": "model_version",
        "action": "created",
        "timestamp": near.now().isoformat(),
        "data": {"name": "category", "version": "1"},
    }


def test_a_delivery_is_signed_as_mlflow_signs(near: Workspace, receiver: Receiver) -> None:
    events.add_webhook(near, "ci", receiver.url, [KIND], secret="s3cret")
    happen(near)
    events.deliver(near)
    ((headers, body),) = receiver.raw
    told = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(b"s3cret", told, sha256).digest()).decode()
    assert headers["X-MLflow-Signature"] == f"v1,{expected}"


def test_the_secret_is_kept_outside_the_database_for_its_owner_alone(
    near: Workspace, receiver: Receiver
) -> None:
    made = events.add_webhook(near, "ci", receiver.url, [KIND], secret="s3cret")
    (path,) = (near.home / "keys" / "kept").iterdir()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("s3cret", 0o600)
    assert "s3cret" not in str(events.webhook(near, made.id)) + str(entries(near))
    events.change_webhook(near, made.id, secret="other")
    (changed,) = (near.home / "keys" / "kept").iterdir()
    assert changed.read_text() == "other"
    events.remove_webhook(near, made.id)
    assert list((near.home / "keys" / "kept").iterdir()) == []


def test_nothing_is_sent_unsigned_when_the_secret_is_gone(near: Workspace, receiver: Receiver) -> None:
    events.add_webhook(near, "ci", receiver.url, [KIND], secret="s3cret")
    for path in (near.home / "keys" / "kept").iterdir():
        path.unlink()
    happen(near)
    assert events.deliver(near) == 0
    assert receiver.got == []


def test_what_did_not_happen_is_not_told(near: Workspace, receiver: Receiver) -> None:
    events.add_webhook(near, "ci", receiver.url, [KIND])

    def fails(tx: Tx) -> None:
        events.announce(near, tx, KIND, {})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        near.write(fails)
    assert events.deliver(near) == 0


def test_only_those_who_want_to_know_are_told(near: Workspace, receiver: Receiver) -> None:
    events.add_webhook(near, "tags", receiver.url, ["model_version_tag.set"])
    events.add_webhook(near, "off", receiver.url, [KIND], is_active=False)
    happen(near)
    assert waiting(near) == []


def test_a_failed_delivery_is_repeated_under_the_same_id_and_given_up_in_the_end(
    near: Workspace, receiver: Receiver
) -> None:
    events.add_webhook(near, "ci", receiver.url, [KIND])
    happen(near)
    receiver.statuses = [500] * 10
    for _ in range(10):
        due_now(near)
        assert events.deliver(near) == 0
    ids = {headers["X-MLflow-Delivery-Id"] for headers, _ in receiver.raw}
    assert (len(receiver.raw), len(ids)) == (10, 1)
    ((attempts, is_over, failure),) = waiting(near)
    assert (attempts, is_over) == (10, True)
    assert "500" in (failure or "")
    due_now(near)
    assert not events.has_undelivered(near)


def test_redirects_are_not_followed(near: Workspace, receiver: Receiver) -> None:
    receiver.statuses = [302]
    made = events.add_webhook(near, "ci", receiver.url, [KIND])
    assert events.try_webhook(near, made.id, KIND, {}).status == 302
    assert len(receiver.raw) == 1


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0", "2130706433"]
)
def test_nothing_reaches_the_private_network(any_ws: Workspace, receiver: Receiver, host: str) -> None:
    made = events.add_webhook(any_ws, "ssrf", receiver.url.replace("127.0.0.1", host), [KIND])
    happen(any_ws)
    assert events.deliver(any_ws) == 0
    attempt = events.try_webhook(any_ws, made.id, KIND, {})
    assert attempt.status is None
    assert "not public" in (attempt.failure or "")
    assert receiver.raw == []


def test_a_name_is_looked_up_once_and_the_connection_goes_to_what_was_checked(
    near: Workspace, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    really = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(str(host))
        return really("127.0.0.1" if host == "rebinding.example" else host, port, *args, **kwargs)

    monkeypatch.setattr(
        socket, "getaddrinfo", answer
    )  # the far end of the network: a name server that changes its mind
    url = receiver.url.replace("127.0.0.1", "rebinding.example")
    refused = events.add_webhook(near, "name", url, [KIND])
    assert asked == []  # not when it is added
    strict = replace(near, settings=replace(near.settings, webhook_allow_private=False))
    assert "not public" in (events.try_webhook(strict, refused.id, KIND, {}).failure or "")
    assert events.try_webhook(near, refused.id, KIND, {}).status == 200
    assert asked.count("rebinding.example") == 2  # once for each attempt
    assert receiver.raw[0][0]["Host"].startswith("rebinding.example")


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "http:///x", "http://u:p@example.org/",
     "http://example.org:99999/", "http://[::1", "http://example.org/a b", "http://example.org/\n", "h" * 3_000,
     "javascript:alert(1)"],
)  # fmt: skip
def test_an_address_that_cannot_be_is_refused(ws: Workspace, url: str) -> None:
    with pytest.raises(Invalid, match="address"):
        events.add_webhook(ws, "ci", url, [KIND])
    assert not (ws.home / "keys" / "kept").exists()


def test_a_webhook_is_changed_and_removed_and_both_are_audited(near: Workspace, receiver: Receiver) -> None:
    made = events.add_webhook(near, "ci", receiver.url, [KIND], description="for builds")
    changed = events.change_webhook(near, made.id, name="cd", is_active=False)
    assert (changed.name, changed.url, changed.is_active) == ("cd", receiver.url, False)
    assert events.list_webhooks(near) == [changed]
    with pytest.raises(Invalid):
        events.change_webhook(near, made.id, url="ftp://x")
    events.change_webhook(near, made.id, is_active=True)
    happen(near)
    events.remove_webhook(near, made.id)
    assert events.deliver(near) == 0
    with pytest.raises(NotFound):
        events.webhook(near, made.id)
    acts = [one.act for one in entries(near, subject=Node("webhook", made.id))]
    assert acts == ["webhook.remove", "webhook.change", "webhook.change", "webhook.add"]
    assert verify(near).is_intact


def test_what_waits_for_a_webhook_that_was_turned_off_is_not_sent(
    near: Workspace, receiver: Receiver
) -> None:
    made = events.add_webhook(near, "ci", receiver.url, [KIND])
    happen(near)
    events.change_webhook(near, made.id, is_active=False)
    assert events.deliver(near) == 0
    assert waiting(near) == [(1, True, "the webhook was turned off")]
    assert receiver.raw == []
