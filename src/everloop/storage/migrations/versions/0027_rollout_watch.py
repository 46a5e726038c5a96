"""Until when a finished rollout is watched, and when that was last looked at; splits of traffic."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0027"
down_revision = "0025"


def upgrade() -> None:
    op.add_column("rollout", sa.Column("watch_until", Utc(), nullable=True))
    op.add_column("rollout", sa.Column("watched_at", Utc(), nullable=True))
    op.create_index("ix_rollout_watch_until", "rollout", ["watch_until"])
    op.create_table(
        "traffic_split",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("endpoint", sa.String(60), nullable=False),
        sa.Column("arms", Json(), nullable=False),
        sa.Column("stickiness", sa.String(12), nullable=False),
        sa.Column("slow_above_ms", sa.Float()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc()),
    )
    op.create_index("ix_traffic_split_endpoint_id", "traffic_split", ["endpoint", "id"])
    op.create_index("ix_traffic_split_state", "traffic_split", ["state"])
