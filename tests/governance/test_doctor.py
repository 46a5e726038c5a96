from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from everloop import governance, rollout
from everloop.governance import Sign
from everloop.ledger import Node, audit
from everloop.rollout import canary
from everloop.workspace import Workspace


def signs(ws: Workspace) -> dict[str, Sign]:
    return {one.about: one for one in governance.examine(ws.settings)}


def test_a_new_home_is_well(ws: Workspace) -> None:
    found = signs(ws)
    assert [one for one in found.values() if one.health == "failed"] == []
    assert {
        "python",
        "home",
        "disk",
        "database",
        "journal",
        "integrity",
        "audit",
        "blobs",
        "routes",
    } <= found.keys()


def test_a_home_that_is_not_there_is_not_made_by_looking(ws: Workspace, tmp_path: Path) -> None:
    settings = replace(ws.settings, home=tmp_path / "other")
    assert governance.examine(settings)[-1].found.endswith("holds none yet")
    assert not settings.home.exists()


def test_a_newer_database_says_to_upgrade(ws: Workspace) -> None:
    ws.write(lambda tx: tx.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    assert "pip install -U everloop" in signs(ws)["database"].found


def test_a_damaged_blob_is_found(ws: Workspace) -> None:
    ws.blobs.path(ws.blobs.put(b"rows")).write_bytes(b"rowz")
    sign = signs(ws)["blobs"]
    assert (sign.health, "1 are damaged" in sign.found) == ("failed", True)


def test_a_changed_audit_entry_is_found(ws: Workspace) -> None:
    ws.write(lambda tx: audit(ws, tx, "a.test", Node("workspace", ws.id)))
    ws.write(lambda tx: tx.execute(sa.text("UPDATE audit SET actor = 'nobody' WHERE act = 'a.test'")))
    assert "was changed" in signs(ws)["audit"].found


def test_a_route_table_that_the_database_does_not_know_is_found(ws: Workspace) -> None:
    ws.write(lambda tx: rollout.define_endpoint(ws, tx, "kind", model="kind", canary=canary(100), key=None))
    (ws.home / "serving").mkdir(exist_ok=True)
    (ws.home / "serving" / "routes.json").write_text('{"epoch": 7, "endpoints": {}}')
    sign = signs(ws)["routes"]
    assert (sign.health, sign.found) == ("failed", "the route table on disk is of epoch 7, the database of 0")


def test_a_port_in_use_asks_for_attention(ws: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sign = next(
            one for one in governance.examine(replace(ws.settings, port=port)) if one.about == f"port {port}"
        )
    assert (sign.health, "--port N" in sign.remedy) == ("attention", True)
