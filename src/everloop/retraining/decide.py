"""Policies, and the decision whether to train again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from everloop import events, jobs
from everloop.errors import NotFound
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.retraining import store
from everloop.retraining.conditions import Condition, Evidence, from_value, holds, in_words, to_value
from everloop.retraining.evidence import LATE, as_json, evidence_of, used_in
from everloop.storage import Tx
from everloop.workspace import Workspace

TRAIN = "train"  # the kind of job that a decision puts


@dataclass(frozen=True)
class Policy:
    """When one model is trained again beyond its schedule. `condition` None: by schedule alone.

    The jobs that it puts count against the limit of their `lane`.
    """

    model: str
    condition: Condition | None
    cooldown: timedelta
    since: datetime
    lane: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the policy says now: whether to train, and why or why not, in words."""

    retrain: bool
    reason: str


@dataclass(frozen=True)
class Decision:
    """A decision to train again, with the numbers it was made on and the job that it put.

    `evidence` has for each single condition, in words such as `contradicted category`, the `count` and the `findings`.
    """

    id: str
    model: str
    at: datetime
    reason: str
    evidence: dict[str, Any]
    job: str


def set_policy(
    ws: Workspace, tx: Tx, model: str, *, condition: Condition | None, cooldown: timedelta, lane: str = ""
) -> None:
    """Create or change a model's policy."""
    values = {
        "model": model,
        "condition": None if condition is None else to_value(condition),
        "cooldown_s": int(cooldown.total_seconds()),
        "since": ws.now(),
        "lane": lane,
    }
    store.upsert_policy(tx, values)


def keep_policies(tx: Tx, models: Sequence[str]) -> list[str]:
    """Forget the policies of all models but these and return the names of those."""
    return store.drop_policies(tx, but=models)


def policies(ws: Workspace) -> list[Policy]:
    with ws.read() as connection:
        rows = store.all_policies(connection)
    return [
        Policy(
            row.model,
            None if row.condition is None else from_value(row.condition),
            timedelta(seconds=row.cooldown_s),
            row.since,
            row.lane,
        )
        for row in rows
    ]


def decisions(ws: Workspace, *, model: str | None = None, limit: int = 50) -> list[Decision]:
    """The newest decisions to train again, newest first."""
    with ws.read() as connection:
        return [_decision(row) for row in store.newest_decisions(connection, model=model, limit=limit)]


def decision(ws: Workspace, decision_id: str) -> Decision:
    """One decision. Raises NotFound."""
    with ws.read() as connection:
        row = store.decision_by_id(connection, decision_id)
    if row is None:
        raise NotFound(
            f"there is no retraining decision {decision_id}. 'everloop jobs list' shows the work they put."
        )
    return _decision(row)


def consider(ws: Workspace) -> list[Decision]:
    """Apply every policy to what was found since its last decision; store and start what is decided."""
    made = [_consider(ws, policy) for policy in policies(ws)]
    return [decision for decision in made if decision is not None]


def decide(
    condition: Condition,
    evidence: Evidence,
    *,
    now: datetime,
    last_at: datetime | None,
    cooldown: timedelta,
) -> Verdict:
    """Whether the evidence justifies training now: a pure function of its arguments.

    `last_at` is when this was last decided; until `cooldown` has passed since, the answer is no.
    """
    found = in_words(condition, evidence)
    if not holds(condition, evidence):
        return Verdict(False, f"not enough: {found}")
    if last_at is not None and now < last_at + cooldown:
        return Verdict(False, f"cooling down until {(last_at + cooldown).isoformat()}: {found}")
    return Verdict(True, found)


@dataclass(frozen=True)
class Armed:
    """One condition of a policy and how far it is: `count` of what it `needs` were found."""

    words: str
    count: int
    needs: int


@dataclass(frozen=True)
class Outlook:
    """What a policy says now, since when its evidence counts, and how far each of its conditions is."""

    model: str
    verdict: Verdict
    since: datetime
    conditions: tuple[Armed, ...]


