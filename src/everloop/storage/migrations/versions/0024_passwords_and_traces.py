"""Passwords of accounts, and traces with what is said of them and their files."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.create_table(
        "account_password",
        sa.Column("account", sa.String(120), sa.ForeignKey("account.name"), primary_key=True),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("hash", sa.String(200), nullable=False),
        sa.Column("set_at", Utc, nullable=False),
        sa.UniqueConstraint("id", name="uq_account_password_id"),
    )
    op.create_table(
        "trace",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("experiment", sa.Integer, sa.ForeignKey("experiment.id"), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("started_at", Utc, nullable=False),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("request", sa.Text),
        sa.Column("response", sa.Text),
        sa.Column("client_request_id", sa.String(250)),
        sa.Column("artifact_uri", sa.Text),
        sa.Column("actor", sa.String(120), nullable=False),
        sa.Column("deleted_at", Utc),
    )
    op.create_index("ix_trace_experiment_started_at", "trace", ["experiment", "started_at", "id"])
    op.create_table(
        "trace_text",
        sa.Column("trace", sa.String(40), sa.ForeignKey("trace.id"), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(250), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "trace_artifact",
        sa.Column("trace", sa.String(40), sa.ForeignKey("trace.id"), primary_key=True),
        sa.Column("path", sa.String(500), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("at", Utc, nullable=False),
    )
