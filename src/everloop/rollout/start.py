"""Planning and starting a rollout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from everloop import events, predictions, registry, serving
from everloop.errors import Conflict, Invalid, NotFound, NotReady
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.rollout import store
from everloop.rollout.dealt import has_timed_out, was_dealt
from everloop.rollout.endpoints import change_traffic, endpoint, folder, move_stage
from everloop.rollout.evidence import first_of_each_request, slow_above_ms
from everloop.rollout.plans import METRICS, Canary, is_truth
from everloop.rollout.records import Act, Endpoint, LiveVariant, Plan, Rollout, RolloutEvent, Stage, State
from everloop.rollout.truths import known_by, truths_of
from everloop.storage import Tx
from everloop.workspace import Workspace

BEFORE = timedelta(days=28)  # how far back the control's habits are read
ENOUGH = 100  # requests of the control from which slow can be told


@dataclass(frozen=True)
class Past:
    """What an endpoint did lately, request by request; `per_hour` is None when that was less than an hour."""

    failed: NDArray[np.bool_]  # (n_requests,)
    latencies_ms: NDArray[np.float64]  # of those that did not fail
    per_hour: float | None
    logged: float  # the part of the requests that these are
    timed_out: NDArray[np.bool_]  # (n_requests,)
    refused: float  # the part of all that was asked, these and the refused
    rows: pa.Table  # as logged: id, key, request


def plan(ws: Workspace, endpoint_name: str, version: str, *, again: bool = False) -> Plan:
    """What a rollout of a released version would do; changes nothing.

    Raises
    ------
    NotFound
        No such endpoint, or the version is not released.
    Conflict
        The version is live already, a rollout is under way, or the version was rolled back here before and
        `again` does not say that a person wants it all the same.
    Invalid
        The version is of another model than the endpoint serves.
    """
    target = endpoint(ws, endpoint_name)
    release = registry.release_of(ws, version)
    version = release.version  # what an alias, or the model's name, stands for now
    if release.model != target.model:
        raise Invalid(
            f"{version} is not a version of {target.model!r}, the model that endpoint {target.name!r} serves."
        )
    refuse(ws, target, version, again=again)
    live = target.variants[0] if target.variants else None
    return Plan(
        endpoint=target.name,
        version=version,
        release=release.id,
        from_version=None if live is None else live.version,
        from_release=None if live is None else live.release,
        stages=_stages(target.canary)
        if live is not None
        else (Stage(0, 100.0, "nothing is live yet: all at once"),),
        deadline=None if live is None else _deadline(target.canary),
        segment=None if live is None else _segment(ws, target.canary, release.id),
    )


def start(ws: Workspace, endpoint_name: str, version: str, *, reason: str, again: bool = False) -> Rollout:
    """Start rolling a version out: `tick` goes on with it, in any process.

    The first version of an endpoint has nothing to be compared with and goes live at once.

    Raises
    ------
    NotReady
        It is not known yet what slow means here: too few requests were answered. The same call succeeds later.
    """
    made = plan(ws, endpoint_name, version, again=again)
    target = endpoint(ws, endpoint_name)
    is_first = made.from_release is None
    before, slow_ms = ({}, None) if is_first else _habits(ws, target)
    at_once = "all at once, as the plan says" if len(made.stages) == 1 else None
    watch_h = 0.0 if is_first or at_once is None else target.canary.watch_h
    now = ws.now()
    rollout = Rollout(
        id=new_id("ro"),
        endpoint=made.endpoint,
        version=made.version,
        release=made.release,
        from_version=made.from_version,
        from_release=made.from_release,
        stages=made.stages,
        canary=target.canary,
        slow_above_ms=slow_ms,
        before=before,
        state="running" if at_once is None else "done",
        stage=0,
        epochs=(),
        reason=reason,
        outcome="the endpoint's first version: live at once" if is_first else at_once,
        started_at=now,
        ended_at=None if at_once is None else now,
        watch_until=now + timedelta(hours=watch_h) if watch_h else None,
    )
    ws.write(lambda tx: _begin(ws, tx, rollout))
    return rollout_of(ws, rollout.id)


def rollbacks(ws: Workspace, version: str) -> list[Rollout]:
    """The newest rollouts in which this version was taken off an endpoint, newest first: the mark that it bears."""
    with ws.read() as connection:
        return store.rollbacks(connection, version)


def was_rolled_back(ws: Workspace, endpoint_name: str, version: str) -> bool:
    """Whether this version was taken off this endpoint before: only a person brings it back."""
    return any(one.endpoint == endpoint_name for one in rollbacks(ws, version))


def is_left_to_people(ws: Workspace, endpoint_name: str, version: str) -> bool:
    """Whether only a person may start this version here, though nothing newer is live.

    It was taken off an endpoint, this one or another; or it had its turn here, mirrored, answering or in a split, and somebody
    let an older one answer.
    """
    with ws.read() as connection:
        return bool(store.rollbacks(connection, version)) or store.had_its_turn(
            connection, endpoint_name, version
        )


def check_start(ws: Workspace, endpoint_name: str, version: str) -> None:
    """Raises Conflict or NotReady when a rollout of the version could not be started now."""
    target = endpoint(ws, endpoint_name)
    refuse(ws, target, version, again=False)
    if target.variants:
        _habits(ws, target)


def rollout_of(ws: Workspace, rollout_id: str) -> Rollout:
    """One rollout. Raises NotFound."""
    with ws.read() as connection:
        found = store.rollout_by_id(connection, rollout_id)
    if found is None:
        raise NotFound(f"there is no rollout {rollout_id}. 'everloop rollouts list' shows them.")
    return found


def rollouts(
    ws: Workspace, *, endpoint_name: str | None = None, states: Sequence[State] = (), limit: int = 50
) -> list[Rollout]:
    """The newest rollouts, newest first."""
    with ws.read() as connection:
        return store.newest_rollouts(connection, endpoint=endpoint_name, states=states, limit=limit)


def history(
    ws: Workspace,
    *,
    endpoint_name: str | None = None,
    rollout: str | None = None,
    without_looks: bool = False,
    limit: int = 100,
) -> list[RolloutEvent]:
    """What rollouts did, newest first, each look of the judge included unless left out."""
    with ws.read() as connection:
        return store.newest_events(
            connection, endpoint=endpoint_name, rollout=rollout, without_looks=without_looks, limit=limit
        )


def looks(ws: Workspace, rollout_id: str, *, most: int = 100) -> list[RolloutEvent]:
    """What the judge decided of a rollout and on which numbers, oldest first; of many looks at most so many, evenly."""
    with ws.read() as connection:
        return store.spread_looks(connection, rollout_id, most=most)


def event_of(ws: Workspace, event_id: str) -> RolloutEvent:
    """One thing that a rollout did. Raises NotFound."""
    with ws.read() as connection:
        found = store.event_by_id(connection, event_id)
    if found is None:
        raise NotFound(
            f"there is no rollout event {event_id}. 'everloop rollouts show ID' lists a rollout's."
        )
    return found


def shares(rollout: Rollout, stage: int) -> tuple[LiveVariant, ...]:
    """Who answers in a stage of a rollout, and who is kept warm."""
    weight = rollout.stages[stage].weight
    alone = (LiveVariant("control", rollout.version, rollout.release, 100.0),)
    if rollout.from_version is None or rollout.from_release is None:
        return alone
    if weight == 0:
        mirrored = rollout.stages[stage].mirrored
        before = (LiveVariant("control", rollout.from_version, rollout.from_release, 100.0),)
        if stage == len(rollout.stages) - 1:
            return before
        name: Literal["shadow", "canary"] = "shadow" if mirrored else "canary"
        return (*before, LiveVariant(name, rollout.version, rollout.release, 0.0, mirrored))
    if rollout.canary.holdback and stage == len(rollout.stages) - 1:
        # dealt under the names of the steps: no key that has met the new version is held back from it
        return (
            LiveVariant("control", rollout.version, rollout.release, weight, dealt_as="canary"),
            LiveVariant(
                serving.HOLDBACK,
                rollout.from_version,
                rollout.from_release,
                100.0 - weight,
                dealt_as="control",
            ),
        )
    if weight >= 100:
        previous = LiveVariant("previous", rollout.from_version, rollout.from_release, 0.0)
        return (*alone, previous) if rollout.canary.watch_h else alone
    return (
        LiveVariant("control", rollout.from_version, rollout.from_release, 100.0 - weight),
        LiveVariant("canary", rollout.version, rollout.release, weight),
    )


def _stages(canary: Canary) -> tuple[Stage, ...]:
    margins = ", ".join(
        f"{metric} exceed the control by less than {100 * margin:g} points"
        for metric, margin in canary.excess_at_most.items()
        if margin is not None
    )
    watch = f"; the version before stays warm for {canary.watch_h:g} h" if canary.watch_h else ""
    if canary.holdback:
        watch = f"; {canary.holdback:g} % stay on the version before for {canary.holdback_h:g} h{watch}"
    first = (
        (Stage(0, 0.0, "when every serving process has loaded and warmed it"),) if canary.loads_first else ()
    )
    if canary.shadow:
        first = (Stage(0, 0.0, f"when {_paired_in_words(canary)}", canary.shadow),)
    if not canary.steps:
        return (*first, Stage(1, 0.0, "the rollout is done: it takes no traffic"))
    return first + tuple(
        Stage(
            number,
            step - canary.holdback if step == 100 else step,
            f"the rollout is done{watch}"
            if step == 100
            else f"when {margins or 'a person promotes it: no metric has a margin'}",
        )
        for number, step in enumerate(canary.steps, start=len(first))
    )


def _paired_in_words(canary: Canary) -> str:
    shown = [
        f"{metric} on the same requests exceed the live version's by less than {100 * margin:g} points"
        for metric, margin in canary.excess_at_most.items()
        if margin is not None and metric in METRICS and metric != "contradicted"
    ]
    if canary.differs_at_most is not None:
        shown.append(f"fewer than {100 * canary.differs_at_most:g} % of the answers differ")
    later = f"; {', '.join(canary.unpaired)}: not before the steps" if canary.unpaired else ""
    return (", ".join(shown) or "no metric shows harm") + later


def _segment(ws: Workspace, canary: Canary, release: str) -> str | None:
    """Which requests meet the new version first. Raises Invalid when the model has no such input."""
    if not canary.only:
        return None
    inputs = [one.name for one in serving.read_manifest(folder(ws), release).signature.inputs]
    if unknown := sorted(set(canary.only) - set(inputs)):
        raise Invalid(
            f"the plan limits the rollout by {', '.join(unknown)}; the model's inputs are {', '.join(inputs)}. Name one of these "
            "in el.canary(..., only=...)."
        )
    return canary.segment


def _deadline(canary: Canary) -> str | None:
    if canary.deadline_h is None:
        return None
    then = "it is rolled back" if canary.at_deadline == "roll_back" else "there is an alert, and it waits on"
    return f"not decided after {canary.deadline_h:g} h: {then}"


def refuse(ws: Workspace, target: Endpoint, version: str, *, again: bool, ends_holdback: bool = True) -> None:
    """Raise Conflict when a version may not begin to answer on an endpoint now."""
    with ws.read() as connection:
        open_ones = store.newest_rollouts(
            connection, endpoint=target.name, states=("running", "paused"), limit=1
        )
        rolled_back = store.rollbacks(connection, version)
        split = store.open_split(connection, target.name)
    if split is not None and not (ends_holdback and split.rollout is not None):
        raise Conflict(
            f"the traffic of {target.name!r} is split since {split.started_at:%Y-%m-%d %H:%M} ({split.reason}); a rollout has "
            f"no control meanwhile. End it first: everloop rollouts end-split {target.name} --reason WHY"
        )
    if open_ones:
        raise Conflict(
            f"rollout {open_ones[0].id} of {open_ones[0].version} is under way on {target.name!r}; one at a time. "
            f"Wait for it, or end it: everloop rollouts rollback {open_ones[0].id} --reason WHY"
        )
    if any(one.version == version and one.name != serving.HOLDBACK for one in target.variants):
        raise Conflict(f"{version} answers on {target.name!r} already. Nothing is to be done.")
    earlier = next((one for one in rolled_back if one.endpoint == target.name), None)
    if earlier is not None and not again:
        raise Conflict(
            f"{version} was rolled back on {target.name!r}: {earlier.outcome}. If a person has looked at that and wants it "
            f"all the same: everloop rollouts start {target.name} {version} --again --reason WHY"
        )


def _habits(ws: Workspace, target: Endpoint) -> tuple[dict[str, tuple[int, int]], float | None]:
    """What the endpoint did before: counts by metric for the judge's expectations, and what slow means here."""
    seen = past(ws, target)
    before = {"errors": (int(seen.failed.sum()), int(seen.failed.size))}
    if told := [metric for metric in target.canary.excess_at_most if is_truth(metric)]:
        truths = truths_of(ws, target.name, start=ws.now() - BEFORE, end=ws.now()).values()
        before |= {metric: known_by(truths, metric) for metric in told}
    if "slow" not in target.canary.excess_at_most:
        return before, None
    if target.canary.slow_above_ms is not None:
        return before, target.canary.slow_above_ms
    if seen.latencies_ms.size < ENOUGH:
        raise NotReady(
            f"endpoint {target.name!r} has answered {seen.latencies_ms.size} requests; what slow means is learned from "
            f"{ENOUGH}. Send it traffic first, or state el.canary(..., slow_above_ms=...)."
        )
    return before, slow_above_ms(seen.latencies_ms)


