"""Searches: conditions and orders as SQL, and the details of the runs found.

A condition on a named value joins the table of such values once for each name, since all conditions have to hold; an
order by the same name uses that join. Details are read for all found runs together, a query for each table.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Utc
from everloop.tracking.filters import Condition, Key, Order
from everloop.tracking.input_store import datasets, run_datasets, run_models
from everloop.tracking.records import (
    NAME_TAG,
    PARENT_TAG,
    DatasetInput,
    Experiment,
    FoundRun,
    LoggedDataset,
    RawPoint,
    Run,
    RunModel,
)
from everloop.tracking.store import (
    Measure,
    experiment_tags,
    experiments,
    latest_metrics,
    params,
    run_table,
    tags,
)

View = Literal["active", "deleted", "all"]
_TABLES = {"metric": latest_metrics, "param": params, "tag": tags}
_INT64 = (-(1 << 63), (1 << 63) - 1)
_AT_ONCE = 500  # ids in one question for details
_NAN = sa.literal(math.nan, Measure)
_PREFIX = len("run_")


def found_runs(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    experiment_ids: Sequence[int],
    view: View,
    offset: int,
    limit: int,
) -> list[FoundRun]:
    """The runs that meet all conditions, in order, then newest start first, then by id."""
    search = _Search(connection.dialect.name, experiment_ids=experiment_ids)
    for condition in conditions:
        search.narrow(condition)
    for order in orders:
        search.sort(order)
    rows = connection.execute(search.statement(view).offset(offset).limit(limit)).all()
    return with_details(connection, rows)


def one_run(connection: Connection, run_id: str) -> FoundRun | None:
    rows = connection.execute(_A_RUN, {"run_id": run_id}).all()
    return with_details(connection, rows)[0] if rows else None


def found_experiments(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    view: View,
    offset: int,
    limit: int,
) -> list[Experiment]:
    """The experiments that meet all conditions, in order, then newest first."""
    dialect = connection.dialect.name
    source: sa.FromClause = experiments
    where: list[sa.ColumnElement[bool]] = []
    for condition in conditions:
        key = condition.key
        if key.kind == "attribute":
            where.append(_compared(_EXPERIMENT_ATTRIBUTES[key.name], condition, dialect))
            continue
        named = experiment_tags.alias()
        is_it = sa.and_(named.c.experiment == experiments.c.id, named.c.name == key.name)
        if condition.operator == "IS NULL":
            where.append(~sa.exists().where(is_it))
        else:
            source = source.join(named, is_it)
            if condition.operator != "IS NOT NULL":
                where.append(text_compared(named.c.value, condition, dialect))
    by = [
        column.desc().nulls_last() if order.is_descending else column.asc().nulls_last()
        for order, column in ((order, _EXPERIMENT_ATTRIBUTES[order.key.name]) for order in orders)
    ]
    statement = (
        sa.select(experiments)
        .select_from(source)
        .where(*where, *_in_view(experiments.c.deleted_at, view))
        .order_by(*by, experiments.c.created_at.desc().nulls_last(), experiments.c.id.desc())
    )
    rows = connection.execute(statement.offset(offset).limit(limit)).all()
    return experiments_with_tags(connection, rows)


def experiments_with_tags(connection: Connection, rows: Sequence[sa.Row[Any]]) -> list[Experiment]:
    named: dict[int, dict[str, str]] = defaultdict(dict)
    for ids in in_parts([row.id for row in rows]):
        statement = sa.select(experiment_tags).where(experiment_tags.c.experiment.in_(ids))
        for row in connection.execute(statement.order_by(experiment_tags.c.name)):
            named[row.experiment][row.name] = row.value
    return [Experiment(**row._mapping, tags=named[row.id]) for row in rows]


def with_details(connection: Connection, rows: Sequence[sa.Row[Any]]) -> list[FoundRun]:
    """Runs with all that belongs to them, in the order of their rows."""
    ids = [row.id for row in rows]
    named: dict[str, dict[str, dict[str, str]]] = {}
    for what, table in (("params", params), ("tags", tags)):
        of_run = named[what] = defaultdict(dict)
        for run, name, value in _rows_of(connection, ids, table, "name", "value"):
            of_run[run][name] = value
    latest: dict[str, list[RawPoint]] = defaultdict(list)
    for run, *point in _rows_of(connection, ids, latest_metrics, "name", "value", "step", "at"):
        latest[run].append(RawPoint(*point))
    read = _datasets_of(connection, ids)
    models: dict[str, list[RunModel]] = defaultdict(list)
    for run, model, role, step in _rows_of(connection, ids, run_models, "model", "role", "step"):
        models[run].append(RunModel(model, role, step))
    found = []
    for row in rows:
        values = dict(row._mapping)
        experiment_id, values["experiment"] = values["experiment"], values.pop("experiment_name")
        points = latest.get(row.id, ())
        run = Run(
            **values,
            params=named["params"].get(row.id, {}),
            tags=named["tags"].get(row.id, {}),
            metrics={point.name: point.value for point in points},
        )
        found.append(FoundRun(run, experiment_id, points, read.get(row.id, ()), models.get(row.id, ())))
    return found


def _rows_of(connection: Connection, ids: Sequence[str], table: sa.Table, *columns: str) -> list[Any]:
    """The rows of some runs, the run first, in order of the table's key.

    Times come as the microseconds they are stored as, and no row becomes an object of SQLAlchemy's: a search hands out
    thousands of runs with tens of thousands of rows.
    """
    chosen = [
        sa.type_coerce(table.c[name], sa.BigInteger) if isinstance(table.c[name].type, Utc) else table.c[name]
        for name in ("run", *columns)
    ]
    statement = sa.select(*chosen).order_by(*table.primary_key.columns)
    found: list[Any] = []
    for part in in_parts(ids):
        found.extend(connection.execute(statement.where(table.c.run.in_(part))).all())
    return found


def _datasets_of(connection: Connection, ids: Sequence[str]) -> dict[str, list[DatasetInput]]:
    statement = (
        sa.select(run_datasets.c.run, run_datasets.c.tags, datasets)
        .join(datasets, run_datasets.c.dataset == datasets.c.id)
        .order_by(datasets.c.name, datasets.c.digest)
    )
    found: dict[str, list[DatasetInput]] = defaultdict(list)
    for part in in_parts(ids):
        for run, noted, _id, *told in connection.execute(statement.where(run_datasets.c.run.in_(part))):
            found[run].append(DatasetInput(LoggedDataset(*told), noted))
    return found


def in_parts(ids: Sequence[Any]) -> list[Sequence[Any]]:
    return [ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE)]


_RUNS = sa.select(run_table, experiments.c.name.label("experiment_name"))
_A_RUN = _RUNS.join(experiments).where(run_table.c.id == sa.bindparam("run_id"))


@dataclass
class _Search:
    """A search for runs, being put together."""

    dialect: str
    experiment_ids: Sequence[int]
    source: sa.FromClause = field(default_factory=lambda: run_table.join(experiments))
    where: list[sa.ColumnElement[bool]] = field(default_factory=list)
    by: list[sa.ColumnElement[Any]] = field(default_factory=list)
    is_sorted_by_start: bool = False
    values: dict[Key, sa.ColumnElement[Any]] = field(default_factory=dict)  # of runs that certainly have one
    numbers: set[Key] = field(default_factory=set)  # metrics that are certainly no NaN

    def narrow(self, condition: Condition) -> None:
        key = condition.key
        if key.kind == "dataset":
            self.where.append(_has_dataset(condition, self.dialect))
        elif (column := _run_attribute(key)) is not None:
            self.where.append(_compared(column, condition, self.dialect))
        elif condition.operator == "IS NULL":
            table = _TABLES[key.kind]
            is_it = sa.and_(table.c.run == run_table.c.id, table.c.name == key.name)
            self.where.append(~sa.exists().where(is_it))
        elif key.kind == "metric":
            # NaN is above all numbers on both databases: below it is a range of the index, and no NaN compares
            self.numbers.add(key)
            value = self._value(key)
            self.where += [number_compared(value, condition), value < _NAN]
        else:
            value = self._value(key)
            if condition.operator != "IS NOT NULL":
                self.where.append(text_compared(value, condition, self.dialect))

    def sort(self, order: Order) -> None:
        key = order.key
        self.is_sorted_by_start |= key == Key("attribute", "start_time")
        value = _run_attribute(key)
        may_be_absent = value is None or key.name in ("end_time", PARENT_TAG)
        if value is None:
            may_be_absent = key not in self.values
            value = self._value(key, outer=True)
        # numbers, then NaN, then runs without a value, whatever the direction
        if key.kind == "metric" and key not in self.numbers:
            self.by.append(sa.case((value.is_(None), 2), (value == _NAN, 1), else_=0))
        elif may_be_absent:
            self.by.append(sa.case((value.is_(None), 1), else_=0))
        self.by.append(value.desc() if order.is_descending else value.asc())

    def statement(self, view: View) -> sa.Select[Any]:
        by = [*self.by, *([] if self.is_sorted_by_start else [run_table.c.started_at.desc()]), run_table.c.id]
        return (
            _RUNS.select_from(self.source)
            .where(
                run_table.c.experiment.in_(self.experiment_ids),
                *_in_view(run_table.c.deleted_at, view),
                *self.where,
            )
            .order_by(*by)
        )

    def _value(self, key: Key, *, outer: bool = False) -> sa.ColumnElement[Any]:
        """The column of a named value, its table joined if it is not yet."""
        if key not in self.values:
            named = _TABLES[key.kind].alias()
            is_it = sa.and_(named.c.run == run_table.c.id, named.c.name == key.name)
            self.source = self.source.join(named, is_it, isouter=outer)
            if outer:
                return named.c.value
            self.values[key] = named.c.value
        return self.values[key]


def _run_attribute(key: Key) -> sa.ColumnElement[Any] | None:
    """What a run's own row says of an attribute, or of a tag that is a column here."""
    if key == Key("tag", PARENT_TAG):
        return sa.func.substr(run_table.c.parent, _PREFIX + 1)
    if key.kind == "tag" and key.name == NAME_TAG:
        return run_table.c.name
    if key.kind != "attribute":
        return None
    return _RUN_ATTRIBUTES[key.name]


