"""What a release says of personal inputs: the rules of the schema of the rows that it was trained on."""

from __future__ import annotations

import pyarrow as pa

from everloop import data, registry
from everloop.data import Column
from everloop.serving import Field, Signature
from everloop.workspace import Workspace
from tests.registry.versions import check, servable


def test_a_release_carries_how_its_personal_inputs_are_logged(ws: Workspace, skops_model: bytes) -> None:
    columns = [
        Column("sku", "integer", nullable=False),
        Column("title", "string", personal="mask"),
        Column("mail", "string", personal=True),
        Column("phone", "string", personal="drop"),
    ]
    data.define(ws, "people", key="sku", columns=columns)
    data.ingest(ws, "people", pa.table({"sku": [1], "title": ["a"], "mail": ["b"], "phone": ["c"]}))
    signature = Signature((Field("title", "string"),), "class", ("drink", "other"))
    version = servable(ws, skops_model, data_version="people@1", signature=signature)
    check(ws, version)
    registry.approve(ws.acting_as("bob"), version.ref, reason="fine")
    assert registry.release(ws, version.ref).manifest.personal == {"title": "mask"}
