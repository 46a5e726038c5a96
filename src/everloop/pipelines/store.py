"""The tables of pipeline runs, and all SQL over them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.pipelines.records import Pinned, PipelineRun, Share, StepRun, Stored, Touched
from everloop.storage import Json, Tx, Utc, metadata

FINISHED = ("done", "cached")
UNDER_WAY = ("running", "pausing")  # the states in which somebody runs a run
_LINE = 400  # characters of an error that a list of runs shows
# As text, not as bound values: only then can a planner see that a partial index serves a question.
_IS_DONE = sa.text("state = 'done'")

pipeline_runs = sa.Table(
    "pipeline_run",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("pipeline", sa.String(200), nullable=False),
    sa.Column("entry", sa.String(400), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("params", Json, nullable=False),
    sa.Column("pins", Json, nullable=False),
    sa.Column("plan", Json, nullable=False),
    sa.Column("code", sa.String(64)),
    sa.Column("environment", sa.String(64), nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("lease_until", Utc),
    sa.Column("error", sa.Text),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.Index("ix_pipeline_run_pipeline_id", "pipeline", "id"),
)

# One row for each attempt. Both indexes are partial, as the migration says: of steps that are done, and of finished ones, so
# that a node of a run is finished once only, whoever tries. (Said here, it would load SQLAlchemy's part for PostgreSQL.)
step_runs = sa.Table(
    "step_run",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("run", sa.ForeignKey("pipeline_run.id"), nullable=False),
    sa.Column("node", sa.String(400), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("step", sa.String(400), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("key", sa.String(64)),
    sa.Column("parts", Json, nullable=False),
    sa.Column("output", Json),
    sa.Column("made_by", sa.String(40)),
    sa.Column("tracking_run", sa.String(40)),
    sa.Column("log", sa.String(400)),
    sa.Column("error", sa.Text),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.Column("seconds", sa.Float),
    sa.Column("touched", Json),
    sa.UniqueConstraint("run", "node", "attempt"),
    sa.Index("ix_step_run_key", "key"),
    sa.Index("ux_step_run_finished", "run", "node", unique=True),
)

# The parts of each source digest that ever ran, so that it can be said which function changed.
step_sources = sa.Table(
    "step_source",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("parts", Json, nullable=False),
)

# Runs that an engine outside of everloop conducts, by the engine's own name for each.
outside_runs = sa.Table(
    "outside_run",
    metadata,
    sa.Column("key", sa.String(400), primary_key=True),
    sa.Column("run", sa.ForeignKey("pipeline_run.id"), nullable=False),
)

# Which process works on which step of such a run, or on one call of a map; all of the run has the name "".
step_shares = sa.Table(
    "step_share",
    metadata,
    sa.Column("run", sa.ForeignKey("pipeline_run.id"), primary_key=True),
    sa.Column("node", sa.String(400), primary_key=True),
    sa.Column("holder", sa.String(40), nullable=False),
    sa.Column("worker", sa.String(200), nullable=False),
    sa.Column("lease_until", Utc, nullable=False),
)


# Statements of the path that each run and each step takes, built once: building one takes longer than running it. What
# is written is given beside the statement, as values inside of it would be.
_A_RUN = sa.select(sa.literal(1)).where(pipeline_runs.c.id == sa.bindparam("of_run"))
_RUN = sa.select(pipeline_runs).where(pipeline_runs.c.id == sa.bindparam("of_run"))
_ATTEMPTS = sa.select(step_runs).where(step_runs.c.run == sa.bindparam("of_run")).order_by(step_runs.c.id)
_INSERT_RUN = sa.insert(pipeline_runs)
_UPDATE_RUN = sa.update(pipeline_runs).where(pipeline_runs.c.id == sa.bindparam("of_run"))
_IS_HELD = (
    sa.select(pipeline_runs.c.id)
    .where(
        pipeline_runs.c.id == sa.bindparam("of_run"),
        pipeline_runs.c.token == sa.bindparam("under"),
        pipeline_runs.c.state.in_(UNDER_WAY),
    )
    .with_for_update()
)
_INSERT_STEP_RUNS = sa.insert(step_runs)
_ENDED = ("state", "output", "made_by", "tracking_run", "log", "error", "seconds", "ended_at", "touched")
_END_STEP_RUN = (
    sa.update(step_runs)
    .where(
        step_runs.c.id == sa.bindparam("of_id"),
        step_runs.c.token == sa.bindparam("under"),
        step_runs.c.state == "running",
    )
    .values({name: sa.bindparam(name) for name in _ENDED})
)
_INTERRUPT = (
    sa.update(step_runs)
    .where(step_runs.c.run == sa.bindparam("of_run"), step_runs.c.state == "running")
    .values(state="interrupted", ended_at=sa.bindparam("ended_at"))
)
_KNOWN_SOURCES = sa.select(step_sources.c.digest).where(
    step_sources.c.digest.in_(sa.bindparam("digests", expanding=True))
)
_MADE_UNDER = (
    sa.select(step_runs.c.id, step_runs.c.output, step_runs.c.ended_at)
    .where(step_runs.c.key == sa.bindparam("by_key"), _IS_DONE)
    .order_by(step_runs.c.id.desc())
    .limit(1)
)


def insert_run(tx: Tx, values: dict[str, Any]) -> None:
    tx.execute(_INSERT_RUN, values)


def has_run(connection: Connection, run_id: str) -> bool:
    return connection.execute(_A_RUN, {"of_run": run_id}).first() is not None


def run_by_id(connection: Connection, run_id: str) -> PipelineRun | None:
    """A run with its attempts."""
    row = connection.execute(_RUN, {"of_run": run_id}).first()
    return None if row is None else _run(row, attempts_of(connection, run_id))


def run_alone(connection: Connection, run_id: str) -> PipelineRun | None:
    """A run without its attempts, of which there may be thousands."""
    row = connection.execute(sa.select(pipeline_runs).where(pipeline_runs.c.id == run_id)).first()
    return None if row is None else _run(row, ())


def newest_runs(connection: Connection, *, pipeline: str | None, limit: int) -> list[PipelineRun]:
    """The newest runs, newest first, without their attempts."""
    statement = sa.select(pipeline_runs).order_by(pipeline_runs.c.id.desc()).limit(limit)
    if pipeline is not None:
        statement = statement.where(pipeline_runs.c.pipeline == pipeline)
    return [_run(row, ()) for row in connection.execute(statement)]


def pipeline_after(connection: Connection, name: str) -> str | None:
    """The first pipeline that ever ran with a name behind this one."""
    first = sa.select(sa.func.min(pipeline_runs.c.pipeline)).where(pipeline_runs.c.pipeline > name)
    found: str | None = connection.execute(first).scalar_one()
    return found


def run_lines(
    connection: Connection,
    *,
    pipeline: str | None,
    states: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    order: str,
    after: str | None,
    limit: int,
) -> Sequence[Any]:
    """Runs without what is long about them, in an order that `after`, the id of the last seen one, goes on with."""
    of = pipeline_runs.c
    took = sa.type_coerce(of.ended_at, sa.BigInteger) - sa.type_coerce(of.started_at, sa.BigInteger)
    error = sa.func.substr(of.error, 1, _LINE).label("error")
    statement = sa.select(of.id, of.pipeline, of.reason, of.state, error, of.started_at, of.ended_at)
    if pipeline is not None:
        statement = statement.where(of.pipeline == pipeline)
    if states:
        statement = statement.where(of.state.in_(states))
    if since is not None:
        statement = statement.where(of.started_at >= since)
    if until is not None:
        statement = statement.where(of.started_at < until)
    if order == "longest":
        statement = statement.where(of.ended_at.is_not(None)).order_by(took.desc(), of.id.desc())
        if after is not None:
            last = sa.select(took).where(of.id == after).scalar_subquery()
            statement = statement.where(sa.or_(took < last, sa.and_(took == last, of.id < after)))
    elif order == "oldest":
        statement = statement.order_by(of.id)
        if after is not None:
            statement = statement.where(of.id > after)
    else:
        statement = statement.order_by(of.id.desc())
        if after is not None:
            statement = statement.where(of.id < after)
    return connection.execute(statement.limit(limit)).all()


def run_without_calls(connection: Connection, run_id: str) -> PipelineRun | None:
    """A run with its attempts, but for those at the calls of maps."""
    row = connection.execute(sa.select(pipeline_runs).where(pipeline_runs.c.id == run_id)).first()
    if row is None:
        return None
    statement = (
        sa.select(step_runs)
        .where(step_runs.c.run == run_id, step_runs.c.node.not_like("%]"))
        .order_by(step_runs.c.id)
    )
    return _run(row, tuple(_step(one) for one in connection.execute(statement)))


def count_calls(connection: Connection, run_id: str) -> dict[str, dict[str, int]]:
    """By map of a run, how many of its calls are in which state after their last attempt."""
    last = _last_calls(run_id, "%]").subquery()
    name = sa.func.rtrim(last.c.node, "0123456789]")  # what is left of fit[12] is fit[
    counted = (
        sa.select(name, last.c.state, sa.func.count()).where(last.c.nth == 1).group_by(name, last.c.state)
    )
    found: dict[str, dict[str, int]] = {}
    for of_map, state, count in connection.execute(counted):
        found.setdefault(of_map[:-1], {})[state] = count
    return found


def attempts_at(connection: Connection, run_id: str, node: str) -> list[StepRun]:
    """All attempts at one node of a run, in the order in which they began."""
    statement = sa.select(step_runs).where(step_runs.c.run == run_id, step_runs.c.node == node)
    return [_step(row) for row in connection.execute(statement.order_by(step_runs.c.attempt))]


def calls_of(
    connection: Connection, run_id: str, node: str, *, states: Sequence[str], limit: int
) -> list[StepRun]:
    """The last attempts at the calls of one map, the newest first."""
    escaped = re.sub(r"([%_\\])", r"\\\1", node)
    last = _last_calls(run_id, f"{escaped}[%]").subquery()
    statement = sa.select(step_runs).join(last, last.c.id == step_runs.c.id).where(last.c.nth == 1)
    if states:
        statement = statement.where(last.c.state.in_(states))
    return [_step(row) for row in connection.execute(statement.order_by(step_runs.c.id.desc()).limit(limit))]


def _last_calls(run_id: str, like: str) -> sa.Select[Any]:
    """Attempts at calls of maps; the last one at each has `nth` 1."""
    of = step_runs.c
    nth = sa.func.row_number().over(partition_by=of.node, order_by=of.attempt.desc()).label("nth")
    return sa.select(of.id, of.node, of.state, nth).where(of.run == run_id, of.node.like(like, escape="\\"))


def attempts_of(connection: Connection, run_id: str) -> tuple[StepRun, ...]:
    """All attempts at steps of a run, in the order in which they began."""
    return tuple(_step(row) for row in connection.execute(_ATTEMPTS, {"of_run": run_id}))


def step_run_by_id(connection: Connection, step_run_id: str) -> StepRun | None:
    row = connection.execute(sa.select(step_runs).where(step_runs.c.id == step_run_id)).first()
    return None if row is None else _step(row)


def is_held(tx: Tx, run_id: str, *, token: int) -> bool:
    """Whether `token` is in force; on PostgreSQL nobody can take the run over until the transaction ends."""
    return tx.execute(_IS_HELD, {"of_run": run_id, "under": token}).first() is not None


def locked_run(tx: Tx, run_id: str) -> PipelineRun | None:
    """A run that nobody else can change until the transaction ends."""
    row = tx.execute(_RUN.with_for_update(), {"of_run": run_id}).first()
    return None if row is None else _run(row, ())


def update_run(tx: Tx, run_id: str, values: dict[str, Any]) -> None:
    tx.execute(_UPDATE_RUN, {**values, "of_run": run_id})


def renew(tx: Tx, run_id: str, *, token: int, until: datetime) -> str | None:
    """Push the lease's end out if `token` is still in force; the run's state, None: it is not."""
    held = (
        pipeline_runs.c.id == run_id,
        pipeline_runs.c.token == token,
        pipeline_runs.c.state.in_(UNDER_WAY),
    )
    statement = sa.update(pipeline_runs).where(*held).values(lease_until=until)
    return tx.execute(statement.returning(pipeline_runs.c.state)).scalar()


def insert_step_runs(tx: Tx, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        tx.execute(_INSERT_STEP_RUNS, list(rows))


def end_step_run(tx: Tx, step_run_id: str, *, token: int, values: dict[str, Any]) -> bool:
    """Write how an attempt ended (`_ENDED`) if it still runs under this token; whether it did."""
    return tx.execute(_END_STEP_RUN, {**values, "of_id": step_run_id, "under": token}).rowcount == 1


def interrupt(tx: Tx, run_id: str, *, ended_at: datetime, nodes: Sequence[str] | None = None) -> None:
    """Mark the attempts that a dead or replaced runner left open; with `nodes` those at these alone."""
    statement = _INTERRUPT if nodes is None else _INTERRUPT.where(step_runs.c.node.in_(nodes))
    tx.execute(statement, {"of_run": run_id, "ended_at": ended_at})


def open_nodes(connection: Connection, run_id: str) -> list[str]:
    """The steps of a run that an attempt is under way at, dead or alive."""
    statement = sa.select(step_runs.c.node).where(step_runs.c.run == run_id, step_runs.c.state == "running")
    return list(connection.execute(statement).scalars())


def run_under(connection: Connection, key: str) -> str | None:
    """The run that an outside engine conducts under its own name."""
    return connection.execute(sa.select(outside_runs.c.run).where(outside_runs.c.key == key)).scalar()


def keep_key(tx: Tx, key: str, run_id: str) -> None:
    tx.execute(sa.insert(outside_runs).values(key=key, run=run_id))


def shares_of(connection: Connection, run_id: str) -> list[Share]:
    """Who works on what of a run that is conducted from outside."""
    statement = sa.select(step_shares).where(step_shares.c.run == run_id)
    return [Share(**row._mapping) for row in connection.execute(statement)]


def keep_share(tx: Tx, share: Share) -> None:
    tx.execute(sa.insert(step_shares).values(**vars(share)))


def drop_shares(tx: Tx, run_id: str, holders: Sequence[str]) -> None:
    tx.execute(sa.delete(step_shares).where(step_shares.c.run == run_id, step_shares.c.holder.in_(holders)))


def is_shared(tx: Tx, share: Share) -> bool:
    """Whether a share is still its holder's; on PostgreSQL nobody can take it until the transaction ends."""
    statement = sa.select(step_shares.c.node).where(*_is_share(share)).with_for_update()
    return tx.execute(statement).first() is not None