_BELOW = sa.func.substr(run_table.c.id, _PREFIX + 1)
_OUR_URI = (
    sa.literal("mlflow-artifacts:/")
    .concat(sa.cast(run_table.c.experiment, sa.String))
    .concat("/")
    .concat(_BELOW)
    .concat("/artifacts")
)
_RUN_ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "run_id": _BELOW,
    "run_name": run_table.c.name,
    "status": sa.func.upper(run_table.c.status),
    "user_id": sa.func.coalesce(run_table.c.client_user, run_table.c.actor),
    "artifact_uri": sa.func.coalesce(run_table.c.artifact_uri, _OUR_URI),
    "start_time": run_table.c.started_at,
    "end_time": run_table.c.ended_at,
}
_EXPERIMENT_ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "name": experiments.c.name,
    "experiment_id": sa.cast(experiments.c.id, sa.String),
    "creation_time": experiments.c.created_at,
    "last_update_time": sa.func.coalesce(experiments.c.updated_at, experiments.c.created_at, type_=Utc),
}


def _in_view(deleted_at: sa.ColumnElement[Any], view: View) -> list[sa.ColumnElement[bool]]:
    if view == "all":
        return []
    return [deleted_at.is_(None) if view == "active" else deleted_at.is_not(None)]


def _has_dataset(condition: Condition, dialect: str) -> sa.ColumnElement[bool]:
    name = condition.key.name
    column = run_datasets.c.context if name == "context" else datasets.c[name]
    matching = sa.select(sa.literal(1)).select_from(
        run_datasets.join(datasets, run_datasets.c.dataset == datasets.c.id)
    )
    of_run = run_datasets.c.run == run_table.c.id
    return matching.where(of_run, text_compared(column, condition, dialect)).exists()


