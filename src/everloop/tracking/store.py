"""The tables of tracking, and all SQL over them."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from everloop.storage import Json, Tx, Utc, inserting, metadata
from everloop.tracking.records import (
    Axis,
    Code,
    Environment,
    Experiment,
    MetricPoint,
    RawPoint,
    Run,
)


class Measure(sa.TypeDecorator[float]):
    """A float that may be NaN, which SQLite would store as NULL: there it is the text 'NaN'.

    On both databases a NaN equals itself and sorts after every number and after infinity.
    """

    impl = sa.Double
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        # instead of process_bind_param, whose text SQLAlchemy would turn into a float again
        return _nan_as_text if dialect.name == "sqlite" else super().bind_processor(dialect)

    def process_result_value(self, value: Any, dialect: Dialect) -> float | None:
        return None if value is None else float(value)


def _nan_as_text(value: float | None) -> Any:
    return "NaN" if value is not None and math.isnan(value) else value


experiments = sa.Table(
    "experiment",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    # SQLite does not look at the length of a text, and would copy the table to change it
    sa.Column("name", sa.String(250).with_variant(sa.String(500), "postgresql"), nullable=False, unique=True),
    sa.Column("created_at", Utc),
    sa.Column("artifact_root", sa.Text),
    sa.Column("updated_at", Utc),
    sa.Column("deleted_at", Utc),
)

experiment_tags = sa.Table(
    "experiment_tag",
    metadata,
    sa.Column("experiment", sa.ForeignKey(experiments.c.id), primary_key=True, autoincrement=False),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

codes = sa.Table(
    "code",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("commit", sa.String(64)),
    sa.Column("is_dirty", sa.Boolean, nullable=False),
    sa.Column("diff", sa.String(64)),
    sa.Column("folder", sa.Text),
    sa.Column("files", Json, nullable=False),
    sa.Column("problem", sa.Text),
)

environments = sa.Table(
    "environment",
    metadata,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("python", sa.String(40), nullable=False),
    sa.Column("implementation", sa.String(40), nullable=False),
    sa.Column("platform", sa.String(120), nullable=False),
    sa.Column("packages", Json, nullable=False),
    sa.Column("editable", Json, nullable=False),
)

run_table = sa.Table(
    "run",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("experiment", sa.ForeignKey(experiments.c.id), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("parent", sa.ForeignKey("run.id")),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
    sa.Column("error", sa.Text),
    sa.Column("code", sa.ForeignKey(codes.c.digest)),
    sa.Column("environment", sa.ForeignKey(environments.c.digest)),
    sa.Column("client_user", sa.String(250)),
    sa.Column("artifact_uri", sa.Text),
    sa.Column("deleted_at", Utc),
    sa.Index("ix_run_experiment_id", "experiment", "id"),
    sa.Index("ix_run_experiment_started_at", "experiment", "started_at", "id"),
    sa.Index("ix_run_parent_started_at", "parent", "started_at", "id"),
    sa.Index("ix_run_kind_started_at", "kind", "started_at", "id"),
    sa.Index("ix_run_started_at", "started_at", "id"),
)


def _named_texts(name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("run", sa.ForeignKey(run_table.c.id), primary_key=True),
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


params = _named_texts("run_param")
tags = _named_texts("run_tag")

# The whole point is the key: one that is logged again changes nothing, and a page of a history is a range of the key.
# No foreign key: the run is looked up once per call, not once per point.
metrics = sa.Table(
    "run_metric",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", Utc, primary_key=True, autoincrement=False),
    sa.Column("value", Measure, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,  # rows in the key's own order, without a second copy of the key
)

latest_metrics = sa.Table(
    "run_latest_metric",
    metadata,
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
    sa.Column("at", Utc, nullable=False),
    sa.Column("value", Measure, nullable=False),
    sa.Index("ix_run_latest_metric_name_value", "name", "value", "run"),
)


_INSERT_RUN = sa.insert(run_table)
_UPDATE_RUN = sa.update(run_table).where(run_table.c.id == sa.bindparam("run_id"))


def insert_run(tx: Tx, begun: Run, *, experiment: Experiment) -> None:
    values = {name: value for name, value in vars(begun).items() if name in run_table.c}
    tx.execute(_INSERT_RUN, {**values, "experiment": experiment.id})


# Statements of the path that training loops take are built once: building costs several times what running does
# (measured: log_metrics 1.2 ms of CPU in its transaction with statements built anew, 0.25 ms so).
_A_RUN = sa.select(sa.literal(1)).where(run_table.c.id == sa.bindparam("run_id"))
# the lock keeps a run that is written to from being cleaned up; SQLite has one writer at a time anyway
_STATE_OF_RUN = (
    sa.select(run_table.c.kind, run_table.c.status, run_table.c.deleted_at)
    .where(run_table.c.id == sa.bindparam("run_id"))
    .with_for_update(read=True, key_share=True)
)


def has_run(connection: Connection, run_id: str) -> bool:
    return connection.execute(_A_RUN, {"run_id": run_id}).first() is not None


def state_of(tx: Tx, run_id: str) -> tuple[str, str, datetime | None] | None:
    """A run's kind and status and since when it is deleted; it stays there until the transaction ends."""
    row = tx.execute(_STATE_OF_RUN, {"run_id": run_id}).first()
    return None if row is None else (row.kind, row.status, row.deleted_at)


