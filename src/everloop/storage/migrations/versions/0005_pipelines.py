"""Tables of the room pipelines."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "pipeline_run",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("pipeline", sa.String(length=200), nullable=False),
        sa.Column("entry", sa.String(length=400), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("params", Json(), nullable=False),
        sa.Column("pins", Json(), nullable=False),
        sa.Column("plan", Json(), nullable=False),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("environment", sa.String(length=64), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=False),
        sa.Column("lease_until", Utc(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pipeline_run")),
    )
    op.create_index("ix_pipeline_run_pipeline_id", "pipeline_run", ["pipeline", "id"], unique=False)
    op.create_table(
        "step_run",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=400), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.String(length=400), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("parts", Json(), nullable=False),
        sa.Column("output", Json(), nullable=True),
        sa.Column("made_by", sa.String(length=40), nullable=True),
        sa.Column("tracking_run", sa.String(length=40), nullable=True),
        sa.Column("log", sa.String(length=400), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["pipeline_run.id"], name=op.f("fk_step_run_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step_run")),
        sa.UniqueConstraint("run", "node", "attempt", name=op.f("uq_step_run_run_node_attempt")),
    )
    done = sa.text("state = 'done'")
    op.create_index(
        "ix_step_run_key", "step_run", ["key"], unique=False, sqlite_where=done, postgresql_where=done
    )
    finished = sa.text("state IN ('done', 'cached')")
    op.create_index(
        "ux_step_run_finished",
        "step_run",
        ["run", "node"],
        unique=True,
        sqlite_where=finished,
        postgresql_where=finished,
    )
    op.create_table(
        "step_source",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("parts", Json(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_step_source")),
    )
