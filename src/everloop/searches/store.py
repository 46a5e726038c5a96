"""The tables of searches and trials, and all SQL over them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.searches.records import Plan, Search, Trial
from everloop.storage import Json, Tx, Utc, metadata

searches = sa.Table(
    "search",
    metadata,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("name", sa.String(60), nullable=False),
    sa.Column("pipeline", sa.String(120), nullable=False),
    sa.Column("asked", Json, nullable=False),
    sa.Column("code", sa.String(64)),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("started_at", Utc, nullable=False),
    sa.Column("ended_at", Utc),
)

trials = sa.Table(
    "search_trial",
    metadata,
    sa.Column("search", sa.String(40), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("run", sa.String(40), nullable=False),
    sa.Column("params", Json, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("value", sa.Float),
    sa.Column("reached", sa.Integer),
    sa.Column("told", sa.Text),
)


def insert_search(tx: Tx, search: Search) -> None:
    values = {name: value for name, value in vars(search).items() if name not in ("plan", "best")}
    tx.execute(sa.insert(searches).values(**values, asked=search.plan.as_json()))


def update_search(tx: Tx, search_id: str, values: dict[str, Any]) -> None:
    tx.execute(sa.update(searches).where(searches.c.id == search_id).values(**values))


def search_by_id(connection: Connection, search_id: str) -> Search | None:
    row = connection.execute(sa.select(searches).where(searches.c.id == search_id)).first()
    return None if row is None else _search(connection, row)


def search_by_run(connection: Connection, run_id: str) -> Search | None:
    row = connection.execute(sa.select(searches).where(searches.c.run == run_id)).first()
    return None if row is None else _search(connection, row)


def newest_searches(connection: Connection, *, limit: int) -> list[Search]:
    rows = connection.execute(sa.select(searches).order_by(searches.c.id.desc()).limit(limit)).all()
    return [_search(connection, row) for row in rows]


def insert_trial(tx: Tx, search_id: str, trial: Trial) -> None:
    tx.execute(sa.insert(trials).values(search=search_id, **vars(trial)))


def update_trial(tx: Tx, search_id: str, number: int, values: dict[str, Any]) -> None:
    of_trial = sa.and_(trials.c.search == search_id, trials.c.number == number)
    tx.execute(sa.update(trials).where(of_trial).values(**values))


def trials_of(connection: Connection, search_id: str) -> list[Trial]:
    """The trials of a search, in the order they began."""
    rows = connection.execute(sa.select(trials).where(trials.c.search == search_id).order_by(trials.c.number))
    return [_trial(row) for row in rows]


def best_trial(connection: Connection, search_id: str, *, highest: bool) -> Trial | None:
    """The trial with the best result among those that came to their end; of equals the first."""
    order = trials.c.value.desc() if highest else trials.c.value
    statement = (
        sa.select(trials)
        .where(trials.c.search == search_id, trials.c.state == "done")
        .order_by(order, trials.c.number)
        .limit(1)
    )
    row = connection.execute(statement).first()
    return None if row is None else _trial(row)


def _search(connection: Connection, row: sa.Row[Any]) -> Search:
    values = dict(row._mapping)
    plan = Plan.from_json(values.pop("asked"))
    return Search(**values, plan=plan, best=best_trial(connection, row.id, highest=plan.highest))


def _trial(row: sa.Row[Any]) -> Trial:
    values = dict(row._mapping)
    del values["search"]
    return Trial(**values)
