"""The tables of endpoints, rollouts and their events, and all SQL over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.predictions import LogPolicy
from everloop.rollout.plans import Canary
from everloop.rollout.records import (
    Endpoint,
    LiveVariant,
    Rollout,
    RolloutEvent,
    RoutingRule,
    Stage,
    TrafficSplit,
    answering_and_standby,
)
from everloop.serving import Limits
from everloop.storage import Json, Tx, Utc, metadata

endpoints = sa.Table(
    "endpoint",
    metadata,
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("model", sa.String(60), nullable=False),
    sa.Column("key", sa.String(120)),
    sa.Column("stickiness", sa.String(12), nullable=False),
    sa.Column("canary", Json, nullable=False),
    sa.Column("salt", sa.String(40), nullable=False),
    sa.Column("variants", Json, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("log", Json),
    sa.Column("rules", Json),
    sa.Column("limits", Json),
)

rollouts = sa.Table(
    "rollout",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(60), nullable=False),
    sa.Column("version", sa.String(80), nullable=False),
    sa.Column("release", sa.String(40), nullable=False),
    sa.Column("from_version", sa.String(80)),
    sa.Column("from_release", sa.String(40)),
    sa.Column("stages", Json, nullable=False),
    sa.Column("canary", Json, nullable=False),
    sa.Column("slow_above_ms", sa.Float),
    sa.Column("before", Json, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("epochs", Json, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.Column("watch_until", Utc),
    sa.Column("watched_at", Utc),
    sa.Index("ix_rollout_endpoint_id", "endpoint", "id"),
    sa.Index("ix_rollout_state", "state"),
    sa.Index("ix_rollout_watch_until", "watch_until"),
)

_OF_THE_JUDGE = ("look", "advanced", "finished", "rolled_back", "overdue")
events = sa.Table(
    "rollout_event",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(60), nullable=False),
    sa.Column("rollout", sa.String(40)),
    sa.Column("at", Utc, nullable=False),
    sa.Column("act", sa.String(20), nullable=False),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("stage", sa.Integer),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("decision", Json),
    sa.Column("variants", Json),
    sa.Column("epoch", sa.BigInteger),
    sa.Index("ix_rollout_event_endpoint", "endpoint", "id"),
    sa.Index("ix_rollout_event_rollout", "rollout", "id"),
)

splits = sa.Table(
    "traffic_split",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("endpoint", sa.String(60), nullable=False),
    sa.Column("arms", Json, nullable=False),
    sa.Column("stickiness", sa.String(12), nullable=False),
    sa.Column("slow_above_ms", sa.Float),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.Column("rollout", sa.String(40)),
    sa.Column("until", Utc),
    sa.Index("ix_traffic_split_endpoint_id", "endpoint", "id"),
    sa.Index("ix_traffic_split_state", "state"),
)


def endpoint_by_name(connection: Connection, name: str) -> Endpoint | None:
    row = connection.execute(sa.select(endpoints).where(endpoints.c.name == name)).first()
    return None if row is None else _endpoint(row)


def all_endpoints(connection: Connection) -> list[Endpoint]:
    return [_endpoint(row) for row in connection.execute(sa.select(endpoints).order_by(endpoints.c.name))]


def upsert_endpoint(tx: Tx, name: str, settings: dict[str, Any], first: dict[str, Any]) -> None:
    """Change an endpoint's settings; a new one begins with `first` as well."""
    changed = tx.execute(sa.update(endpoints).where(endpoints.c.name == name).values(**settings))
    if changed.rowcount == 0:
        tx.execute(sa.insert(endpoints).values(name=name, **settings, **first))


def newest_epoch(connection: Connection) -> int:
    """The epoch of the last change to any endpoint; 0 when there was none."""
    return connection.execute(sa.select(sa.func.max(endpoints.c.epoch))).scalar() or 0


def set_variants(tx: Tx, name: str, variants: Sequence[LiveVariant], *, epoch: int, salt: str) -> None:
    values = {"variants": [asdict(one) for one in variants], "epoch": epoch, "salt": salt}
    tx.execute(sa.update(endpoints).where(endpoints.c.name == name).values(**values))


def set_rules(tx: Tx, name: str, rules: Sequence[RoutingRule], *, epoch: int) -> None:
    values = {"rules": [one.as_json() for one in rules], "epoch": epoch}
    tx.execute(sa.update(endpoints).where(endpoints.c.name == name).values(**values))


def set_limits(tx: Tx, name: str, limits: Limits, *, epoch: int | None) -> None:
    """`epoch` is the new one of an endpoint that something answers on."""
    values = {"limits": msgspec.to_builtins(limits), **({} if epoch is None else {"epoch": epoch})}
    tx.execute(sa.update(endpoints).where(endpoints.c.name == name).values(**values))


def insert_rollout(tx: Tx, rollout: Rollout) -> None:
    values = {**asdict(rollout), "canary": rollout.canary.to_value()}
    tx.execute(sa.insert(rollouts).values(**values))


