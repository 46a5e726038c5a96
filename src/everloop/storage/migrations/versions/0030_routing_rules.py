"""Rules that place requests on an endpoint; holdbacks, which are splits that a rollout left and that end by themselves; reported
values of predictions."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.add_column("endpoint", sa.Column("rules", Json(), nullable=True))
    op.add_column("traffic_split", sa.Column("rollout", sa.String(40), nullable=True))
    op.add_column("traffic_split", sa.Column("until", Utc(), nullable=True))
    op.create_table(
        "reported_value",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("endpoint", sa.String(120), nullable=False),
        sa.Column("prediction_id", sa.String(40), nullable=False),
        sa.Column("key", sa.Text()),
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("recorded_at", Utc(), nullable=False),
        sa.Column("predicted_at", Utc(), nullable=False),
        sa.UniqueConstraint("prediction_id", "name", "at"),
    )
    op.create_index("ix_reported_value_endpoint", "reported_value", ["endpoint", "predicted_at", "id"])
