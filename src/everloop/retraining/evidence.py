"""What speaks for a condition: counted in the rooms whose records say so."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from everloop import data, events, feedback, labels, monitoring
from everloop.monitoring import FindingKind
from everloop.retraining.conditions import (
    Alarmed,
    Arrived,
    Called,
    Condition,
    Contradicted,
    Drifted,
    Evidence,
    Finished,
    Found,
    Labelled,
    Promoted,
    Registered,
    Released,
    RolledBack,
    Single,
    Telling,
    singles_of,
    title_of,
)
from everloop.workspace import Workspace

# An event takes its time before the transaction that tells it is committed, so one may turn up that seems older than a
# decision made meanwhile. Events of this long before a decision are looked at again, without those it was made on.
LATE = timedelta(hours=1)

_DRIFT: tuple[FindingKind, ...] = ("input_drift", "prediction_drift")
_ALARMS: tuple[FindingKind, ...] = ("accuracy", "latency", "errors", "kpi")


def evidence_of(
    ws: Workspace, condition: Condition, *, created: datetime, last_at: datetime | None, used: Collection[str]
) -> Evidence:
    """What was found for each part of a condition since the last decision, or since the condition was stated.

    Parameters
    ----------
    used
        Events that decisions not older than `LATE` before the last one were made on.
    """
    since = last_at or created
    told_since = max(created, since - LATE)
    found: dict[Single, Found] = {}
    for one in singles_of(condition):
        if isinstance(one, Registered | Promoted | Released | RolledBack | Finished):
            found[one] = _told(ws, one, start=told_since, used=used)
        else:
            found[one] = _counted(ws, one, since=since)
    return found


def as_json(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Evidence as it is kept with a decision: by the title of each condition."""
    return {
        title_of(one): {"count": found.count, "findings": list(found.findings)}
        for one, found in evidence.items()
    }


def used_in(kept: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """The ids among the evidence of earlier decisions."""
    return frozenset(
        finding for evidence in kept for one in evidence.values() for finding in one.get("findings", ())
    )


def _counted(
    ws: Workspace,
    condition: Drifted | Alarmed | Contradicted | Labelled | Arrived | Called,
    *,
    since: datetime,
) -> Found:
    match condition:
        case Drifted(endpoint):
            return _findings(ws, endpoint, _DRIFT, since=since)
        case Alarmed(endpoint):
            return _findings(ws, endpoint, _ALARMS, since=since)
        case Contradicted(endpoint):
            return Found(feedback.contradictions(ws, endpoint, start=since, end=ws.now()).contradicted)
        case Labelled(label_set):
            return Found(labels.count_labelled(ws, label_set, since=since))
        case Arrived(dataset):
            return Found(data.count_arrived(ws, dataset, since=since))
        case Called():  # calls are known to whoever takes them
            return Found(0)


def _told(ws: Workspace, condition: Telling, *, start: datetime, used: Collection[str]) -> Found:
    wanted: dict[str, str] = {}
    match condition:
        case Registered(topic):
            kinds = ["registry.registered"]
        case Promoted(topic, stage):
            kinds = ["registry.promoted"]
            wanted = {} if stage is None else {"stage": stage}
        case Released(topic):
            kinds = ["registry.released"]
        case RolledBack(topic):
            kinds = ["rollout.rolled_back"]
        case Finished(topic, state):
            kinds = [f"pipeline.{one}" for one in ("done", "failed") if state in (one, "any")]
    found = events.since(ws, kinds, topic, start, payload=wanted)
    ids = tuple(one.id for one in found if one.id not in used)
    return Found(len(ids), ids)


def _findings(ws: Workspace, endpoint: str, kinds: tuple[FindingKind, ...], *, since: datetime) -> Found:
    found = monitoring.findings(ws, endpoint, kinds=kinds, since=since)
    return Found(len(found), tuple(finding.id for finding in found))