def update_rollout(tx: Tx, rollout_id: str, *, state: str, stage: int, values: dict[str, Any]) -> bool:
    """Change a rollout that is still in this state and stage, and watched where it is done; whether it was."""
    statement = sa.update(rollouts).where(
        rollouts.c.id == rollout_id, rollouts.c.state == state, rollouts.c.stage == stage
    )
    if state == "done":
        statement = statement.where(rollouts.c.watch_until.is_not(None))
    return tx.execute(statement.values(**values)).rowcount == 1


def begin_watch(tx: Tx, rollout_id: str, *, epochs: Sequence[int], until: datetime | None) -> None:
    values = {"epochs": list(epochs), "watch_until": until}
    tx.execute(sa.update(rollouts).where(rollouts.c.id == rollout_id).values(**values))


def mark_watched(tx: Tx, rollout_id: str, *, at: datetime) -> None:
    tx.execute(sa.update(rollouts).where(rollouts.c.id == rollout_id).values(watched_at=at))


def end_watches(tx: Tx, endpoint: str) -> None:
    """Watch no finished rollout of this endpoint any more."""
    watched = (rollouts.c.endpoint == endpoint, rollouts.c.watch_until.is_not(None))
    tx.execute(sa.update(rollouts).where(*watched).values(watch_until=None))


def watched_rollouts(connection: Connection, *, not_since: datetime, ends_by: datetime) -> list[Rollout]:
    """The watched rollouts that nobody has looked at since a moment, or whose watch ends by another."""
    is_due = sa.or_(
        rollouts.c.watched_at.is_(None),
        rollouts.c.watched_at <= not_since,
        rollouts.c.watch_until <= ends_by,
    )
    statement = sa.select(rollouts).where(rollouts.c.watch_until.is_not(None), is_due)
    return [_rollout(row) for row in connection.execute(statement.order_by(rollouts.c.id).limit(1_000))]


def judged_endpoints(connection: Connection) -> set[str]:
    """Those whose requests are compared: in a rollout, in the watch after one, or in a split."""
    is_judged = sa.or_(rollouts.c.state.in_(("running", "paused")), rollouts.c.watch_until.is_not(None))
    compared = sa.select(rollouts.c.endpoint).where(is_judged)
    split = sa.select(splits.c.endpoint).where(splits.c.state == "running")
    return set(connection.execute(compared.union(split)).scalars())


def change_epoch(tx: Tx, name: str, epoch: int) -> None:
    tx.execute(sa.update(endpoints).where(endpoints.c.name == name).values(epoch=epoch))


def rollout_by_id(connection: Connection, rollout_id: str) -> Rollout | None:
    row = connection.execute(sa.select(rollouts).where(rollouts.c.id == rollout_id)).first()
    return None if row is None else _rollout(row)


def newest_rollouts(
    connection: Connection, *, endpoint: str | None = None, states: Sequence[str] = (), limit: int = 50
) -> list[Rollout]:
    statement = sa.select(rollouts).order_by(rollouts.c.id.desc()).limit(limit)
    if endpoint is not None:
        statement = statement.where(rollouts.c.endpoint == endpoint)
    if states:
        statement = statement.where(rollouts.c.state.in_(states))
    return [_rollout(row) for row in connection.execute(statement)]


def rollbacks(connection: Connection, version: str) -> list[Rollout]:
    """The newest rollouts in which the judge or a person took this version off an endpoint, newest first."""
    taken_back = sa.select(rollouts).where(rollouts.c.version == version, rollouts.c.state == "rolled_back")
    return [_rollout(row) for row in connection.execute(taken_back.order_by(rollouts.c.id.desc()).limit(50))]


def had_its_turn(connection: Connection, endpoint: str, version: str) -> bool:
    """Whether a rollout of this version on this endpoint was done, or a split in which it took part has ended."""
    done = sa.select(rollouts.c.id).where(
        rollouts.c.endpoint == endpoint, rollouts.c.version == version, rollouts.c.state == "done"
    )
    if connection.execute(done.limit(1)).first() is not None:
        return True
    ended = sa.select(splits.c.arms).where(splits.c.endpoint == endpoint, splits.c.state == "ended")
    newest = connection.execute(ended.order_by(splits.c.id.desc()).limit(50)).scalars()
    return any(arm["version"] == version for arms in newest for arm in arms)


def insert_split(tx: Tx, split: TrafficSplit) -> None:
    tx.execute(sa.insert(splits).values(**asdict(split)))


def set_split_epoch(tx: Tx, split_id: str, epoch: int) -> None:
    tx.execute(sa.update(splits).where(splits.c.id == split_id).values(epoch=epoch))


def end_split(tx: Tx, split_id: str, *, outcome: str, at: datetime) -> bool:
    """End a split that runs; whether it did."""
    running = sa.update(splits).where(splits.c.id == split_id, splits.c.state == "running")
    return tx.execute(running.values(state="ended", outcome=outcome, ended_at=at)).rowcount == 1


