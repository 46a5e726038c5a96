"""Calls: somebody asks for a trigger to fire, over HTTP or from the shell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from everloop import access
from everloop.errors import Conflict, Invalid, NotReady
from everloop.ids import new_id
from everloop.ledger import Node, audit
from everloop.retraining import Called, Evidence, Found, singles_of
from everloop.storage import Tx
from everloop.triggers import store
from everloop.triggers.consider import act, weigh
from everloop.triggers.firing import fire
from everloop.triggers.manage import need, why_idle
from everloop.triggers.params import check_params
from everloop.triggers.records import Call, Firing, Stored
from everloop.workspace import Workspace

_KEY_LENGTH = 200


@dataclass(frozen=True)
class NewCall:
    """What came of a call: the firing, or in `waits` what it still waits for. `is_known`: it had been made before."""

    call: str
    trigger: str
    firing: Firing | None
    waits: str | None
    is_known: bool = False


def call(
    ws: Workspace,
    name: str,
    params: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    signature: str | None = None,
) -> NewCall:
    """Ask for a trigger to fire, with these parameters beside those it declares.

    It fires at once, unless its condition has `called()` in it: then when the condition holds and has settled.

    Parameters
    ----------
    key
        The same key again is the same call: what came of it is returned, and nothing is started.
    signature
        As `verify` returned it; the same one again is the same call.

    Raises
    ------
    NotFound
    Invalid
        A parameter is unknown, missing or of another type.
    Conflict
        The trigger is paused, or the key was given before with other parameters.
    NotReady
        The pipeline runs as often as it may and refuses more.
    """
    given = dict(params or {})
    if key is not None and not 1 <= len(key) <= _KEY_LENGTH:
        raise Invalid(
            f"the idempotency key has {len(key)} characters; it has 1 to {_KEY_LENGTH}. Use a UUID."
        )
    with ws.read() as connection:
        stored = need(connection, name)
    check_params(stored.trigger.pipeline, stored.trigger.takes, {**stored.trigger.params, **given})
    made, is_known = ws.write(lambda tx: _record(ws, tx, name, given, key, signature))
    if made.firing is None and stored.trigger.condition is not None:
        weighed = weigh(ws, stored)
        ws.write(lambda tx: act(ws, tx, weighed))
    return _answer(ws, made.id, is_known=is_known)


def secret_of(ws: Workspace, name: str, *, renew: bool = False) -> str:
    """The secret that calls of a trigger are signed with; `renew` makes another, and the old one is worth nothing.

    It is made from a key that only this home has, and is nowhere written down.
    """
    with ws.read() as connection:
        stored = need(connection, name)
    number = stored.secret
    if renew:
        number = ws.write(lambda tx: _renew(ws, tx, name))
    return blake3(f"trigger {name} {number}".encode(), key=access.shared_key(ws, "trigger")).hexdigest()


def _renew(ws: Workspace, tx: Tx, name: str) -> int:
    tx.lock(f"trigger:{name}")
    number = need(tx.connection, name).secret + 1
    store.update_trigger(tx, name, {"secret": number})
    audit(ws, tx, "trigger.renew_secret", Node("trigger", name))
    return number


def _record(
    ws: Workspace, tx: Tx, name: str, params: dict[str, Any], key: str | None, signature: str | None
) -> tuple[Call, bool]:
    """The call, written down and, where nothing else is waited for, answered; whether it had been made before."""
    tx.lock(f"trigger:{name}")
    stored = need(tx.connection, name)
    if (known := _known(tx, name, params, key, signature)) is not None:
        return known, True
    if stored.paused_at is not None:
        raise Conflict(f"{why_idle(stored)} Resume it: everloop triggers resume {name}")
    made = Call(new_id("call"), name, ws.now(), ws.actor, key, signature, params, None)
    store.insert_call(tx, made)
    if not _waits(stored):
        evidence: Evidence = {Called(): Found(1)}
        firing = fire(ws, tx, stored, reason=f"called by {ws.actor}", evidence=evidence, calls=[made])
        if firing.refused is not None:
            raise NotReady(
                f"{firing.refused}. Nothing was kept of this call; make it again when that has ended."
            )
    return store.call_by_id(tx.connection, made.id), False


def _waits(stored: Stored) -> bool:
    condition = stored.trigger.condition
    return condition is not None and Called() in singles_of(condition)


def _known(tx: Tx, name: str, params: dict[str, Any], key: str | None, signature: str | None) -> Call | None:
    if (
        signature is not None
        and (same := store.call_by_signature(tx.connection, name, signature)) is not None
    ):
        return same
    known = None if key is None else store.call_by_key(tx.connection, name, key)
    if known is not None and known.params != params:
        raise Conflict(
            f"the key {key!r} was used for a call of {name!r} with the parameters {dict(known.params)}, and this one has "
            f"{params}. A key stands for one call; take another."
        )
    return known


def _answer(ws: Workspace, call_id: str, *, is_known: bool) -> NewCall:
    with ws.read() as connection:
        made = store.call_by_id(connection, call_id)
        firing = None if made.firing is None else store.firing_by_id(connection, made.firing)
        stored = need(connection, made.trigger)
    waits = None
    if firing is None:
        waits = weigh(ws, stored).verdict.reason if stored.trigger.condition is not None else "its next look"
    return NewCall(made.id, made.trigger, firing, waits, is_known)
