"""Endpoints: what answers where, now and then, and the route table that serving processes read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from everloop import registry, serving
from everloop.errors import AlreadyExists, Conflict, Invalid, NotFound
from everloop.ids import new_id
from everloop.ledger import Node, audit
from everloop.predictions import LogPolicy
from everloop.rollout import store
from everloop.rollout.plans import Canary
from everloop.rollout.records import (
    Act,
    Endpoint,
    LiveVariant,
    LiveVersion,
    Rollout,
    RolloutEvent,
    RoutingRule,
    TrafficSplit,
    answering_and_standby,
)
from everloop.serving import Limits, Route, RouteTable, Rule, Segment, Variant
from everloop.storage import Tx
from everloop.workspace import Workspace

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,59}")  # as in loop files
REST = "rest"  # the variant of requests that a rollout of a segment leaves alone


def define_endpoint(
    ws: Workspace,
    tx: Tx,
    name: str,
    *,
    model: str,
    canary: Canary,
    key: str | None = None,
    stickiness: Literal["request", "key"] = "request",
    log: LogPolicy | None = None,
    rules: Sequence[RoutingRule] | None = None,
    limits: Limits | None = None,
) -> None:
    """Create an endpoint or change how its next rollout goes; a rollout under way keeps its plan.

    `key` is the input that is the key of requests without one. It and how predictions are logged hold from now on; None logs
    each whole. `rules`, as `checked_rules` gives them, take force at once; None leaves those that there are. `limits` are in
    force at once, for all that answers; left out, there are none.
    """
    known = store.endpoint_by_name(tx.connection, name)
    policy = log or LogPolicy()
    settings = {
        "model": model,
        "key": key,
        "stickiness": stickiness,
        "canary": canary.to_value(),
        "log": msgspec.structs.asdict(policy),
    }
    if known is not None and known.model != model:
        raise Conflict(
            f"endpoint {name!r} serves the model {known.model!r}, not {model!r}; callers rely on that. "
            "Declare another endpoint for the other model."
        )
    first = {"salt": new_id("ro"), "variants": [], "epoch": 0, "created_at": ws.now()}
    store.upsert_endpoint(tx, name, settings, first)
    if known is not None and known.variants and (known.log, known.key) != (policy, key):
        tx.lock("routes")
        store.change_epoch(tx, name, store.newest_epoch(tx.connection) + 1)
        tx.afterwards("routes", lambda: _publish_later(ws))
    limits = limits or Limits()
    _limit(ws, tx, name, known, limits)
    after = {**settings, "limits": msgspec.to_builtins(limits)}
    audit(ws, tx, "endpoint.define", Node("endpoint", name), after=after)
    defined = store.endpoint_by_name(tx.connection, name)
    if rules is not None and defined is not None:
        change_rules(ws, tx, defined, rules, reason="the loop file declares them")


def set_limits(ws: Workspace, name: str, limits: Limits) -> Endpoint:
    """Change what an endpoint's models may take, at once and without a lost request. Audited. Raises NotFound."""
    known = endpoint(ws, name)

    def change(tx: Tx) -> None:
        _limit(ws, tx, name, known, limits)
        before, after = msgspec.to_builtins(known.limits), msgspec.to_builtins(limits)
        audit(ws, tx, "endpoint.limit", Node("endpoint", name), before=before, after=after)

    ws.write(change)
    return endpoint(ws, name)


def _limit(ws: Workspace, tx: Tx, name: str, known: Endpoint | None, limits: Limits) -> None:
    """Serving processes hear of it by the next epoch, where anything is live."""
    if known is None or known.limits == limits or not (known.variants or known.standby):
        store.set_limits(tx, name, limits, epoch=None)
        return
    tx.lock("routes")
    store.set_limits(tx, name, limits, epoch=store.newest_epoch(tx.connection) + 1)
    tx.afterwards("routes", lambda: _publish_later(ws))