def past(ws: Workspace, target: Endpoint) -> Past:
    """What the endpoint answered in the last 28 days."""
    table = predictions.read(
        folder(ws),
        endpoint=target.name,
        start=ws.now() - BEFORE,
        columns=[
            "id",
            "at",
            "status",
            "error",
            "latency_us",
            "shadow_of",
            "request",
            "probability",
            "assigned",
            "key",
            "replay",
        ],
    )
    table = table.filter(pa.array(np.asarray(table["shadow_of"].is_null()) & was_dealt(table)))
    is_refused = np.asarray(table["status"]) == "refused"
    table, chance = predictions.evenly(table.filter(pa.array(~is_refused)))
    first, request = first_of_each_request(
        [str(one) for one in table["id"].to_pylist()], table["request"].to_pylist()
    )
    row_failed = np.asarray(table["status"]) == "failed"
    failed = np.bincount(request, weights=row_failed, minlength=len(first)) > 0
    timed_out = np.bincount(request, weights=has_timed_out(table), minlength=len(first)) > 0
    latencies_ms = np.zeros(len(first))
    np.maximum.at(latencies_ms, request, np.asarray(table["latency_us"]) / 1_000)
    earliest = pc.min(table["at"]).as_py()
    hours = (ws.now() - earliest) / timedelta(hours=1) if earliest is not None else 0.0
    return Past(
        failed,
        latencies_ms[~failed],
        len(first) / chance / hours if hours >= 1 else None,
        chance,
        timed_out,
        float(is_refused.mean()) if is_refused.size else 0.0,
        table.select(["id", "key", "request"]),
    )


