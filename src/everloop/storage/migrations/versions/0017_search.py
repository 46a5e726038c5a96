"""Searches for parameters, and their trials."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "search",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("run", sa.String(40), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("pipeline", sa.String(120), nullable=False),
        sa.Column("asked", Json(), nullable=False),
        sa.Column("code", sa.String(64), nullable=True),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search")),
    )
    op.create_table(
        "search_trial",
        sa.Column("search", sa.String(40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run", sa.String(40), nullable=False),
        sa.Column("params", Json(), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("reached", sa.Integer(), nullable=True),
        sa.Column("told", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("search", "number", name=op.f("pk_search_trial")),
    )
