"""Watches, what they measured, and what they found."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "watch",
        sa.Column("endpoint", sa.String(60), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("watch", Json(), nullable=False),
        sa.Column("looked_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("endpoint", "name", name=op.f("pk_watch")),
    )
    op.create_table(
        "measure",
        sa.Column("endpoint", sa.String(60), nullable=False),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("variant", sa.String(80), nullable=False),
        sa.Column("start", Utc(), nullable=False),
        sa.Column("end", Utc(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("low", sa.Float(), nullable=True),
        sa.Column("high", sa.Float(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("detail", Json(), nullable=True),
        sa.PrimaryKeyConstraint("endpoint", "name", "variant", "end", name=op.f("pk_measure")),
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("endpoint", sa.String(60), nullable=False),
        sa.Column("kind", sa.String(30), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("start", Utc(), nullable=False),
        sa.Column("end", Utc(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("detail", Json(), nullable=False),
        sa.Column("versions", Json(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_finding")),
    )
    op.create_index("ix_finding_endpoint_at", "finding", ["endpoint", "at"])
    op.create_table(
        "drift_reference",
        sa.Column("release", sa.String(40), nullable=False),
        sa.Column("blob", sa.String(64), nullable=False),
        sa.Column("made_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("release", name=op.f("pk_drift_reference")),
    )