def _compared(column: sa.ColumnElement[Any], condition: Condition, dialect: str) -> sa.ColumnElement[bool]:
    if condition.operator in ("IS NULL", "IS NOT NULL"):
        return column.is_(None) if condition.operator == "IS NULL" else column.is_not(None)
    if isinstance(column.type, Utc):
        return time_compared(column, condition)
    if column is _BELOW and condition.operator in ("=", "IN"):  # by the key itself, which has an index
        wanted = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        return run_table.c.id.in_([f"run_{one}" for one in wanted])
    return text_compared(column, condition, dialect)


def time_compared(column: sa.ColumnElement[Any], condition: Condition) -> sa.ColumnElement[bool]:
    """Milliseconds against microseconds: a millisecond is all the microseconds in it."""
    value = condition.value
    assert isinstance(value, int | float)  # noqa: S101  (the grammar knows it; this tells the type checker)
    instant = sa.type_coerce(column, sa.BigInteger)
    whole = math.floor(value) if math.isfinite(value) else _INT64[value > 0]
    first, after = _clamped(whole * 1_000), _clamped((whole + 1) * 1_000)
    if whole != value and condition.operator in ("=", "!="):
        return sa.false() if condition.operator == "=" else instant.is_not(None)
    if whole != value:
        first = after
    operators: dict[str, Callable[[], sa.ColumnElement[bool]]] = {
        "=": lambda: sa.and_(instant >= first, instant < after),
        "!=": lambda: sa.or_(instant < first, instant >= after),
        "<": lambda: instant < first,
        "<=": lambda: instant < after,
        ">": lambda: instant >= after,
        ">=": lambda: instant >= first,
    }
    return operators[condition.operator]()


def number_compared(column: sa.ColumnElement[Any], condition: Condition) -> sa.ColumnElement[bool]:
    value = condition.value
    assert isinstance(value, int | float)  # noqa: S101  (as above)
    try:
        bound = sa.literal(float(value), Measure)
    except OverflowError:
        bound = sa.literal(math.inf if value > 0 else -math.inf, Measure)
    return column.op(condition.operator, is_comparison=True)(bound)


def text_compared(
    column: sa.ColumnElement[Any], condition: Condition, dialect: str
) -> sa.ColumnElement[bool]:
    value, operator = condition.value, condition.operator
    if isinstance(value, tuple):
        return column.in_(value) if operator == "IN" else column.not_in(value)
    text = str(value)
    if operator == "LIKE" and dialect == "sqlite":
        # SQLite's LIKE does not tell upper from lower case; its GLOB does, with other signs
        return column.op("GLOB", is_comparison=True)(_glob(text))
    if operator in ("LIKE", "ILIKE"):
        pattern = text.replace("\\", "\\\\") if dialect == "postgresql" else text  # there it escapes
        return column.like(pattern) if operator == "LIKE" else column.ilike(pattern)
    return column == text if operator == "=" else column != text


def _glob(pattern: str) -> str:
    signs = {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}
    return "".join(signs.get(character, character) for character in pattern)


def _clamped(number: int) -> int:
    return min(max(number, _INT64[0]), _INT64[1])
