"""Allowing a model that brings code of its own to run it."""

from __future__ import annotations

from everloop.errors import Denied, Invalid
from everloop.ledger import Node, audit
from everloop.registry import seals, signing
from everloop.registry.examine import is_tried
from everloop.registry.find import need_model, need_version
from everloop.registry.records import Trust, parse_ref
from everloop.storage import Tx
from everloop.workspace import Workspace


def trust(ws: Workspace, ref: str, *, reason: str) -> Trust:
    """Allow a pickle, a pyfunc or a function to be loaded, in a process of its own without our credentials. Signed, and audited with the reason.

    Raises
    ------
    Denied
        The actor registered the version, and its model asks for other people.
    Invalid
        The reason is empty, or the version cannot bring code of its own.
    NotFound
        No such version.
    """
    reason = reason.strip()
    if not reason:
        raise Invalid(
            f"{ref} is trusted without a reason; whoever reads it later needs one. Give it with --reason."
        )

    signing.prepare(ws)

    def change(tx: Tx) -> Trust:
        tx.lock(f"registry:{parse_ref(ref)[0]}")
        version = need_version(tx.connection, ref)
        if not is_tried(ws, version):
            raise Invalid(
                f"{version.ref} was trained here, and its form (skops) runs no code of its own; only a model of MLflow's clients or a "
                "function may need trust. Nothing is to be done."
            )
        if need_model(tx.connection, version.model).approval.not_author and ws.actor == version.author:
            raise Denied(
                f"{ws.actor} registered {version.ref}; {version.model} asks for other people's word. Ask somebody else to read it "
                "and to trust it."
            )
        made = signing.sign_trust(ws, version, Trust(version.ref, ws.actor, reason, ws.now()))
        seals.insert_trust(tx, version, made)
        audit(
            ws,
            tx,
            "registry.trust",
            Node("model_version", version.ref),
            after={"digest": version.digest},
            reason=reason,
        )
        return made

    return ws.write(change)
