"""Going on with rollouts: look at the evidence, ask the judge, do what it says. Any process may do this at any time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from everloop import events, feedback, serving
from everloop.errors import Conflict
from everloop.ids import new_id
from everloop.ledger import Node
from everloop.rollout import store
from everloop.rollout.endpoints import change_traffic, endpoint, folder, is_behind, publish
from everloop.rollout.evidence import (
    MetricEvidence,
    Split,
    count_keys,
    count_requests,
    first_of_each_request,
    is_slow,
)
from everloop.rollout.judge import CanaryHealth, Decision, judge, recent_failures
from everloop.rollout.records import Act, LiveVariant, Rollout, RolloutEvent, State
from everloop.rollout.start import rollout_of, shares
from everloop.storage import Tx
from everloop.workspace import Workspace

_MOST_REPORTS = 1_000_000  # of one rollout
_KNOWN_REPORTS = 1_000  # the newest before a rollout, from which it is learned how late reports come
_COLUMNS = ["id", "epoch", "release", "status", "at", "latency_us", "key", "replay", "shadow_of", "request"]


def tick(ws: Workspace) -> list[RolloutEvent]:
    """Look at every running rollout once and do what the judge says; what was done, in order.

    A stage counts only requests that were answered under its route table or a later one, and nothing is judged
    before every serving process has acknowledged it.
    """
    publish(ws)
    with ws.read() as connection:
        running = store.newest_rollouts(connection, states=("running",))
    done = [_look(ws, rollout) for rollout in running]
    return [event for event in done if event is not None]


def is_running(ws: Workspace) -> bool:
    """Whether a rollout waits for the judge, or the route table is not the one in force."""
    with ws.read() as connection:
        running = bool(store.newest_rollouts(connection, states=("running",), limit=1))
    return running or is_behind(ws)


def pause(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """Stop judging and moving; traffic stays as it is split. Raises Conflict when it is not running."""
    _turn(ws, rollout_of(ws, rollout_id), "running", "paused", act="paused", reason=reason)


def resume(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """Go on with a paused rollout. Raises Conflict when it is not paused."""
    _turn(ws, rollout_of(ws, rollout_id), "paused", "running", act="resumed", reason=reason)


def promote_now(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """A person gives all traffic to the new version without waiting for the judge. Raises Conflict."""
    rollout = rollout_of(ws, rollout_id)
    ws.write(lambda tx: _finish(ws, tx, rollout, reason=f"{ws.actor} decided: {reason}", decision=None))


def roll_back(ws: Workspace, rollout_id: str, *, reason: str) -> None:
    """A person takes the new version off the endpoint. Raises Conflict when the rollout has ended."""
    rollout = rollout_of(ws, rollout_id)
    ws.write(lambda tx: _take_back(ws, tx, rollout, reason=f"{ws.actor} decided: {reason}", decision=None))


@dataclass(frozen=True)
class _Requests:
    """What the judge counts, in the order of arrival: requests, or single rows where keys are counted instead."""

    in_canary: NDArray[np.bool_]
    stretch: NDArray[np.int64]
    failed: NDArray[np.bool_]
    latency_ms: NDArray[np.float64]
    contradicted: NDArray[np.bool_]
    is_replay: NDArray[np.bool_]
    at: NDArray[np.datetime64]
    keys: NDArray[np.object_]
    ids: list[str]
    request: list[str | None]


def evidence_of(ws: Workspace, rollout: Rollout) -> tuple[list[MetricEvidence], CanaryHealth]:
    """What was counted since the rollout began, by metric, and what the fuse looks at."""
    sticky = endpoint(ws, rollout.endpoint).stickiness == "key"
    rows = _rows(ws, rollout)
    requests = rows if sticky else _together(rows)
    splits = [Split(stage, rollout.stages[stage].weight / 100) for stage in range(len(rollout.epochs))]

    def count(metric: str, bad: NDArray[np.bool_], counted: NDArray[np.bool_]) -> MetricEvidence:
        arms, stretch = requests.in_canary[counted], requests.stretch[counted]
        stretches = (
            count_keys(
                requests.keys[counted].astype(str),
                bad[counted],
                in_canary=arms,
                stretch=stretch,
                splits=splits,
            )
            if sticky
            else count_requests(bad[counted], arms, stretch=stretch, splits=splits)
        )
        known_bad, known_total = rollout.before.get(metric, (0, 0))
        return MetricEvidence(metric, stretches, before_bad=known_bad, before_total=known_total)

    every = np.ones(len(requests.failed), dtype=bool)
    bad_by_metric = {
        "errors": (requests.failed, every),
        "slow": (is_slow(requests.latency_ms, above_ms=rollout.slow_above_ms or np.inf), ~requests.failed),
        # nobody corrects a replayed request, and nobody has yet corrected a young one: neither says anything
        "contradicted": (requests.contradicted, ~requests.is_replay & _is_old(ws, rollout, requests.at)),
    }
    found = [count(metric, *bad_by_metric[metric]) for metric in rollout.canary.excess_at_most]
    in_a_row, meanwhile = recent_failures(requests.failed, requests.in_canary)
    return found, CanaryHealth(failures_in_a_row=in_a_row, control_successes_meanwhile=meanwhile)


def _is_old(ws: Workspace, rollout: Rollout, at: NDArray[np.datetime64]) -> NDArray[np.bool_]:
    """Which requests are old enough that nine reports in ten would have come by now; all when none came before."""
    known = feedback.corrections(ws, rollout.endpoint, end=rollout.started_at, limit=_KNOWN_REPORTS)
    delays_s = [(report.at - report.predicted_at).total_seconds() for report in known]
    delay_s = float(np.quantile(delays_s, 0.9)) if delays_s else 0.0
    newest = ws.now().replace(tzinfo=None) - timedelta(seconds=delay_s)
    return np.asarray(at <= np.datetime64(newest, "us"), dtype=bool)


def _look(ws: Workspace, rollout: Rollout) -> RolloutEvent | None:
    acknowledged = serving.acknowledged(folder(ws))
    if acknowledged is None or acknowledged < rollout.epochs[-1]:
        return None
    evidence, health = evidence_of(ws, rollout)
    decision = judge(evidence, rollout.canary.rules, health=health)
    try:
        return ws.write(lambda tx: _do(ws, tx, rollout, decision))
    except Conflict:
        return None  # another process went on with it, or a person ended it


def _do(ws: Workspace, tx: Tx, rollout: Rollout, decision: Decision) -> RolloutEvent | None:
    if decision.action == "roll_back":
        return _take_back(ws, tx, rollout, reason=decision.reason, decision=decision.as_dict())
    if decision.action == "hold":
        return _note(ws, tx, rollout, decision)
    if rollout.stages[rollout.stage + 1].weight >= 100:
        return _finish(ws, tx, rollout, reason=decision.reason, decision=decision.as_dict())
    return _advance(ws, tx, rollout, decision)


def _note(ws: Workspace, tx: Tx, rollout: Rollout, decision: Decision) -> RolloutEvent | None:
    """Keep a look that moved nothing, if it saw anything new."""
    newest = store.newest_events(tx.connection, rollout=rollout.id, limit=1)
    known = newest[0].decision if newest else None
    if known is not None and known["metrics"] == _plain(decision.as_dict()["metrics"]):
        return None
    event = _event(ws, rollout, act="look", reason=decision.reason, decision=decision.as_dict())
    store.insert_event(tx, event)
    return event


def _advance(ws: Workspace, tx: Tx, rollout: Rollout, decision: Decision) -> RolloutEvent:
    stage = rollout.stage + 1
    _hold_on(tx, rollout, {"stage": stage})
    epoch = _move(
        ws,
        tx,
        rollout,
        shares(rollout, stage),
        act="advanced",
        stage=stage,
        reason=decision.reason,
        decision=decision.as_dict(),
    )
    store.update_rollout(
        tx, rollout.id, state=rollout.state, stage=stage, values={"epochs": [*rollout.epochs, epoch]}
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def _finish(
    ws: Workspace, tx: Tx, rollout: Rollout, *, reason: str, decision: dict[str, Any] | None
) -> RolloutEvent:
    stage = len(rollout.stages) - 1
    _hold_on(tx, rollout, {"state": "done", "stage": stage, "outcome": reason, "ended_at": ws.now()})
    _move(
        ws, tx, rollout, shares(rollout, stage), act="finished", stage=stage, reason=reason, decision=decision
    )
    message = f"{rollout.version} answers all of {rollout.endpoint}: {reason}"
    events.emit(
        ws,
        tx,
        "rollout.finished",
        Node("endpoint", rollout.endpoint),
        message=message,
        payload={"rollout": rollout.id},
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def _take_back(
    ws: Workspace, tx: Tx, rollout: Rollout, *, reason: str, decision: dict[str, Any] | None
) -> RolloutEvent:
    if rollout.from_version is None or rollout.from_release is None:
        raise Conflict(
            f"rollout {rollout.id} was the endpoint's first; there is no earlier version to go back to."
        )
    _hold_on(tx, rollout, {"state": "rolled_back", "outcome": reason, "ended_at": ws.now()})
    earlier = (LiveVariant("control", rollout.from_version, rollout.from_release, 100.0),)
    _move(ws, tx, rollout, earlier, act="rolled_back", stage=rollout.stage, reason=reason, decision=decision)
    message = f"Rolled back {rollout.version} on {rollout.endpoint} to {rollout.from_version}: {reason}"
    node = Node("endpoint", rollout.endpoint)
    events.emit(
        ws,
        tx,
        "rollout.rolled_back",
        node,
        message=message,
        level="failed",
        payload={"rollout": rollout.id},
        topic=rollout.endpoint,
    )
    return store.newest_events(tx.connection, rollout=rollout.id, limit=1)[0]


def _turn(ws: Workspace, rollout: Rollout, before: State, after: State, *, act: Act, reason: str) -> None:
    def change(tx: Tx) -> None:
        if rollout.state != before:
            raise Conflict(
                f"rollout {rollout.id} is {rollout.state}; only one that is {before} can be {after}."
            )
        _hold_on(tx, rollout, {"state": after})
        store.insert_event(tx, _event(ws, rollout, act=act, reason=reason))

    ws.write(change)


def _hold_on(tx: Tx, rollout: Rollout, values: dict[str, Any]) -> None:
    """Change the rollout as it was read. Raises Conflict when it moved on or ended meanwhile."""
    if rollout.state not in ("running", "paused") or not store.update_rollout(
        tx, rollout.id, state=rollout.state, stage=rollout.stage, values=values
    ):
        raise Conflict(
            f"rollout {rollout.id} is not {rollout.state} in stage {rollout.stage} any more, or has ended. "
            f"Look again: everloop rollouts show {rollout.id}"
        )


def _move(
    ws: Workspace,
    tx: Tx,
    rollout: Rollout,
    variants: tuple[LiveVariant, ...],
    *,
    act: Act,
    stage: int,
    reason: str,
    decision: dict[str, Any] | None,
) -> int:
    current = store.endpoint_by_name(tx.connection, rollout.endpoint)
    assert current is not None, "a rollout's endpoint is never deleted"  # noqa: S101
    # the salt stays for the whole rollout: a key that has seen the canary keeps seeing it while its share grows
    return change_traffic(
        ws,
        tx,
        rollout.endpoint,
        variants,
        act=act,
        reason=reason,
        rollout=rollout.id,
        stage=stage,
        salt=current.salt,
        decision=decision,
    )


def _event(
    ws: Workspace, rollout: Rollout, *, act: Act, reason: str, decision: dict[str, Any] | None = None
) -> RolloutEvent:
    return RolloutEvent(
        id=new_id("re"),
        endpoint=rollout.endpoint,
        rollout=rollout.id,
        at=ws.now(),
        act=act,
        actor=ws.actor,
        stage=rollout.stage,
        reason=reason,
        decision=decision,
        variants=None,
        epoch=None,
    )


def _together(rows: _Requests) -> _Requests:
    """The rows of each HTTP request as one: bad when one of them is, as slow as the slowest."""
    first, request = first_of_each_request(rows.ids, rows.request)

    def any_of(what: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.bincount(request, weights=what, minlength=len(first)) > 0

    slowest = np.zeros(len(first))
    np.maximum.at(slowest, request, rows.latency_ms)
    return _Requests(
        in_canary=rows.in_canary[first],
        stretch=rows.stretch[first],
        failed=any_of(rows.failed),
        latency_ms=slowest,
        contradicted=any_of(rows.contradicted),
        is_replay=rows.is_replay[first],
        at=rows.at[first],
        keys=rows.keys[first],
        ids=[rows.ids[row] for row in first],
        request=[rows.request[row] for row in first],
    )


def _rows(ws: Workspace, rollout: Rollout) -> _Requests:
    table = serving.log.read(
        folder(ws), endpoint=rollout.endpoint, start=rollout.started_at, columns=_COLUMNS
    )
    table = table.sort_by("id")
    epoch = np.asarray(table["epoch"], dtype=np.int64)
    release = np.asarray(table["release"], dtype=object)
    in_canary = release == rollout.release
    judged = (
        (epoch >= rollout.epochs[0])
        & (in_canary | (release == rollout.from_release))
        & np.asarray(table["shadow_of"].is_null())
        & (np.asarray(table["status"], dtype=object) != "refused")
    )
    table = table.filter(pa.array(judged))
    reports = feedback.corrections(ws, rollout.endpoint, start=rollout.started_at, limit=_MOST_REPORTS)
    contradicted = {report.prediction_id for report in reports if report.contradicts}
    return _Requests(
        in_canary=in_canary[judged],
        stretch=np.searchsorted(np.asarray(rollout.epochs), epoch[judged], side="right") - 1,
        failed=np.asarray(table["status"], dtype=object) == "failed",
        latency_ms=np.asarray(table["latency_us"], dtype=np.float64) / 1_000,
        contradicted=np.asarray([one in contradicted for one in table["id"].to_pylist()], dtype=bool),
        is_replay=np.asarray(table["replay"], dtype=bool),
        at=np.asarray(table["at"].cast(pa.timestamp("us"))),
        keys=np.asarray(table["key"].to_pylist(), dtype=object),
        ids=[str(one) for one in table["id"].to_pylist()],
        request=table["request"].to_pylist(),
    )


def _plain(value: Any) -> Any:
    """As it reads back from JSON: tuples are lists there."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