def renew_share(tx: Tx, share: Share, *, until: datetime) -> bool:
    """Push a share's end out if it is still its holder's; whether it was."""
    return tx.execute(sa.update(step_shares).where(*_is_share(share)).values(lease_until=until)).rowcount == 1


def _is_share(share: Share) -> tuple[sa.ColumnElement[bool], ...]:
    at = step_shares.c
    return (at.run == share.run, at.node == share.node, at.holder == share.holder)


def made_under(
    connection: Connection, key: str, *, since: datetime | None = None
) -> tuple[str, Stored] | None:
    """The newest step run that made a result under this cache key, and the result; None if it is from before `since`."""
    row = connection.execute(_MADE_UNDER, {"by_key": key}).first()
    is_there = row is not None and (since is None or row.ended_at >= since)
    return (row.id, Stored(**row.output)) if row is not None and is_there else None


def finished_before(connection: Connection, attempt: StepRun, pipeline: str) -> StepRun | None:
    """The last finished step run of the same node of the same pipeline in an earlier run."""
    statement = (
        sa.select(step_runs)
        .join(pipeline_runs, pipeline_runs.c.id == step_runs.c.run)
        .where(
            pipeline_runs.c.pipeline == pipeline,
            step_runs.c.node == attempt.node,
            step_runs.c.run < attempt.run,
            step_runs.c.state.in_(FINISHED),
            step_runs.c.key.is_not(None),  # a rerun has none: it is beside the history
        )
        .order_by(step_runs.c.id.desc())
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else _step(row)


def keep_sources(tx: Tx, sources: Mapping[str, Mapping[str, str]]) -> None:
    """Keep the parts of source digests; those known already are left alone."""
    if not sources:
        return
    tx.lock("step_source")
    known = set(tx.execute(_KNOWN_SOURCES, {"digests": list(sources)}).scalars())
    new = [
        {"digest": digest, "parts": dict(parts)} for digest, parts in sources.items() if digest not in known
    ]
    if new:
        tx.execute(sa.insert(step_sources), new)


def source_parts(connection: Connection, digest: str) -> dict[str, str]:
    found = connection.execute(
        sa.select(step_sources.c.parts).where(step_sources.c.digest == digest)
    ).scalar()
    return dict(found or {})


def stored_json(stored: Stored | None) -> dict[str, Any] | None:
    """A result as JSON; `dataclasses.asdict` copies deeply, which takes longer than writing the row."""
    return None if stored is None else dict(vars(stored))


def _run(row: sa.Row[Any], steps: tuple[StepRun, ...]) -> PipelineRun:
    values = dict(row._mapping)
    pins = {name: Pinned(**pinned) for name, pinned in values.pop("pins").items()}
    return PipelineRun(**values, pins=pins, steps=steps)


def _step(row: sa.Row[Any]) -> StepRun:
    values = dict(row._mapping)
    output = values.pop("output")
    touched = tuple(Touched(**one) for one in values.pop("touched") or ())
    return StepRun(**values, output=None if output is None else Stored(**output), touched=touched)
