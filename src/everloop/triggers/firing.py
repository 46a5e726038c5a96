"""Firing: the job is put, the firing is stored with what it was made on, and the evidence counts from zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everloop import events, jobs
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.retraining import Evidence, as_json
from everloop.storage import Tx
from everloop.triggers import store
from everloop.triggers.params import check_params
from everloop.triggers.records import PIPELINE, Call, Firing, Stored, lane_of
from everloop.workspace import Workspace


def fire(
    ws: Workspace, tx: Tx, stored: Stored, *, reason: str, evidence: Evidence, calls: Sequence[Call] = ()
) -> Firing:
    """Fire a trigger whose lock the transaction holds. The newest call's parameters win over the declared ones."""
    trigger = stored.trigger
    params = {**trigger.params, **(calls[-1].params if calls else {})}
    check_params(trigger.pipeline, trigger.takes, params)
    firing_id = new_id("fire")
    lane = lane_of(trigger.pipeline)
    refused = jobs.refusal(tx.connection, lane)
    job = None if refused else _put(ws, tx, stored, firing_id, params, reason)
    firing = Firing(
        firing_id, trigger.name, ws.now(), ws.actor, reason, as_json(evidence), params, job, refused
    )
    store.insert_firing(tx, firing)
    store.answer_calls(tx, [one.id for one in calls], firing_id)
    store.update_trigger(tx, trigger.name, {"holds_since": None, "changed_at": None, "seen": None})
    node = Node("firing", firing_id)
    for found in evidence.values():
        for source in found.findings:
            if source.startswith("find_"):
                link(tx, Node("finding", source), node, role="reason", at=firing.at)
    if job is not None:
        link(tx, node, Node("job", job), role="started", at=firing.at)
    what = (
        f"started {trigger.pipeline}" if refused is None else f"did not start {trigger.pipeline}: {refused}"
    )
    events.emit(
        ws,
        tx,
        "trigger.fired",
        node,
        message=f"Trigger {trigger.name} {what} ({reason})",
        payload={"trigger": trigger.name, "pipeline": trigger.pipeline, "job": job},
    )
    return firing


def _put(
    ws: Workspace, tx: Tx, stored: Stored, firing_id: str, params: Mapping[str, Any], reason: str
) -> str:
    trigger = stored.trigger
    return jobs.put(
        ws,
        tx,
        PIPELINE,
        {
            "pipeline": trigger.pipeline,
            "params": dict(params),
            "trigger": trigger.name,
            "firing": firing_id,
            "instant": ws.now().isoformat(),
        },
        reason=f"trigger {trigger.name}: {reason}",
        once_key=firing_id,
        lane=lane_of(trigger.pipeline),
        priority=trigger.priority,
    )
