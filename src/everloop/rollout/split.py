"""Splitting an endpoint's traffic between versions to learn which is best: A/B, A/B/n, until a person ends it.

Nothing moves by itself here: a split decides nothing and rolls nothing back. Its first arm is what answers now, and what
is left to it is the holdback. Rollouts on the endpoint wait until the split has ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_lowercase

from everloop import events, registry
from everloop.errors import Conflict, Invalid, NotFound
from everloop.ids import new_id
from everloop.ledger import Node, link
from everloop.rollout import store
from everloop.rollout.endpoints import change_traffic, endpoint
from everloop.rollout.evidence import slow_above_ms
from everloop.rollout.moves import end_holdback, take_back
from everloop.rollout.records import Act, Endpoint, LiveVariant, TrafficSplit
from everloop.rollout.start import ENOUGH, past, refuse, rollout_of
from everloop.storage import Tx
from everloop.workspace import Workspace


def plan_split(
    ws: Workspace,
    endpoint_name: str,
    shares: Mapping[str, float],
    *,
    sticky: bool,
    reason: str,
    again: bool = False,
) -> TrafficSplit:
    """What a split would do; changes nothing.

    Parameters
    ----------
    shares : percent of the traffic by version, the one that answers now among them; they add up to 100
    sticky : a key stays with its version, by hash of the split's salt and the key; each request is dealt anew otherwise

    Raises
    ------
    Invalid
        The shares are none, or what answers now has none.
    Conflict
        A rollout or a split is under way, or a version was rolled back here and `again` does not say that a person
        wants it all the same.
    """
    target = endpoint(ws, endpoint_name)
    shares = {_numbered(ws, ref): share for ref, share in shares.items()}
    control = _check(target, shares)
    arms = [LiveVariant("control", control.version, control.release, shares[control.version])]
    others = [version for version in shares if version != control.version]
    for name, version in zip(ascii_lowercase[1:], others, strict=False):
        refuse(ws, target, version, again=again, ends_holdback=False)
        arms.append(LiveVariant(name, version, registry.release_of(ws, version).id, shares[version]))
    return TrafficSplit(
        id=new_id("split"),
        endpoint=target.name,
        arms=tuple(arms),
        stickiness="key" if sticky else "request",
        slow_above_ms=_slow_above_ms(ws, target),
        state="running",
        epoch=0,
        reason=reason,
        outcome=None,
        started_at=ws.now(),
        ended_at=None,
    )


def split_traffic(
    ws: Workspace,
    endpoint_name: str,
    shares: Mapping[str, float],
    *,
    sticky: bool,
    reason: str,
    again: bool = False,
) -> TrafficSplit:
    """Split the traffic between versions, until `end_split`. Raises as `plan_split`."""
    made = plan_split(ws, endpoint_name, shares, sticky=sticky, reason=reason, again=again)
    ws.write(lambda tx: _begin(ws, tx, made))
    return split_of(ws, made.id)


def _numbered(ws: Workspace, ref: str) -> str:
    """The version that an alias stands for now; one that is named by its number as it stands."""
    return ref if ref.rpartition("@")[2].isdecimal() else registry.version(ws, ref).ref


def split_of(ws: Workspace, name: str) -> TrafficSplit:
    """A split by its id, or the newest of an endpoint by its name. Raises NotFound."""
    with ws.read() as connection:
        found = store.newest_split(connection, name)
    if found is None:
        raise NotFound(
            f"there is no split {name!r}, nor one on an endpoint of that name. Begin one: everloop rollouts split ENDPOINT "
            "VERSION=50 VERSION=50 --reason WHY"
        )
    return found


def end_split(ws: Workspace, endpoint_name: str, *, keep: str | None = None, reason: str) -> TrafficSplit:
    """Give all traffic to one of the arms, the control when none is named. Raises Conflict when none is under way.

    A holdback is ended for the new version when none is named; to keep the one before is to roll the new one back.
    """
    found = split_of(ws, endpoint_name)
    if found.rollout is not None:
        _end_holdback(ws, found, found.rollout, keep=keep, reason=reason)
        return split_of(ws, found.id)
    kept = next((one for one in found.arms if one.version == keep), None) if keep else found.arms[0]
    if kept is None:
        raise Invalid(
            f"{keep} is no arm of the split on {found.endpoint!r}; its arms are "
            f"{', '.join(one.version for one in found.arms)}. Keep one of these."
        )
    outcome = f"{kept.version} is kept: {reason}"

    def end(tx: Tx) -> None:
        if not store.end_split(tx, found.id, outcome=outcome, at=ws.now()):
            raise Conflict(
                f"the split {found.id} on {found.endpoint!r} has ended: {found.outcome}. Nothing is to be done."
            )
        alone = (LiveVariant("control", kept.version, kept.release, 100.0),)
        _change(ws, tx, found, alone, act="split_ended", reason=outcome)

    ws.write(end)
    return split_of(ws, found.id)


def _end_holdback(
    ws: Workspace, found: TrafficSplit, rollout_id: str, *, keep: str | None, reason: str
) -> None:
    rollout = rollout_of(ws, rollout_id)
    told = f"{ws.actor} decided: {reason}"
    if keep not in (None, rollout.version, rollout.from_version):
        raise Invalid(
            f"{keep} is no arm of the holdback on {found.endpoint!r}; its arms are {rollout.from_version}, {rollout.version}. "
            "Keep one of these."
        )
    if found.state == "ended":
        raise Conflict(
            f"the holdback {found.id} on {found.endpoint!r} has ended: {found.outcome}. Nothing is to be done."
        )
    if keep == rollout.from_version:
        ws.write(lambda tx: take_back(ws, tx, rollout, reason=told, decision=None))
    else:
        ws.write(lambda tx: end_holdback(ws, tx, rollout, found, reason=told))


def _check(target: Endpoint, shares: Mapping[str, float]) -> LiveVariant:
    """What answers now, once the shares are seen to make a split."""
    given = ", ".join(f"{version}={share:g}" for version, share in shares.items())
    if len(shares) < 2 or min(shares.values()) <= 0 or abs(sum(shares.values()) - 100) > 1e-6:
        raise Invalid(
            f"the shares are {given or 'none'}; two versions or more get percentages above 0 that add up to 100."
        )
    if len(shares) > len(ascii_lowercase):
        raise Invalid(f"{len(shares)} versions share the traffic; at most {len(ascii_lowercase)} may.")
    for version in shares:
        if version.partition("@")[0] != target.model:
            raise Invalid(
                f"{version} is not a version of {target.model!r}, the model that endpoint {target.name!r} serves."
            )
    control = next((one for one in target.variants if one.version in shares), None)
    if control is None:
        live = ", ".join(one.version for one in target.variants) or "nothing"
        raise Invalid(
            f"the shares are {given}, and {live} answers on {target.name!r} now; what answers is compared with, and keeps "
            "a share. Name it, too."
        )
    return control


def _slow_above_ms(ws: Workspace, target: Endpoint) -> float | None:
    if target.canary.slow_above_ms is not None:
        return target.canary.slow_above_ms
    latencies_ms = past(ws, target).latencies_ms
    return slow_above_ms(latencies_ms) if latencies_ms.size >= ENOUGH else None


def _begin(ws: Workspace, tx: Tx, made: TrafficSplit) -> None:
    tx.lock(f"endpoint:{made.endpoint}")
    current = store.endpoint_by_name(tx.connection, made.endpoint)
    is_as_planned = current is not None and [one.version for one in current.variants] == [
        made.arms[0].version
    ]
    states = ("running", "paused")
    is_taken = store.newest_rollouts(tx.connection, endpoint=made.endpoint, states=states, limit=1)
    if is_taken or not is_as_planned or store.open_split(tx.connection, made.endpoint):
        raise Conflict(f"what answers on {made.endpoint!r} changed just now. Look at it, and split it again.")
    store.end_watches(tx, made.endpoint)
    store.insert_split(tx, made)
    store.set_split_epoch(tx, made.id, _change(ws, tx, made, made.arms, act="split", reason=made.reason))
    for arm in made.arms:
        link(tx, Node("release", arm.release), Node("endpoint", made.endpoint), role="split", at=ws.now())


def _change(
    ws: Workspace, tx: Tx, of: TrafficSplit, variants: tuple[LiveVariant, ...], *, act: Act, reason: str
) -> int:
    epoch = change_traffic(
        ws,
        tx,
        of.endpoint,
        variants,
        act=act,
        reason=reason,
        rollout=None,
        stage=None,
        salt=new_id("ro"),
    )
    told = ", ".join(f"{one.version} {one.weight:g} %" for one in variants)
    node = Node("endpoint", of.endpoint)
    events.emit(
        ws, tx, f"rollout.{act}", node, message=f"{of.endpoint}: {told}: {reason}", payload={"split": of.id}
    )
    return epoch