def _begin(ws: Workspace, tx: Tx, rollout: Rollout) -> None:
    if rollout.state == "done" and rollout.from_version is not None:
        why = f"{rollout.version} answers on {rollout.endpoint}: {rollout.reason}"
        move_stage(ws, tx, rollout.endpoint, to=rollout.version, instead_of=rollout.from_version, reason=why)
    tx.lock(f"endpoint:{rollout.endpoint}")
    held = store.open_split(tx.connection, rollout.endpoint)
    if store.newest_rollouts(
        tx.connection, endpoint=rollout.endpoint, states=("running", "paused"), limit=1
    ) or (held is not None and held.rollout is None):
        raise Conflict(
            f"another rollout or split was started on {rollout.endpoint!r} just now; one at a time."
        )
    current = store.endpoint_by_name(tx.connection, rollout.endpoint)
    if (
        current.variants[0].version if current is not None and current.variants else None
    ) != rollout.from_version:
        raise Conflict(
            f"what answers on {rollout.endpoint!r} changed just now; the plan was made for {rollout.from_version}. Start again."
        )
    store.end_watches(tx, rollout.endpoint)
    if held is not None:
        store.end_split(tx, held.id, outcome=f"the rollout of {rollout.version} began", at=ws.now())
    salt = new_id("ro")
    epoch = change_traffic(
        ws,
        tx,
        rollout.endpoint,
        shares(rollout, 0),
        act=_first_act(rollout),
        reason=rollout.reason,
        rollout=rollout.id,
        stage=0,
        salt=salt,
    )
    values = {**rollout.__dict__, "epochs": (epoch,)}
    store.insert_rollout(tx, Rollout(**values))
    node = Node("rollout", rollout.id)
    link(tx, Node("release", rollout.release), node, role="rolled out", at=ws.now())
    link(tx, node, Node("endpoint", rollout.endpoint), role="changed", at=ws.now())
    told = {
        "rollout.started": f"begins on {rollout.endpoint} with {rollout.weight:g} % of the traffic: {rollout.reason}"
    }
    if rollout.state == "done" and rollout.from_release is not None:
        told["rollout.finished"] = f"answers all of {rollout.endpoint}: {rollout.outcome}"
    for kind, words in told.items():
        events.emit(
            ws,
            tx,
            kind,
            Node("endpoint", rollout.endpoint),
            message=f"{rollout.version} {words}",
            payload={"rollout": rollout.id},
        )


def _first_act(rollout: Rollout) -> Act:
    if rollout.from_release is None:
        return "first"
    return "finished" if rollout.state == "done" else "started"
