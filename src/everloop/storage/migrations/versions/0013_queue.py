"""Lanes, pools and priorities of jobs; catching up, jitter and pauses of schedules; triggers."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

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
    op.add_column("event", sa.Column("topic", sa.String(120), nullable=True))
    op.create_index("ix_event_topic", "event", ["kind", "topic", "at"])
    op.create_table(
        "trigger",
        sa.Column("name", sa.String(60), nullable=False),
        sa.Column("pipeline", sa.String(120), nullable=False),
        sa.Column("params", Json(), nullable=False),
        sa.Column("takes", Json(), nullable=False),
        sa.Column("condition", Json(), nullable=True),
        sa.Column("quiet_s", sa.BigInteger(), nullable=False),
        sa.Column("longest_wait_s", sa.BigInteger(), nullable=True),
        sa.Column("cooldown_s", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("lane", sa.String(120), nullable=False),
        sa.Column("since", Utc(), nullable=False),
        sa.Column("holds_since", Utc(), nullable=True),
        sa.Column("changed_at", Utc(), nullable=True),
        sa.Column("seen", Json(), nullable=True),
        sa.Column("paused_at", Utc(), nullable=True),
        sa.Column("paused_by", sa.String(120), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("secret", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_trigger")),
    )
    op.create_table(
        "trigger_firing",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("trigger", sa.String(60), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", Json(), nullable=False),
        sa.Column("params", Json(), nullable=False),
        sa.Column("job", sa.String(40), nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger_firing")),
    )
    op.create_index("ix_trigger_firing_trigger", "trigger_firing", ["trigger", "at", "id"])
    op.create_table(
        "trigger_call",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("trigger", sa.String(60), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("once_key", sa.String(200), nullable=True),
        sa.Column("signature", sa.String(64), nullable=True),
        sa.Column("params", Json(), nullable=False),
        sa.Column("firing", sa.String(40), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trigger_call")),
        sa.UniqueConstraint("trigger", "once_key", name=op.f("uq_trigger_call_trigger_once_key")),
        sa.UniqueConstraint("trigger", "signature", name=op.f("uq_trigger_call_trigger_signature")),
    )
    op.create_index("ix_trigger_call_pending", "trigger_call", ["firing", "trigger", "id"])
