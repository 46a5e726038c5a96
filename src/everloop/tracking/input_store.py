"""What runs read and made: datasets, logged models and what was measured of these; the tables, and all SQL that writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Json, Tx, Utc, inserting, metadata
from everloop.tracking.records import DatasetInput, DatasetUse, ModelMetric, RunModel
from everloop.tracking.store import Measure, run_table

model_metrics = sa.Table(
    "model_metric",
    metadata,
    sa.Column("model", sa.String(60), primary_key=True),
    sa.Column("name", sa.String(250), primary_key=True),
    sa.Column("dataset_name", sa.String(500), primary_key=True),
    sa.Column("dataset_digest", sa.String(36), primary_key=True),
    sa.Column("run", sa.String(40), primary_key=True),
    sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", Utc, primary_key=True, autoincrement=False),
    sa.Column("value", Measure, nullable=False),
    sa.Index("ix_model_metric_run", "run"),
)

# One row for what was said of a dataset, however many runs read it: a profile may be large.
datasets = sa.Table(
    "logged_dataset",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(500), nullable=False),
    sa.Column("digest", sa.String(36), nullable=False),
    sa.Column("source_type", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("schema", sa.Text),
    sa.Column("profile", sa.Text),
)

run_datasets = sa.Table(
    "run_dataset",
    metadata,
    sa.Column("run", sa.ForeignKey(run_table.c.id), primary_key=True),
    sa.Column("dataset", sa.String(64), primary_key=True),
    sa.Column("context", sa.Text),
    sa.Column("tags", Json, nullable=False),
)

run_models = sa.Table(
    "run_model",
    metadata,
    sa.Column("run", sa.ForeignKey(run_table.c.id), primary_key=True),
    sa.Column("role", sa.String(6), primary_key=True),
    sa.Column("model", sa.String(60), primary_key=True),
    sa.Column("step", sa.BigInteger, nullable=False),
)


def put_model_metrics(tx: Tx, run_id: str, points: Iterable[ModelMetric]) -> None:
    """Add points to the metrics of logged models; those that are there already stay as they are."""
    statement = inserting(tx.connection.dialect.name, model_metrics).on_conflict_do_nothing()
    tx.execute(
        statement,
        [
            {
                "model": one.model,
                "dataset_name": one.dataset_name,
                "dataset_digest": one.dataset_digest,
                "run": run_id,
                **vars(one.point),
            }
            for one in points
        ],
    )


def put_datasets(tx: Tx, run_id: str, given: Mapping[str, DatasetInput], *, context_tag: str) -> None:
    """Say that a run read datasets, by the ids that stand for all that is said of them."""
    dialect = tx.connection.dialect.name
    tx.execute(
        inserting(dialect, datasets).on_conflict_do_nothing(),
        [{"id": one, **vars(given[one].dataset)} for one in sorted(given)],
    )
    statement = inserting(dialect, run_datasets)
    replacing = statement.on_conflict_do_update(
        index_elements=["run", "dataset"],
        set_={name: statement.excluded[name] for name in ("context", "tags")},
    )
    tx.execute(
        replacing,
        [
            {
                "run": run_id,
                "dataset": one,
                "context": given[one].tags.get(context_tag),
                "tags": given[one].tags,
            }
            for one in sorted(given)
        ],
    )


def tags_of_datasets(connection: Connection, run_id: str) -> dict[str, dict[str, str]]:
    """The tags of the datasets that a run read, by the ids that stand for what is said of these."""
    statement = sa.select(run_datasets.c.dataset, run_datasets.c.tags).where(run_datasets.c.run == run_id)
    return {row.dataset: row.tags for row in connection.execute(statement)}


def uses_in(connection: Connection, experiment_ids: Sequence[int], *, limit: int) -> list[DatasetUse]:
    """Which datasets the runs of some experiments read, each once with each context, in order of names."""
    columns = (run_table.c.experiment, datasets.c.name, datasets.c.digest, run_datasets.c.context)
    statement = (
        sa.select(*columns)
        .distinct()
        .select_from(
            run_table.join(run_datasets, run_datasets.c.run == run_table.c.id).join(
                datasets, run_datasets.c.dataset == datasets.c.id
            )
        )
        .where(run_table.c.experiment.in_(experiment_ids), run_table.c.deleted_at.is_(None))
        .order_by(*columns)
        .limit(limit)
    )
    return [DatasetUse(*row) for row in connection.execute(statement)]


def put_models(tx: Tx, run_id: str, models: Iterable[RunModel]) -> None:
    statement = inserting(tx.connection.dialect.name, run_models)
    replacing = statement.on_conflict_do_update(
        index_elements=["run", "role", "model"], set_={"step": statement.excluded.step}
    )
    tx.execute(replacing, [{"run": run_id, **vars(one)} for one in models])


def remove_inputs(tx: Tx, run_ids: Sequence[str]) -> None:
    """Forget what runs read and made, and the datasets that no other run read."""
    for table in (run_datasets, run_models, model_metrics):
        tx.execute(sa.delete(table).where(table.c.run.in_(run_ids)))
    tx.execute(sa.delete(datasets).where(~sa.exists().where(run_datasets.c.dataset == datasets.c.id)))