def create_endpoint(
    ws: Workspace, name: str, model: str, *, canary: Canary, limits: Limits | None = None
) -> Endpoint:
    """Make an endpoint for a model that no loop file declares, such as one that an mlflow client logged. Audited.

    Raises
    ------
    AlreadyExists
        There is an endpoint of this name.
    Invalid
        It cannot be a name.
    NotFound
        There is no such model.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(
            f"{name[:60]!r} cannot name an endpoint: it begins with a small letter and goes on with small letters, digits, _ or "
            "-, 60 at most. Choose another."
        )
    registry.model(ws, model)

    def change(tx: Tx) -> None:
        tx.lock(f"endpoint:{name}")
        if store.endpoint_by_name(tx.connection, name) is not None:
            raise AlreadyExists(
                f"there is an endpoint {name!r} already. 'everloop endpoints list' says what it serves; a loop file changes it."
            )
        define_endpoint(ws, tx, name, model=model, canary=canary, limits=limits)

    ws.write(change)
    return endpoint(ws, name)


def endpoint(ws: Workspace, name: str) -> Endpoint:
    """One endpoint. Raises NotFound."""
    with ws.read() as connection:
        found = store.endpoint_by_name(connection, name)
    if found is None:
        raise NotFound(
            f"there is no endpoint {name!r}. Declare it in the loop file with el.endpoint(...) and apply it, or without a loop "
            f"file: everloop endpoints create {name} MODEL"
        )
    return found


def endpoints(ws: Workspace) -> list[Endpoint]:
    with ws.read() as connection:
        return store.all_endpoints(connection)


def live(ws: Workspace, name: str, *, at: datetime | None = None) -> tuple[LiveVariant, ...]:
    """What answers on an endpoint now, or answered at a moment of domain time."""
    if at is None:
        return endpoint(ws, name).variants
    with ws.read() as connection:
        event = store.last_change_before(connection, name, at)
    return () if event is None or event.variants is None else event.variants


def live_of_model(ws: Workspace, model: str, *, at: datetime | None = None) -> list[LiveVersion]:
    """Which versions of a model answer where, or answered at a moment of domain time, by endpoint, with what let them."""
    moment = ws.now() if at is None else at
    with ws.read() as connection:
        events = [
            store.last_change_before(connection, one.name, moment)
            for one in store.all_endpoints(connection)
            if one.model == model
        ]
    return [
        LiveVersion(event.endpoint, one.version, one.name, one.weight, event.at, event.actor, event.reason)
        for event in events
        if event is not None
        for one in event.variants or ()
    ]


def require_not_live(ws: Workspace, ref: str) -> None:
    """Raise Conflict when a version, or any version of a model, answers on an endpoint or is kept warm there."""
    for one in endpoints(ws):
        for rule in one.rules:
            if ref == rule.to:
                raise Conflict(
                    f"the rule {rule.name!r} on the endpoint {one.name} sends requests to {ref}; what is loaded is not deleted. "
                    f"Drop the rule first: everloop endpoints drop-rule {one.name} {rule.name} --reason WHY"
                )
        for variant in one.standby:
            if ref == variant.version:
                raise Conflict(
                    f"{variant.version} is kept warm on the endpoint {one.name}, to be gone back to; what is loaded is not "
                    f"deleted. Wait until its watch is over: everloop rollouts list --endpoint {one.name}"
                )
        for variant in one.variants:
            if ref in (variant.version, one.model):
                raise Conflict(
                    f"{variant.version} answers on the endpoint {one.name}; what is live is not deleted. Roll another version "
                    f"out first: everloop rollouts start {one.name} VERSION --reason WHY"
                )


def change_traffic(
    ws: Workspace,
    tx: Tx,
    name: str,
    variants: Sequence[LiveVariant],
    *,
    act: Act,
    reason: str,
    rollout: str | None,
    stage: int | None,
    salt: str,
    decision: dict[str, object] | None = None,
) -> int:
    """Record who answers from now on, and who is kept warm, in the transaction of what decided it, and return the new epoch.

    The route table is written after the commit; when that is cut off, the next `publish` writes it.
    """
    tx.lock("routes")
    epoch = store.newest_epoch(tx.connection) + 1
    before = store.endpoint_by_name(tx.connection, name)
    store.set_variants(tx, name, variants, epoch=epoch, salt=salt)
    answering, standby = answering_and_standby(variants)
    event = RolloutEvent(
        id=new_id("re"),
        endpoint=name,
        rollout=rollout,
        at=ws.now(),
        act=act,
        actor=ws.actor,
        stage=stage,
        reason=reason,
        decision=decision,
        variants=answering,
        epoch=epoch,
        standby=standby,
    )
    store.insert_event(tx, event)
    audit(
        ws,
        tx,
        f"rollout.{act}",
        Node("endpoint", name),
        before=None if before is None else [str(one) for one in (*before.variants, *before.standby)],
        after=[str(one) for one in variants],
        reason=reason,
        rollout=rollout,
        epoch=epoch,
    )
    tx.afterwards("routes", lambda: _publish_later(ws))
    return epoch


def move_stage(ws: Workspace, tx: Tx, name: str, *, to: str, instead_of: str, reason: str) -> None:
    """Let the registry's stage of what is live follow the traffic of an endpoint, unless the version before answers elsewhere.

    To be asked for before the endpoint is locked: declaring a loop locks a model before its endpoints, too.
    """
    every = store.all_endpoints(tx.connection)
    elsewhere = {one.version for endpoint in every if endpoint.name != name for one in endpoint.variants}
    if instead_of not in elsewhere:
        registry.now_live(ws, tx, to, instead_of=instead_of, reason=reason)


def change_rules(
    ws: Workspace, tx: Tx, known: Endpoint, rules: Sequence[RoutingRule], *, reason: str
) -> None:
    """Record which rules place requests from now on, where they differ. What chance deals stays as it is."""
    if tuple(rules) == known.rules:
        return
    tx.lock("routes")
    epoch = store.newest_epoch(tx.connection) + 1
    store.set_rules(tx, known.name, rules, epoch=epoch)
    event = RolloutEvent(
        id=new_id("re"),
        endpoint=known.name,
        rollout=None,
        at=ws.now(),
        act="rules",
        actor=ws.actor,
        stage=None,
        reason=reason,
        decision=None,
        variants=known.variants,
        epoch=epoch,
        standby=known.standby,
    )
    store.insert_event(tx, event)
    audit(
        ws,
        tx,
        "rollout.rules",
        Node("endpoint", known.name),
        before=[str(one) for one in known.rules],
        after=[str(one) for one in rules],
        reason=reason,
        epoch=epoch,
    )
    tx.afterwards("routes", lambda: _publish_later(ws))


def publish(ws: Workspace) -> int:
    """Write the route table that the database says is in force, unless it stands already; its epoch."""
    with ws.read() as connection:
        known = [one for one in store.all_endpoints(connection) if one.variants]
        epoch = store.newest_epoch(connection)
        splits = {one.endpoint: one for one in store.open_splits(connection)}
        open_ones = store.newest_rollouts(connection, states=("running", "paused"))
        judged = store.judged_endpoints(connection)
    current = serving.read_routes(folder(ws))
    limited = {one.endpoint: one for one in open_ones if one.canary.only and one.weight > 0}
    routes = {
        one.name: _route(one, splits.get(one.name), limited.get(one.name), is_judged=one.name in judged)
        for one in known
    }
    if known and (current is None or current.epoch < epoch):
        try:
            serving.write_routes(folder(ws), RouteTable(epoch, routes))
        except Conflict:
            return epoch  # another process was quicker
    return epoch


def is_behind(ws: Workspace) -> bool:
    """Whether the route table in this home is older than the database's: a process elsewhere changed it."""
    with ws.read() as connection:
        epoch = store.newest_epoch(connection)
    current = serving.read_routes(folder(ws))
    return epoch > 0 and (current is None or current.epoch < epoch)


