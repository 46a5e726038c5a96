"""Until when a finished rollout is watched, and when that was last looked at."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0027"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("rollout", sa.Column("watch_until", Utc(), nullable=True))
    op.add_column("rollout", sa.Column("watched_at", Utc(), nullable=True))
    op.create_index("ix_rollout_watch_until", "rollout", ["watch_until"])