@dataclass(frozen=True)
class _Weighed:
    """A policy's verdict now, with what it rests on."""

    verdict: Verdict
    evidence: Evidence
    last_at: datetime | None


def outlook(ws: Workspace) -> list[Outlook]:
    """What every policy with a condition says now, without acting on it."""
    weighed = [(policy, _weigh(ws, policy)) for policy in policies(ws)]
    return [
        Outlook(policy.model, one.verdict, one.last_at or policy.since, armed(one.evidence))
        for policy, one in weighed
        if one is not None
    ]


def armed(evidence: Evidence) -> tuple[Armed, ...]:
    """How far each condition is by what was found."""
    found = (
        Armed(in_words(one, evidence), each.count, int(getattr(one, "at_least", 1)))
        for one, each in evidence.items()
    )
    return tuple(sorted(found, key=lambda one: one.words))


def wants_training(ws: Workspace) -> bool:
    """Whether a policy would decide to train now."""
    found = [_weigh(ws, policy) for policy in policies(ws)]
    return any(weighed is not None and weighed.verdict.retrain for weighed in found)


def _consider(ws: Workspace, policy: Policy) -> Decision | None:
    weighed = _weigh(ws, policy)
    if weighed is None or not weighed.verdict.retrain:
        return None
    return ws.write(lambda tx: _start(ws, tx, policy, weighed.verdict, weighed.evidence, weighed.last_at))


def _weigh(ws: Workspace, policy: Policy) -> _Weighed | None:
    if policy.condition is None:
        return None
    with ws.read() as connection:
        last_at = store.last_decision_at(connection, policy.model)
        used = used_in(store.evidence_since(connection, policy.model, (last_at or policy.since) - LATE))
    evidence = evidence_of(ws, policy.condition, created=policy.since, last_at=last_at, used=used)
    verdict = decide(policy.condition, evidence, now=ws.now(), last_at=last_at, cooldown=policy.cooldown)
    return _Weighed(verdict, evidence, last_at)


def _decision(row: sa.Row[Any]) -> Decision:
    stored = {**row._mapping}
    evidence = {}
    for name, one in stored["evidence"].items():
        if "count" in one:
            evidence[name] = one
        else:  # as it was kept before there were more kinds of conditions: by endpoint
            evidence[f"drifted {name}"] = {
                "count": len(one["drift_findings"]),
                "findings": one["drift_findings"],
            }
            evidence[f"contradicted {name}"] = {"count": one["contradictions"], "findings": []}
    return Decision(**{**stored, "evidence": evidence})


def _start(
    ws: Workspace,
    tx: Tx,
    policy: Policy,
    verdict: Verdict,
    evidence: Evidence,
    last_at: datetime | None,
) -> Decision | None:
    tx.lock(f"retraining:{policy.model}")
    if store.last_decision_at(tx.connection, policy.model) != last_at:
        return None  # another process decided meanwhile
    decision_id = new_id("ret")
    job = jobs.put(
        ws,
        tx,
        TRAIN,
        {"model": policy.model, "decision": decision_id},
        reason=verdict.reason,
        once_key=decision_id,
        lane=policy.lane,
    )
    known = as_json(evidence)
    decision = Decision(decision_id, policy.model, ws.now(), verdict.reason, known, job)
    store.insert_decision(tx, asdict(decision))
    node = Node("retraining", decision_id)
    for one in evidence.values():
        for finding in one.findings:
            if finding.startswith("find_"):
                link(tx, Node("finding", finding), node, role="reason", at=ws.now())
    link(tx, node, Node("job", job), role="started", at=ws.now())
    message = f"Retraining {policy.model}: {verdict.reason}"
    events.emit(
        ws, tx, "retraining.started", node, message=message, payload={"model": policy.model, "job": job}
    )
    return decision