def has_gone_live(ws: Workspace) -> bool:
    """Whether anything ever went live, as far as this home knows: only then there is something to serve."""
    return serving.has_routes(folder(ws))


def folder(ws: Workspace) -> Path:
    """Where the data plane's files are."""
    return ws.home / "serving"


def _publish_later(ws: Workspace) -> None:
    """On the writer's thread reading the database is allowed, as the commit is over."""
    publish(ws)


def _route(known: Endpoint, split: TrafficSplit | None, limited: Rollout | None, *, is_judged: bool) -> Route:
    """`limited` is the rollout under way that only a segment of the requests meets.

    Whose requests are compared logs each of them, whatever its policy: a judge that sees a tenth waits ten times as long.
    """
    variants = tuple(Variant(one.name, one.release, one.weight, one.dealt_as) for one in known.variants)
    # a shadow that gets 0 % is what serving loads and warms and never asks
    standby = tuple(Variant(one.name, one.release, one.mirrored) for one in known.standby)
    segments: tuple[Segment, ...] = ()
    rest = None
    if limited is not None and limited.from_release is not None:
        segments = tuple(Segment(name, tuple(values)) for name, values in limited.canary.only.items())
        rest = Variant(REST, limited.from_release, 0.0)
    stickiness = known.stickiness if split is None else split.stickiness
    log = msgspec.structs.replace(known.log, sample=1.0, sample_failed=1.0) if is_judged else known.log
    return Route(
        known.name,
        known.salt,
        variants,
        stickiness=stickiness,
        shadow=standby,
        segments=segments,
        rest=rest,
        log=log,
        rules=_rules(known),
        limits=known.limits,
        key=known.key,
    )


def _rules(known: Endpoint) -> tuple[Rule, ...]:
    """Those of the endpoint's rules whose version is there."""
    found = []
    for rule in known.rules:
        variant = _placed_on(known, rule)
        if variant is not None:
            header = None if rule.header is None else rule.header.lower()
            found.append(Rule(rule.name, variant, header, rule.input, rule.values))
    return tuple(found)


def _placed_on(known: Endpoint, rule: RoutingRule) -> Variant | None:
    names = ("canary", "shadow") if rule.to == "candidate" else (rule.to,)
    for one in (*known.variants, *known.standby):
        if one.name in names or (rule.release is not None and one.release == rule.release):
            return Variant(one.name, one.release, 0.0)
    return None if rule.release is None else Variant("rule", rule.release, 0.0)
