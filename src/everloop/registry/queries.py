"""What a search asks for, in SQL over the room's tables."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from everloop.registry import store
from everloop.registry.records import ModelVersion, RegisteredModel
from everloop.tracking import Condition, Order

_BEYOND = 1 << 62
_COMPARISONS: dict[str, Callable[[Any, Any], sa.ColumnElement[bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def search_models(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    offset: int,
    limit: int,
) -> list[RegisteredModel]:
    """The models that meet all conditions, in an order, ties by name."""
    own = store.model_tags.c.model == store.models.c.name
    noun = _Searched(
        {"name": store.models.c.name}, _times(store.models), lambda name: _tag(store.model_tags, name, own)
    )
    statement = noun.searched(store.MODELS, connection.dialect.name, conditions, orders)
    return list(
        store.read_models(connection, statement.order_by(store.models.c.name).offset(offset).limit(limit))
    )


def search_versions(
    connection: Connection,
    conditions: Sequence[Condition],
    orders: Sequence[Order],
    *,
    offset: int,
    limit: int,
) -> list[ModelVersion]:
    """The versions that meet all conditions, in an order, ties by name and then newest first."""
    own = sa.and_(
        store.version_tags.c.model == store.versions.c.model,
        store.version_tags.c.number == store.versions.c.number,
    )
    texts = {
        "name": store.versions.c.model,
        "run_id": store.versions.c.run,
        "source_path": store.versions.c.source,
    }
    numbers = {"version_number": store.versions.c.number, **_times(store.versions)}
    noun = _Searched(texts, numbers, lambda name: _tag(store.version_tags, name, own))
    statement = noun.searched(store.VERSIONS, connection.dialect.name, conditions, orders)
    ties = statement.order_by(store.versions.c.model, store.versions.c.number.desc())
    return list(store.read_versions(connection, ties.offset(offset).limit(limit)))


def _times(table: sa.Table) -> dict[str, sa.ColumnElement[Any]]:
    """The times that a search knows, in milliseconds, as MLflow has them."""
    created = sa.type_coerce(table.c.created_at, sa.BigInteger)
    updated = sa.func.coalesce(sa.type_coerce(table.c.updated_at, sa.BigInteger), created)
    return {"creation_timestamp": created // 1_000, "last_updated_timestamp": updated // 1_000}


def _tag(table: sa.Table, name: str, own: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.select(table.c.value).where(own, table.c.name == name).scalar_subquery()


@dataclass(frozen=True)
class _Searched:
    """What a search may ask of one noun: columns by name, and the value of the tag of a name."""

    texts: Mapping[str, sa.ColumnElement[Any]]
    numbers: Mapping[str, sa.ColumnElement[Any]]
    tag: Callable[[str], sa.ColumnElement[Any]]

    def searched(
        self,
        statement: sa.Select[Any],
        dialect: str,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
    ) -> sa.Select[Any]:
        for condition in conditions:
            statement = statement.where(self._holds(dialect, condition))
        columns = {**self.texts, **self.numbers}
        for order in orders:
            column = columns[order.key.name]
            statement = statement.order_by(column.desc() if order.is_descending else column.asc())
        return statement

    def _holds(self, dialect: str, condition: Condition) -> sa.ColumnElement[bool]:
        """A condition in SQL; what has no value meets none but IS NULL, as MLflow has it."""
        name = condition.key.name
        value: Any = condition.value
        if condition.key.kind == "attribute" and name in self.numbers:
            return _COMPARISONS[condition.operator](self.numbers[name], _within(value))
        column = self.tag(name) if condition.key.kind == "tag" else self.texts[name]
        match condition.operator:
            case "IS NULL":
                return column.is_(None)
            case "IS NOT NULL":
                return column.is_not(None)
            case "IN" | "NOT IN":
                return column.in_(value) if condition.operator == "IN" else column.not_in(value)
            case "LIKE" if dialect == "sqlite":
                # SQLite's LIKE does not tell upper from lower case; its GLOB does, with other signs
                return column.op("GLOB", is_comparison=True)(_as_glob(str(value)))
            case "LIKE" | "ILIKE":
                pattern = str(value).replace("\\", "\\\\") if dialect == "postgresql" else str(value)
                return column.like(pattern) if condition.operator == "LIKE" else column.ilike(pattern)
            case operator_:
                return _COMPARISONS[operator_](column, value)


def _within(value: float) -> float:
    """A number that both databases compare with theirs: what is beyond is beyond all of them."""
    return max(-_BEYOND, min(value, _BEYOND))


def _as_glob(pattern: str) -> str:
    return "".join(
        {"%": "*", "_": "?", "*": "[*]", "?": "[?]", "[": "[[]"}.get(sign, sign) for sign in pattern
    )
