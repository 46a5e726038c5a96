"""How an endpoint's predictions are logged; parts of prediction logs that were shipped."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.add_column("endpoint", sa.Column("log", Json(), nullable=True))
    op.create_table(
        "log_part",
        sa.Column("origin", sa.String(20), primary_key=True),
        sa.Column("writer", sa.Integer(), primary_key=True),
        sa.Column("segment", sa.BigInteger(), primary_key=True),
        sa.Column("is_sealed", sa.Boolean(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("planned_bytes", sa.BigInteger(), nullable=False),
        sa.Column("pieces", Json(), nullable=False),
        sa.Column("shipped_at", Utc(), nullable=False),
    )
    op.create_index("ix_log_part_shipped_at", "log_part", ["shipped_at"])
