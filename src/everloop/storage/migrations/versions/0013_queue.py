"""Lanes, pools and priorities of jobs; catching up, jitter and pauses of schedules."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "job_pool",
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("at_most", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_pool")),
    )
    op.create_table(
        "job_lane",
        sa.Column("name", sa.String(120), nullable=False),
        sa.Column("at_most", sa.Integer(), nullable=True),
        sa.Column("when_full", sa.String(20), nullable=False),
        sa.Column("pool", sa.String(120), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job_lane")),
    )
    # the lane of all jobs that no limit was ever set for
    op.execute("INSERT INTO job_lane (name, when_full) VALUES ('', 'queue')")
    op.add_column("job", sa.Column("lane", sa.String(120), nullable=False, server_default=""))
    op.add_column("job", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    # what an older version puts while this one runs has no rank; it is taken all the same
    op.add_column("job", sa.Column("rank_at", Utc(), nullable=True))
    op.execute("UPDATE job SET rank_at = due_at")
    op.create_index("ix_job_queue", "job", ["state", "lane", "rank_at", "id"])
    op.drop_index("ix_job_state_due", "job")
    for column in (
        sa.Column("due_at", Utc(), nullable=True),
        sa.Column("catch_up", sa.String(12), nullable=False, server_default="latest"),
        sa.Column("catch_up_most", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("jitter_s", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("lane", sa.String(120), nullable=False, server_default=""),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("paused_at", Utc(), nullable=True),
        sa.Column("paused_by", sa.String(120), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
    ):
        op.add_column("schedule", column)
    op.execute("UPDATE schedule SET due_at = next_at")
    op.drop_index("ix_schedule_next_at", "schedule")
    op.create_index("ix_schedule_due_at", "schedule", ["due_at"])
    op.add_column("retraining_policy", sa.Column("lane", sa.String(120), nullable=False, server_default=""))