def newest_split(connection: Connection, name: str) -> TrafficSplit | None:
    """The split of this id, or the newest on the endpoint of this name."""
    statement = sa.select(splits).where(sa.or_(splits.c.id == name, splits.c.endpoint == name))
    row = connection.execute(statement.order_by(splits.c.id.desc()).limit(1)).first()
    return None if row is None else _split(row)


def holdback_of(connection: Connection, rollout: str) -> TrafficSplit | None:
    """What a rollout left to the version before, running or ended."""
    row = connection.execute(sa.select(splits).where(splits.c.rollout == rollout)).first()
    return None if row is None else _split(row)


def open_splits(connection: Connection) -> list[TrafficSplit]:
    """The splits that run, one an endpoint at most."""
    return [_split(row) for row in connection.execute(sa.select(splits).where(splits.c.state == "running"))]


def open_split(connection: Connection, endpoint: str) -> TrafficSplit | None:
    """The split that runs on an endpoint."""
    return next((one for one in open_splits(connection) if one.endpoint == endpoint), None)


def insert_event(tx: Tx, event: RolloutEvent) -> None:
    values = asdict(event)
    standby = values.pop("standby")
    if event.variants is not None:
        values["variants"] = [*values["variants"], *standby]
    tx.execute(sa.insert(events).values(**values))


def newest_events(
    connection: Connection,
    *,
    endpoint: str | None = None,
    rollout: str | None = None,
    without_looks: bool = False,
    limit: int = 100,
) -> list[RolloutEvent]:
    statement = sa.select(events).order_by(events.c.id.desc()).limit(limit)
    if endpoint is not None:
        statement = statement.where(events.c.endpoint == endpoint)
    if rollout is not None:
        statement = statement.where(events.c.rollout == rollout)
    if without_looks:
        statement = statement.where(events.c.act != "look")
    return [_event(row) for row in connection.execute(statement)]


def spread_looks(connection: Connection, rollout: str, *, most: int) -> list[RolloutEvent]:
    """What the judge decided of a rollout, oldest first; of many looks some, evenly, the first and the last among them."""
    looked = sa.select(events.c.id).where(events.c.rollout == rollout, events.c.act.in_(_OF_THE_JUDGE))
    ids = list(connection.execute(looked.order_by(events.c.id)).scalars())
    if len(ids) > most:
        ids = [ids[round(place * (len(ids) - 1) / (most - 1))] for place in range(most)]
    rows = connection.execute(sa.select(events).where(events.c.id.in_(ids)).order_by(events.c.id))
    return [event for row in rows if (event := _event(row)).decision is not None]


def has_event(connection: Connection, rollout: str, act: str) -> bool:
    """Whether a rollout has done this before."""
    statement = sa.select(events.c.id).where(events.c.rollout == rollout, events.c.act == act).limit(1)
    return connection.execute(statement).first() is not None


def event_by_id(connection: Connection, event_id: str) -> RolloutEvent | None:
    row = connection.execute(sa.select(events).where(events.c.id == event_id)).first()
    return None if row is None else _event(row)


def last_change_before(connection: Connection, endpoint: str, at: datetime) -> RolloutEvent | None:
    """The last event at or before `at` (domain time) that changed where traffic goes."""
    statement = (
        sa.select(events)
        .where(events.c.endpoint == endpoint, events.c.at <= at, events.c.epoch.is_not(None))
        .order_by(events.c.at.desc(), events.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else _event(row)


def _endpoint(row: sa.Row[Any]) -> Endpoint:
    values = dict(row._mapping)
    values["variants"], values["standby"] = _variants(row.variants)
    values["canary"] = Canary.from_value(row.canary)
    values["rules"] = tuple(RoutingRule(**{**one, "values": tuple(one["values"])}) for one in row.rules or ())
    values["log"] = LogPolicy(**(row.log or {}))
    values["limits"] = msgspec.convert(row.limits or {}, Limits)
    return Endpoint(**values)


def _rollout(row: sa.Row[Any]) -> Rollout:
    values = dict(row._mapping)
    return Rollout(
        **{
            **values,
            "canary": Canary.from_value(row.canary),
            "stages": tuple(Stage(**stage) for stage in row.stages),
            "before": {metric: (bad, total) for metric, (bad, total) in row.before.items()},
            "epochs": tuple(row.epochs),
        }
    )


def _event(row: sa.Row[Any]) -> RolloutEvent:
    variants, standby = (None, ()) if row.variants is None else _variants(row.variants)
    return RolloutEvent(**{**row._mapping, "variants": variants, "standby": standby})


def _variants(values: Sequence[dict[str, Any]]) -> tuple[tuple[LiveVariant, ...], tuple[LiveVariant, ...]]:
    """Those that answer, and those that are only kept warm."""
    return answering_and_standby([LiveVariant(**value) for value in values])


def _split(row: sa.Row[Any]) -> TrafficSplit:
    return TrafficSplit(**{**row._mapping, "arms": tuple(LiveVariant(**arm) for arm in row.arms)})
