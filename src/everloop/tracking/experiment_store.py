"""All SQL over experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.storage import Tx, Utc, inserting
from everloop.tracking.records import Experiment
from everloop.tracking.store import experiment_tags, experiments, run_table

_EXPERIMENT_BY_NAME = sa.select(experiments).where(experiments.c.name == sa.bindparam("name"))


def experiment_by_name(connection: Connection, name: str) -> Experiment | None:
    """The experiment of this name, without its tags."""
    row = connection.execute(_EXPERIMENT_BY_NAME, {"name": name}).first()
    return None if row is None else Experiment(**row._mapping)


def experiment_by_id(connection: Connection, number: int) -> Experiment | None:
    """The experiment of this number, without its tags."""
    row = connection.execute(sa.select(experiments).where(experiments.c.id == number)).first()
    return None if row is None else Experiment(**row._mapping)


def tags_of_experiment(connection: Connection, number: int) -> dict[str, str]:
    statement = sa.select(experiment_tags).where(experiment_tags.c.experiment == number)
    return {row.name: row.value for row in connection.execute(statement.order_by(experiment_tags.c.name))}


def all_experiments(connection: Connection) -> list[Experiment]:
    statement = sa.select(experiments).order_by(experiments.c.id)
    return [Experiment(**row._mapping) for row in connection.execute(statement)]


def insert_experiment(
    tx: Tx, name: str, *, created_at: datetime, artifact_root: Callable[[int], str | None]
) -> Experiment:
    """A new experiment under the next number; the caller holds the lock that makes it the next."""
    number = tx.execute(sa.select(sa.func.max(experiments.c.id))).scalar_one() + 1
    made = Experiment(number, name, created_at, artifact_root(number))
    tx.execute(
        sa.insert(experiments).values({key: value for key, value in vars(made).items() if key != "tags"})
    )
    return made


def update_experiment(tx: Tx, number: int, values: Mapping[str, Any]) -> None:
    tx.execute(sa.update(experiments).where(experiments.c.id == number).values(**values))


def put_experiment_tags(tx: Tx, number: int, values: Mapping[str, str]) -> None:
    statement = inserting(tx.connection.dialect.name, experiment_tags)
    replacing = statement.on_conflict_do_update(
        index_elements=["experiment", "name"], set_={"value": statement.excluded.value}
    )
    tx.execute(
        replacing, [{"experiment": number, "name": name, "value": values[name]} for name in sorted(values)]
    )


def remove_experiment_tag(tx: Tx, number: int, name: str) -> bool:
    which = (experiment_tags.c.experiment == number, experiment_tags.c.name == name)
    return tx.execute(sa.delete(experiment_tags).where(*which)).rowcount == 1


def mark_runs(tx: Tx, number: int, *, deleted_at: datetime | None, before: datetime | None = None) -> None:
    """Delete an experiment's runs that are not, or restore those that were deleted at the moment `before`."""
    is_old = run_table.c.deleted_at.is_(None) if before is None else run_table.c.deleted_at == before
    tx.execute(
        sa.update(run_table).where(run_table.c.experiment == number, is_old).values(deleted_at=deleted_at)
    )


def remove_empty_experiments(tx: Tx, *, but_for: Sequence[sa.Select[tuple[int]]]) -> None:
    """Remove the experiments that are deleted and hold no run, and are none of those that any of the selections has."""
    is_empty = ~sa.exists().where(run_table.c.experiment == experiments.c.id)
    gone = sa.select(experiments.c.id).where(
        experiments.c.deleted_at.is_not(None), is_empty, *(experiments.c.id.not_in(held) for held in but_for)
    )
    numbers = list(tx.execute(gone).scalars())
    tx.execute(sa.delete(experiment_tags).where(experiment_tags.c.experiment.in_(numbers)))
    tx.execute(sa.delete(experiments).where(experiments.c.id.in_(numbers)))


def run_counts(connection: Connection) -> dict[int, tuple[int, datetime | None]]:
    """By experiment, how many runs it has that are not deleted, and when the newest began."""
    statement = (
        sa.select(run_table.c.experiment, sa.func.count(), sa.func.max(run_table.c.started_at, type_=Utc))
        .where(run_table.c.deleted_at.is_(None))
        .group_by(run_table.c.experiment)
    )
    return {number: (runs, newest_at) for number, runs, newest_at in connection.execute(statement)}
