"""Rules that place requests on an endpoint; holdbacks, which are splits that a rollout left and that end by themselves."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0030"
down_revision = "0027"


def upgrade() -> None:
    op.add_column("endpoint", sa.Column("rules", Json(), nullable=True))
    op.add_column("traffic_split", sa.Column("rollout", sa.String(40), nullable=True))
    op.add_column("traffic_split", sa.Column("until", Utc(), nullable=True))
