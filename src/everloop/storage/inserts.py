"""Inserts that say what happens when the key is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql


def inserting(dialect: str, table: sa.Table) -> postgresql.Insert:
    """An insert with `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases say in the same words."""
    if dialect == "sqlite":
        return sqlite.insert(table)  # type: ignore[return-value]  # same methods, no common class
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415  (80 ms that who is on SQLite does without)

    return postgresql.insert(table)
