"""Routes of triggers: how far each is, and calls, by somebody with a token or signed with the trigger's secret."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_hex
from typing import Any

import msgspec

from everloop import triggers
from everloop.access import Principal
from everloop.api.routes import SIGNATURE, Call, Limited, Reason, Route
from everloop.errors import NotFound
from everloop.triggers import Firing, Signed, Standing
from everloop.workspace import Workspace

KEY = "idempotency-key"


class Called(msgspec.Struct, frozen=True):
    call: str
    firing: str | None
    job: str | None
    run: str | None
    waits: str | None
    is_known: bool


def signer(
    ws: Workspace, path: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> tuple[Principal, str]:
    """Whoever holds the trigger's secret, as its webhook."""
    name = path["name"]
    given = Signed(headers.get("x-everloop-timestamp", ""), headers[SIGNATURE])
    key = headers.get(KEY, "")
    try:
        secret = triggers.secret_of(ws, name)
    except NotFound:
        secret = token_hex()  # nobody has it: whoever holds no secret is not told which triggers there are
    signature = triggers.verify(secret, given, trigger=name, key=key, body=body)
    return Principal(f"webhook:{name}", frozenset({"run"})), signature


def list_triggers(call: Call) -> list[Standing]:
    """Triggers: how far each is from firing, and when it last did."""
    return triggers.standings(call.ws)


def list_firings(call: Call, asked: Limited) -> list[Firing]:
    """What a trigger started, newest first, with the evidence it was made on."""
    triggers.find(call.ws, call.path["name"])
    return triggers.firings(call.ws, call.path["name"], limit=asked.limit)


def call_trigger(call: Call, asked: dict[str, Any]) -> Called:
    """Call a trigger: the body is its pipeline's parameters; the header Idempotency-Key makes repetitions one call."""
    made = triggers.call(
        call.ws,
        call.path["name"],
        asked,
        key=call.headers.get(KEY),
        signature=call.signature,
    )
    fired = made.firing
    firing, job, run = (None, None, None) if fired is None else (fired.id, fired.job, fired.run)
    return Called(made.call, firing, job, run, made.waits, made.is_known)


def pause_trigger(call: Call, asked: Reason) -> dict[str, str]:
    """Let a trigger fire no more until it is resumed: {reason}."""
    triggers.pause(call.ws, call.path["name"], reason=asked.reason)
    return {"paused": call.path["name"]}


def resume_trigger(call: Call) -> dict[str, str]:
    """Let a paused trigger go on."""
    triggers.resume(call.ws, call.path["name"])
    return {"resumed": call.path["name"]}


ROUTES = [
    Route("GET", "/api/triggers", "see", list_triggers),
    Route("GET", "/api/triggers/{name}/firings", "see", list_firings),
    Route(
        "POST",
        "/api/triggers/{name}",
        "run",
        call_trigger,
        most_bytes=64 << 10,
        signer=signer,
        headers={"Idempotency-Key": "Calls with the same one are one call."},
    ),
    Route("POST", "/api/triggers/{name}/pause", "run", pause_trigger),
    Route("POST", "/api/triggers/{name}/resume", "run", resume_trigger),
]
