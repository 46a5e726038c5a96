"""Endpoints, rollouts, and each step they took."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "endpoint",
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("model", sa.String(60), nullable=False),
        sa.Column("key", sa.String(120), nullable=True),
        sa.Column("stickiness", sa.String(12), nullable=False),
        sa.Column("canary", Json(), nullable=False),
        sa.Column("salt", sa.String(40), nullable=False),
        sa.Column("variants", Json(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_endpoint")),
    )
    op.create_table(
        "rollout",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("endpoint", sa.String(60), nullable=False),
        sa.Column("version", sa.String(80), nullable=False),
        sa.Column("release", sa.String(40), nullable=False),
        sa.Column("from_version", sa.String(80), nullable=True),
        sa.Column("from_release", sa.String(40), nullable=True),
        sa.Column("stages", Json(), nullable=False),
        sa.Column("canary", Json(), nullable=False),
        sa.Column("slow_above_ms", sa.Float(), nullable=True),
        sa.Column("before", Json(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("epochs", Json(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout")),
    )
    op.create_index("ix_rollout_endpoint_id", "rollout", ["endpoint", "id"])
    op.create_index("ix_rollout_state", "rollout", ["state"])
    op.create_table(
        "rollout_event",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("endpoint", sa.String(60), nullable=False),
        sa.Column("rollout", sa.String(40), nullable=True),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("act", sa.String(20), nullable=False),
        sa.Column("actor", sa.String(120), nullable=False),
        sa.Column("stage", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("decision", Json(), nullable=True),
        sa.Column("variants", Json(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rollout_event")),
    )
    op.create_index("ix_rollout_event_endpoint", "rollout_event", ["endpoint", "id"])
    op.create_index("ix_rollout_event_rollout", "rollout_event", ["rollout", "id"])
