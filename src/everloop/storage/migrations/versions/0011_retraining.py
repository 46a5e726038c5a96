"""Policies and decisions of retraining."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.create_table(
        "retraining_policy",
        sa.Column("model", sa.String(60), nullable=False),
        sa.Column("condition", Json(), nullable=True),
        sa.Column("cooldown_s", sa.BigInteger(), nullable=False),
        sa.Column("since", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_retraining_policy")),
    )
    op.create_table(
        "retraining_decision",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("model", sa.String(60), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", Json(), nullable=False),
        sa.Column("job", sa.String(40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_retraining_decision")),
    )
    op.create_index("ix_retraining_decision_model", "retraining_decision", ["model", "at"])
