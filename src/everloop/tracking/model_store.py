"""The tables of logged models, and all SQL over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Tx, Utc, inserting, metadata
from everloop.tracking.filters import Condition
from everloop.tracking.input_store import model_metrics
from everloop.tracking.queries import in_parts, number_compared, text_compared, time_compared
from everloop.tracking.records import FoundMetric, LoggedModel, MetricPoint, ModelMetric
from everloop.tracking.store import experiments, run_table

_MOST_POINTS = 1_000  # of one model in one answer, besides the newest of each metric

models = sa.Table(
    "logged_model",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("experiment", sa.ForeignKey(experiments.c.id), nullable=False),
    sa.Column("name", sa.String(250), nullable=False),
    sa.Column("kind", sa.String(250)),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("run", sa.ForeignKey(run_table.c.id)),
    sa.Column("actor", sa.String(120), nullable=False),
    sa.Column("created_at", Utc, nullable=False),
    sa.Column("updated_at", Utc, nullable=False),
    sa.Column("artifact_uri", sa.Text),
    sa.Column("deleted_at", Utc),
    sa.Index("ix_logged_model_experiment_created_at", "experiment", "created_at", "id"),
    sa.Index("ix_logged_model_run_id", "run", "id"),
)


def _named_texts(name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("model", sa.ForeignKey(models.c.id), primary_key=True),
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


params = _named_texts("logged_model_param")
tags = _named_texts("logged_model_tag")


@dataclass(frozen=True)
class DatasetOfMetric:
    """Which dataset a metric was measured on; without a digest, on any of the name."""

    name: str
    digest: str | None = None


@dataclass(frozen=True)
class ModelOrder:
    """What to order logged models by: an attribute, or with `is_metric` the newest value of a metric on a dataset."""

    name: str
    is_metric: bool = False
    is_descending: bool = False
    dataset: DatasetOfMetric | None = None


def insert(tx: Tx, made: LoggedModel) -> None:
    values = {name: value for name, value in vars(made).items() if name in models.c}
    tx.execute(sa.insert(models), {**values, "experiment": made.experiment_id})


def update(tx: Tx, model_id: str, values: Mapping[str, Any]) -> None:
    tx.execute(sa.update(models).where(models.c.id == model_id).values(**values))


def state_of(tx: Tx, model_id: str) -> tuple[datetime | None] | None:
    """Since when a model is deleted, None where there is no such model; it stays so until the transaction ends."""
    statement = sa.select(models.c.deleted_at).where(models.c.id == model_id)
    row = tx.execute(statement.with_for_update(read=True, key_share=True)).first()
    return None if row is None else (row.deleted_at,)


def add_params(tx: Tx, model_id: str, values: Mapping[str, str]) -> dict[str, str]:
    """Add those parameters that are not there, and return what is stored under all the names."""
    tx.execute(
        inserting(tx.connection.dialect.name, params).on_conflict_do_nothing(), _rows(model_id, values)
    )
    stored = sa.select(params).where(params.c.model == model_id, params.c.name.in_(values))
    return {row.name: row.value for row in tx.execute(stored)}


def put_tags(tx: Tx, model_id: str, values: Mapping[str, str]) -> None:
    statement = inserting(tx.connection.dialect.name, tags)
    replacing = statement.on_conflict_do_update(
        index_elements=["model", "name"], set_={"value": statement.excluded.value}
    )
    tx.execute(replacing, _rows(model_id, values))


def remove_tag(tx: Tx, model_id: str, name: str) -> bool:
    """Remove a tag; whether it was there."""
    return tx.execute(sa.delete(tags).where(tags.c.model == model_id, tags.c.name == name)).rowcount == 1


def model_by_id(connection: Connection, model_id: str) -> LoggedModel | None:
    found = _models(connection, sa.select(models).where(models.c.id == model_id))
    return found[0] if found else None


def models_of_run(connection: Connection, run_id: str) -> list[LoggedModel]:
    """The models that a run made, oldest first, without those that are deleted."""
    which = (models.c.run == run_id, models.c.deleted_at.is_(None))
    return _models(connection, sa.select(models).where(*which).order_by(models.c.id))


def models_marked(connection: Connection) -> list[LoggedModel]:
    """The models that are deleted, oldest first."""
    return _models(
        connection, sa.select(models).where(models.c.deleted_at.is_not(None)).order_by(models.c.id)
    )


def lock_marked(tx: Tx, model_ids: Sequence[str]) -> list[str]:
    """Those of the models that are deleted; nobody writes to them until the transaction ends."""
    statement = sa.select(models.c.id).where(models.c.id.in_(model_ids), models.c.deleted_at.is_not(None))
    return list(tx.execute(statement.order_by(models.c.id).with_for_update()).scalars())


def remove(tx: Tx, model_ids: Sequence[str]) -> None:
    """Remove models and what is said of them; their files are forgotten before."""
    for table in (params, tags, model_metrics):
        tx.execute(sa.delete(table).where(table.c.model.in_(model_ids)))
    tx.execute(sa.delete(models).where(models.c.id.in_(model_ids)))


def detach(tx: Tx, run_ids: Sequence[str]) -> None:
    """Let the models of some runs be of none."""
    tx.execute(sa.update(models).where(models.c.run.in_(run_ids)).values(run=None))


def experiments_in_use() -> sa.Select[tuple[int]]:
    """The numbers of the experiments that hold models."""
    return sa.select(models.c.experiment)


def found_models(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[ModelOrder],
    *,
    experiment_ids: Sequence[int],
    datasets: Sequence[DatasetOfMetric],
    offset: int,
    limit: int,
) -> list[LoggedModel]:
    """The models that meet all conditions, in order, then newest first.

    With `datasets`, metrics count where they were measured on one of them, and a model without any such is left out.
    """
    dialect = connection.dialect.name
    on_datasets = [sa.or_(*map(_on, datasets))] if datasets else []
    where = [_holds(condition, dialect, on_datasets) for condition in conditions]
    if datasets and not any(condition.key.kind == "metric" for condition in conditions):
        where.append(sa.exists().where(model_metrics.c.model == models.c.id, *on_datasets))
    statement = (
        sa.select(models)
        .where(models.c.experiment.in_(experiment_ids), models.c.deleted_at.is_(None), *where)
        .order_by(*(term for order in orders for term in _ordered(order)))
        .order_by(models.c.created_at.desc(), models.c.id.desc())
    )
    return _models(connection, statement.offset(offset).limit(limit))


ATTRIBUTES: dict[str, sa.ColumnElement[Any]] = {
    "model_id": models.c.id,
    "name": models.c.name,
    "model_type": models.c.kind,
    "status": sa.func.upper(models.c.status),
    "source_run_id": sa.func.replace(models.c.run, "run_", ""),
    "creation_timestamp": models.c.created_at,
    "last_updated_timestamp": models.c.updated_at,
}


def _holds(
    condition: Condition, dialect: str, on_datasets: Sequence[sa.ColumnElement[bool]]
) -> sa.ColumnElement[bool]:
    key = condition.key
    if key.kind == "attribute":
        column = ATTRIBUTES[key.name]
        is_time = isinstance(column.type, Utc)
        return time_compared(column, condition) if is_time else text_compared(column, condition, dialect)
    if key.kind == "metric":
        value = model_metrics.c.value
        is_it = (model_metrics.c.model == models.c.id, model_metrics.c.name == key.name, *on_datasets)
        # NaN is above all numbers on both databases, and equal to itself alone
        return sa.exists().where(*is_it, number_compared(value, condition), value < _NAN)
    table = params if key.kind == "param" else tags
    of_name = (table.c.model == models.c.id, table.c.name == key.name)
    if condition.operator == "IS NULL":
        return ~sa.exists().where(*of_name)
    if condition.operator == "IS NOT NULL":
        return sa.exists().where(*of_name)
    return sa.exists().where(*of_name, text_compared(table.c.value, condition, dialect))


_NAN = sa.literal(float("nan"), model_metrics.c.value.type)


def _ordered(order: ModelOrder) -> list[sa.ColumnElement[Any]]:
    """Models with a value before those without, whatever the direction."""
    value: sa.ColumnElement[Any]
    if not order.is_metric:
        value = ATTRIBUTES[order.name]
    else:
        on = [_on(order.dataset)] if order.dataset else []
        value = (
            sa.select(model_metrics.c.value)
            .where(model_metrics.c.model == models.c.id, model_metrics.c.name == order.name, *on)
            .order_by(model_metrics.c.at.desc(), model_metrics.c.step.desc(), model_metrics.c.run)
            .limit(1)
            .correlate(models)
            .scalar_subquery()
        )
    return [sa.case((value.is_(None), 1), else_=0), value.desc() if order.is_descending else value.asc()]


def _on(dataset: DatasetOfMetric) -> sa.ColumnElement[bool]:
    is_it = model_metrics.c.dataset_name == dataset.name
    return is_it if dataset.digest is None else is_it & (model_metrics.c.dataset_digest == dataset.digest)


def _models(connection: Connection, statement: sa.Select[Any]) -> list[LoggedModel]:
    """The models of a selection, whole, in its order: a fixed number of queries for each 500."""
    rows = connection.execute(statement).all()
    ids = [row.id for row in rows]
    named: dict[str, dict[str, dict[str, str]]] = {}
    for what, table in (("params", params), ("tags", tags)):
        of_model = named[what] = defaultdict(dict)
        for part in in_parts(ids):
            texts = sa.select(table).where(table.c.model.in_(part)).order_by(table.c.name)
            for row in connection.execute(texts):
                of_model[row.model][row.name] = row.value
    points = _points(connection, ids)
    found = []
    for row in rows:
        values = dict(row._mapping)
        values["experiment_id"] = values.pop("experiment")
        values |= {what: of_model[row.id] for what, of_model in named.items()}
        found.append(LoggedModel(**values, metrics=points.get(row.id, ())))
    return found


def _points(connection: Connection, ids: Sequence[str]) -> dict[str, list[FoundMetric]]:
    """The newest points of each model, and of each of its metrics on each dataset the newest, however old."""
    found: dict[str, list[FoundMetric]] = defaultdict(list)
    newest_first = (model_metrics.c.at.desc(), model_metrics.c.step.desc())
    metric = (model_metrics.c[name] for name in ("model", "name", "dataset_name", "dataset_digest"))
    age = sa.func.row_number().over(partition_by=model_metrics.c.model, order_by=newest_first)
    age_of_metric = sa.func.row_number().over(partition_by=[*metric], order_by=newest_first)
    ages = (age.label("age"), age_of_metric.label("age_of_metric"))
    for part in in_parts(ids):
        numbered = sa.select(model_metrics, *ages).where(model_metrics.c.model.in_(part)).subquery()
        is_told = (numbered.c.age <= _MOST_POINTS) | (numbered.c.age_of_metric == 1)
        newest = sa.select(numbered).where(is_told).order_by(numbered.c.age.desc())
        for row in connection.execute(newest):
            point = MetricPoint(row.name, row.value, row.step, row.at)
            of = ModelMetric(row.model, point, row.dataset_name, row.dataset_digest)
            found[row.model].append(FoundMetric(of, row.run))
    return found


def _rows(model_id: str, values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"model": model_id, "name": name, "value": values[name]} for name in sorted(values)]
