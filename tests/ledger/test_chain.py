from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from everloop.clock import SimulatedClock
from everloop.errors import Invalid
from everloop.ledger import Node, audit, entries, head, verify
from everloop.ledger.chain import log
from everloop.storage import Tx
from everloop.workspace import Workspace

MODEL = Node("model_version", "category@1")


def act(ws: Workspace, name: str = "registry.approve", **detail: Any) -> None:
    ws.write(
        lambda tx: audit(
            ws, tx, name, MODEL, before={"stage": "dev"}, after={"stage": "production"}, **detail
        )
    )


def tamper(ws: Workspace, statement: sa.Executable) -> None:
    ws.write(lambda tx: tx.execute(statement))


def test_an_act_is_recorded_with_who_what_when(any_ws: Workspace) -> None:
    act(any_ws.acting_as("alice"), reason="looks good")
    (entry,) = entries(any_ws, subject=MODEL)
    assert (entry.actor, entry.act, entry.at) == ("alice", "registry.approve", any_ws.now())
    assert entry.detail == {"reason": "looks good"}
    assert entry.before != entry.after


def test_an_untouched_chain_verifies(any_ws: Workspace) -> None:
    for _ in range(5):
        act(any_ws)
    verdict = verify(any_ws)
    assert verdict.is_intact
    assert (verdict.entries, verdict.head) == (5, head(any_ws))


def test_a_chain_written_by_many_threads_verifies(any_ws: Workspace) -> None:
    def act_often() -> None:
        for _ in range(10):
            act(any_ws)

    threads = [threading.Thread(target=act_often) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdict = verify(any_ws)
    assert (verdict.entries, verdict.problems) == (40, ())


def test_two_acts_in_one_change_follow_each_other(ws: Workspace) -> None:
    def change(tx: Tx) -> None:
        audit(ws, tx, "first", MODEL)
        audit(ws, tx, "second", MODEL)

    ws.write(change)
    assert [entry.act for entry in entries(ws)] == ["second", "first"]
    assert verify(ws).is_intact


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (sa.update(log).where(log.c.seq == 3).values(actor="mallory"), "entry 3 was changed"),
        (sa.update(log).where(log.c.seq == 3).values(detail={"reason": "other"}), "entry 3 was changed"),
        (sa.delete(log).where(log.c.seq == 3), "entry 3 is missing"),
        (sa.delete(log).where(log.c.seq >= 4), "cut off"),
        (sa.delete(log), "cut off"),
        (sa.update(log).where(log.c.seq == 3).values(signature="00" * 64), "not signed"),
    ],
    ids=["actor", "detail", "removed", "end cut off", "emptied", "signature"],
)
def test_tampering_is_found(ws: Workspace, statement: sa.Executable, problem: str) -> None:
    for _ in range(5):
        act(ws)
    tamper(ws, statement)
    assert any(problem in found for found in verify(ws).problems)


def test_an_inserted_entry_is_found(ws: Workspace) -> None:
    for _ in range(3):
        act(ws)
    forged = {
        "seq": 4,
        "at": ws.now(),
        "actor": "mallory",
        "act": "registry.approve",
        "object_kind": "model_version",
        "object_id": "category@2",
        "detail": {},
        "previous": head(ws).partition(":")[2],
        "hash": "0" * 64,
        "signature": "0" * 128,
    }
    tamper(ws, sa.insert(log).values(**forged))
    assert any("entry 4" in found for found in verify(ws).problems)


def test_a_chain_recomputed_without_the_key_is_found(
    ws: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whoever holds the database but not the key can rebuild every hash, but no signature."""
    for _ in range(3):
        act(ws)
    key = ws.home.absolute() / "keys" / "audit.key"
    original = key.read_text()
    tamper(ws, sa.delete(log))
    from everloop.ledger.chain import _load_key  # noqa: PLC0415  (the forger starts with a key of their own)

    key.unlink()
    _load_key.cache_clear()
    for _ in range(3):
        act(ws.acting_as("mallory"))
    key.write_text(original)
    _load_key.cache_clear()
    assert any("not signed by this workspace's key" in found for found in verify(ws).problems)


def test_an_anchor_noted_elsewhere_must_still_be_in_the_chain(ws: Workspace) -> None:
    act(ws)
    anchor = head(ws)
    act(ws)
    assert verify(ws, anchor=anchor).is_intact
    assert any("rewritten" in found for found in verify(ws, anchor=f"1:{'0' * 64}").problems)
    assert any("cut off" in found for found in verify(ws, anchor=f"9:{'0' * 64}").problems)


def test_a_malformed_anchor_is_refused(ws: Workspace) -> None:
    with pytest.raises(Invalid, match="SEQ:HASH"):
        verify(ws, anchor="yesterday")


def test_an_act_that_failed_leaves_no_entry(any_ws: Workspace) -> None:
    def fails(tx: Tx) -> None:
        audit(any_ws, tx, "registry.approve", MODEL)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        any_ws.write(fails)
    assert entries(any_ws) == []


def test_entries_are_found_by_time_and_actor_and_paged(ws: Workspace) -> None:
    start = ws.now()
    act(ws.acting_as("alice"))
    assert isinstance(ws.clock, SimulatedClock)
    ws.clock.advance(timedelta(days=1))
    act(ws.acting_as("bob"))
    assert [entry.actor for entry in entries(ws, start=start + timedelta(hours=1))] == ["bob"]
    assert [entry.actor for entry in entries(ws, end=start + timedelta(hours=1))] == ["alice"]
    assert [entry.actor for entry in entries(ws, actor="alice")] == ["alice"]
    assert [entry.seq for entry in entries(ws, limit=1)] == [2]
    assert [entry.seq for entry in entries(ws, before_seq=2)] == [1]


def test_the_key_is_its_owners_alone(ws: Workspace) -> None:
    act(ws)
    assert (ws.home / "keys" / "audit.key").stat().st_mode & 0o077 == 0


def test_another_home_signs_only_with_the_same_key(any_ws: Workspace, tmp_path: Path) -> None:
    act(any_ws)
    other = replace(any_ws, settings=replace(any_ws.settings, home=tmp_path / "other"))
    other.home.mkdir()
    with pytest.raises(Invalid, match="copy the folder keys of the first one's home to"):
        act(other)
    shutil.copytree(any_ws.home / "keys", other.home / "keys")
    act(other)
    assert verify(any_ws).is_intact
    assert verify(other).entries == 2