def status_of(tx: Tx, run_id: str) -> str | None:
    """The run's status, which nobody else changes until the transaction ends."""
    statement = sa.select(run_table.c.status).where(run_table.c.id == run_id).with_for_update()
    status: str | None = tx.execute(statement).scalar()
    return status


def update_run(tx: Tx, run_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(_UPDATE_RUN, {**values, "run_id": run_id})


def run_by_id(connection: Connection, run_id: str) -> Run | None:
    found = _runs(connection, _select_runs().where(run_table.c.id == run_id))
    return found[0] if found else None


def newest_runs(
    connection: Connection,
    *,
    experiment: str | None,
    kind: str | None,
    parent: str | None,
    tag: str | None,
    before: str | None,
    limit: int,
) -> list[Run]:
    """The runs after `before` in the order newest first: by their start, as imported ones come late with ids of their own."""
    place = (run_table.c.started_at, run_table.c.id)
    statement = (
        _select_runs()
        .where(run_table.c.deleted_at.is_(None))
        .order_by(*(one.desc() for one in place))
        .limit(limit)
    )
    if experiment is not None:
        number = sa.select(experiments.c.id).where(experiments.c.name == experiment).scalar_subquery()
        statement = statement.where(run_table.c.experiment == number)
    if kind is not None:
        statement = statement.where(run_table.c.kind == kind)
    if parent is not None:
        statement = statement.where(run_table.c.parent == parent)
    if tag is not None:
        statement = statement.where(sa.exists().where(tags.c.run == run_table.c.id, tags.c.name == tag))
    if before is not None:
        last = sa.select(run_table.c.started_at).where(run_table.c.id == before).scalar_subquery()
        statement = statement.where(sa.tuple_(*place) < sa.tuple_(last, sa.literal(before)))
    return _runs(connection, statement)


def put_texts(tx: Tx, table: sa.Table, run_id: str, values: Mapping[str, str]) -> None:
    """Set named texts of a run, replacing those of the same name."""
    tx.execute(_replacing_text(tx.connection.dialect.name, table), _rows(run_id, values))


def add_texts(tx: Tx, table: sa.Table, run_id: str, values: Mapping[str, str]) -> dict[str, str]:
    """Add those named texts of a run that are not there, and return what is stored under all the names."""
    tx.execute(_keeping_all(tx.connection.dialect.name, table), _rows(run_id, values))
    stored = tx.execute(_texts_named(table), {"of_run": run_id, "names": list(values)})
    return {row.name: row.value for row in stored}


@functools.cache
def _replacing_text(dialect: str, table: sa.Table) -> sa.Executable:
    statement = inserting(dialect, table)
    return statement.on_conflict_do_update(
        index_elements=["run", "name"], set_={"value": statement.excluded.value}
    )


@functools.cache
def _texts_named(table: sa.Table) -> sa.Executable:
    names: sa.BindParameter[Any] = sa.bindparam("names", expanding=True)
    of_run = table.c.run == sa.bindparam("of_run")
    return sa.select(table.c.name, table.c.value).where(of_run, table.c.name.in_(names))


def insert_points(tx: Tx, run_id: str, points: Sequence[MetricPoint]) -> None:
    """Add points to the histories of a run's metrics; those that are there already stay as they are."""
    rows = [{"run": run_id, **vars(point)} for point in points]
    dialect = tx.connection.dialect.name
    tx.execute(_keeping_all(dialect, metrics), rows)
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        known = newest.get(row["name"])
        if known is None or (row["step"], row["at"]) >= (known["step"], known["at"]):
            newest[row["name"]] = row
    # in order of names: two writers that lock the same rows in one order cannot wait for each other
    tx.execute(_keeping_newest(dialect), [newest[name] for name in sorted(newest)])


def count_points(connection: Connection, run_id: str) -> int:
    """How many points a run's metrics have: a range of the key."""
    statement = sa.select(sa.func.count()).select_from(metrics).where(metrics.c.run == run_id)
    return int(connection.execute(statement).scalar_one())


def tag_of_runs(connection: Connection, ids: Sequence[str], name: str) -> dict[str, str]:
    """The value that a tag has for each of the runs that have it."""
    statement = sa.select(tags.c.run, tags.c.value).where(tags.c.run.in_(ids), tags.c.name == name)
    return {row.run: row.value for row in connection.execute(statement)}


def parents_of(connection: Connection, ids: Sequence[str]) -> dict[str, str | None]:
    """The parent, or None, of each of the ids that is a run."""
    statement = sa.select(run_table.c.id, run_table.c.parent).where(run_table.c.id.in_(ids))
    return {row.id: row.parent for row in connection.execute(statement)}


@functools.cache
def _keeping_all(dialect: str, table: sa.Table) -> sa.Executable:
    return inserting(dialect, table).on_conflict_do_nothing()


@functools.cache
def _keeping_newest(dialect: str) -> sa.Executable:
    statement = inserting(dialect, latest_metrics)
    given, stored = statement.excluded, latest_metrics.c
    is_newer = sa.or_(given.step > stored.step, sa.and_(given.step == stored.step, given.at >= stored.at))
    return statement.on_conflict_do_update(
        index_elements=["run", "name"],
        set_={name: given[name] for name in ("step", "at", "value")},
        where=is_newer,
    )


def points_of(
    connection: Connection, run_id: str, name: str, *, after: MetricPoint | None, limit: int
) -> list[MetricPoint]:
    """A metric's history in order of step, time and value, from the point after `after` on."""
    columns = (metrics.c.name, metrics.c.value, metrics.c.step, metrics.c.at)
    statement = _history(columns, run_id, name, after).limit(limit)
    return [MetricPoint(**row._mapping) for row in connection.execute(statement)]


def raw_points_of(
    connection: Connection, run_id: str, name: str, *, after: MetricPoint | None, limit: int
) -> list[RawPoint]:
    """As `points_of`, three times as quick."""
    at_us = sa.type_coerce(metrics.c.at, sa.BigInteger)
    statement = _history((metrics.c.value, metrics.c.step, at_us), run_id, name, after).limit(limit)
    return [RawPoint(name, value, step, us) for value, step, us in connection.execute(statement)]


def _history(
    columns: Sequence[sa.ColumnElement[Any]], run_id: str, name: str, after: MetricPoint | None
) -> sa.Select[Any]:
    key = sa.tuple_(metrics.c.step, metrics.c.at, metrics.c.value)
    statement = (
        sa.select(*columns)
        .where(metrics.c.run == run_id, metrics.c.name == name)
        .order_by(metrics.c.step, metrics.c.at, metrics.c.value)
    )
    if after is None:
        return statement
    last = (after.step, after.at, after.value)
    return statement.where(
        key > sa.tuple_(*(sa.literal(value, column.type) for value, column in zip(last, key, strict=True)))
    )


def steps_of(
    connection: Connection, run_ids: Sequence[str], name: str, *, steps: tuple[int, int] | None
) -> dict[str, list[int]]:
    """The steps at which runs have values of a metric, rising."""
    statement = sa.select(metrics.c.run, metrics.c.step).distinct()
    statement = statement.where(metrics.c.run.in_(run_ids), metrics.c.name == name)
    if steps is not None:
        statement = statement.where(metrics.c.step.between(*steps))
    found: dict[str, list[int]] = defaultdict(list)
    for run, step in connection.execute(statement.order_by(metrics.c.run, metrics.c.step)):
        found[run].append(step)
    return found


def points_of_runs(
    connection: Connection,
    run_ids: Sequence[str],
    name: str,
    *,
    steps: tuple[int, int] | None,
    chosen: Sequence[int] | None,
    limit: int,
) -> list[tuple[str, MetricPoint]]:
    """Points of a metric with their runs, run by run, in order of step, time and value."""
    statement = (
        sa.select(metrics)
        .where(metrics.c.run.in_(run_ids), metrics.c.name == name)
        .order_by(metrics.c.run, metrics.c.step, metrics.c.at, metrics.c.value)
        .limit(limit)
    )
    if steps is not None:
        statement = statement.where(metrics.c.step.between(*steps))
    if chosen is not None:
        statement = statement.where(metrics.c.step.in_(chosen))
    return [
        (row.run, MetricPoint(row.name, row.value, row.step, row.at)) for row in connection.execute(statement)
    ]


@dataclass(frozen=True)
class Extent:
    """How many points a history has, and from where to where it goes."""

    count: int
    steps: tuple[int, int]
    times_us: tuple[int, int]


_AT_US = sa.type_coerce(metrics.c.at, sa.BigInteger)


def extent_of(
    connection: Connection, run_id: str, name: str, *, over: Axis, between: tuple[int, int] | None
) -> Extent | None:
    """How far a metric's history goes, or the part of it `between` two places of an axis; None when there is none."""
    columns: list[sa.ColumnElement[Any]] = [sa.func.count()]
    columns += [end(column) for column in (metrics.c.step, _AT_US) for end in (sa.func.min, sa.func.max)]
    statement = _part(sa.select(*columns), run_id, name, over, between)
    count, *found = connection.execute(statement).one()
    return Extent(count, (found[0], found[1]), (found[2], found[3])) if count else None


def points_along(
    connection: Connection, run_id: str, name: str, *, over: Axis, between: tuple[int, int] | None
) -> Iterator[RawPoint]:
    """The points of a metric, in order of an axis."""
    statement = _part(sa.select(metrics.c.value, metrics.c.step, _AT_US), run_id, name, over, between)
    order = (metrics.c.step, metrics.c.at) if over == "step" else (metrics.c.at, metrics.c.step)
    for part in connection.execute(statement.order_by(*order, metrics.c.value)).partitions(5_000):
        yield from [RawPoint(name, value, step, us) for value, step, us in part]


def _part(
    statement: sa.Select[Any], run_id: str, name: str, over: Axis, between: tuple[int, int] | None
) -> sa.Select[Any]:
    found = statement.where(metrics.c.run == run_id, metrics.c.name == name)
    return (
        found
        if between is None
        else found.where((metrics.c.step if over == "step" else _AT_US).between(*between))
    )


def moving_names(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """The metrics of which any of the runs has more than one point."""
    newest, point = latest_metrics.c, metrics.c
    another = sa.exists().where(
        point.run == newest.run,
        point.name == newest.name,
        sa.or_(point.step != newest.step, point.at != newest.at, point.value != newest.value),
    )
    statement = sa.select(newest.name).distinct().where(newest.run.in_(run_ids), another)
    return list(connection.execute(statement.order_by(newest.name)).scalars())


def remove_text(tx: Tx, table: sa.Table, run_id: str, name: str) -> bool:
    """Remove a named text of a run; whether it was there."""
    return tx.execute(sa.delete(table).where(table.c.run == run_id, table.c.name == name)).rowcount == 1


def text_of(connection: Connection, table: sa.Table, run_id: str, name: str) -> str | None:
    statement = sa.select(table.c.value).where(table.c.run == run_id, table.c.name == name)
    text: str | None = connection.execute(statement).scalar()
    return text


def runs_marked(connection: Connection) -> list[Run]:
    """The runs that are deleted, in order of their ids."""
    return _runs(
        connection, _select_runs().where(run_table.c.deleted_at.is_not(None)).order_by(run_table.c.id)
    )


def lock_marked(tx: Tx, run_ids: Sequence[str]) -> list[str]:
    """Those of the runs that are deleted now; nobody writes to them or restores them until the transaction ends."""
    statement = sa.select(run_table.c.id).where(
        run_table.c.id.in_(run_ids), run_table.c.deleted_at.is_not(None)
    )
    return list(tx.execute(statement.order_by(run_table.c.id).with_for_update()).scalars())


def remove_runs(tx: Tx, run_ids: Sequence[str]) -> None:
    """Remove runs with their texts, metrics and files; what they read and made is gone already."""
    tx.execute(sa.update(run_table).where(run_table.c.parent.in_(run_ids)).values(parent=None))
    for table in (params, tags, metrics, latest_metrics):
        tx.execute(sa.delete(table).where(table.c.run.in_(run_ids)))
    tx.execute(sa.delete(run_table).where(run_table.c.id.in_(run_ids)))


# Asked at the start of each run, so built once and without reading the lists they hold.
_HAS_CODE = sa.select(codes.c.digest).where(codes.c.digest == sa.bindparam("digest"))
_HAS_ENVIRONMENT = sa.select(environments.c.digest).where(environments.c.digest == sa.bindparam("digest"))


def code_by_digest(connection: Connection, digest: str) -> Code | None:
    row = connection.execute(sa.select(codes).where(codes.c.digest == digest)).first()
    return None if row is None else Code(**row._mapping)


def has_code(connection: Connection, digest: str) -> bool:
    return connection.execute(_HAS_CODE, {"digest": digest}).first() is not None


def put_code(tx: Tx, code: Code) -> None:
    tx.execute(inserting(tx.connection.dialect.name, codes).values(**vars(code)).on_conflict_do_nothing())


def environment_by_digest(connection: Connection, digest: str) -> Environment | None:
    row = connection.execute(sa.select(environments).where(environments.c.digest == digest)).first()
    if row is None:
        return None
    return Environment.from_json(dict(row._mapping))


def has_environment(connection: Connection, digest: str) -> bool:
    return connection.execute(_HAS_ENVIRONMENT, {"digest": digest}).first() is not None


def put_environment(tx: Tx, environment: Environment) -> None:
    tx.execute(
        inserting(tx.connection.dialect.name, environments)
        .values(**vars(environment))
        .on_conflict_do_nothing()
    )


def _rows(run_id: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"run": run_id, "name": name, "value": values[name]} for name in sorted(values)]


def _select_runs() -> sa.Select[Any]:
    return sa.select(run_table, experiments.c.name.label("experiment_name")).join(experiments)


def _runs(connection: Connection, statement: sa.Select[Any]) -> list[Run]:
    """The runs of a selection, whole, in its order: four queries however many there are."""
    rows = connection.execute(statement).all()
    ids = [row.id for row in rows]
    known = {
        what: _by_run(connection, table, ids)
        for what, table in (("params", params), ("metrics", latest_metrics), ("tags", tags))
    }
    return [_run(row, {what: values[row.id] for what, values in known.items()}) for row in rows]


def _run(row: sa.Row[Any], known: Mapping[str, Any]) -> Run:
    values = dict(row._mapping)
    values["experiment"] = values.pop("experiment_name")
    return Run(**values, **known)


def _by_run(connection: Connection, table: sa.Table, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    if ids:
        statement = sa.select(table.c.run, table.c.name, table.c.value).where(table.c.run.in_(ids))
        for row in connection.execute(statement.order_by(table.c.run, table.c.name)):
            found[row.run][row.name] = row.value
    return found
