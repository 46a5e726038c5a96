"""Runs that an engine outside of everloop conducts, and who works on which of their steps."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0015"
down_revision = "0013"


def upgrade() -> None:
    op.create_table(
        "outside_run",
        sa.Column("key", sa.String(400), nullable=False),
        sa.Column("run", sa.String(40), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["pipeline_run.id"], name=op.f("fk_outside_run_run")),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_outside_run")),
    )
    op.create_table(
        "step_share",
        sa.Column("run", sa.String(40), nullable=False),
        sa.Column("node", sa.String(400), nullable=False),
        sa.Column("holder", sa.String(40), nullable=False),
        sa.Column("worker", sa.String(200), nullable=False),
        sa.Column("lease_until", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["pipeline_run.id"], name=op.f("fk_step_share_run")),
        sa.PrimaryKeyConstraint("run", "node", name=op.f("pk_step_share")),
    )
