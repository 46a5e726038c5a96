"""Tables of the room checks."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "gate_report",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model_version", sa.String(length=160), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("evidence", Json(), nullable=False),
        sa.Column("gates", Json(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_gate_report")),
    )
    op.create_index("ix_gate_report_model_version", "gate_report", ["model_version", "id"], unique=False)
    op.create_table(
        "check_result",
        sa.Column("report", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("found", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("remedy", sa.Text(), nullable=False),
        sa.Column("numbers", Json(), nullable=False),
        sa.Column("evidence", Json(), nullable=False),
        sa.Column("details", Json(), nullable=False),
        sa.ForeignKeyConstraint(["report"], ["gate_report.id"], name=op.f("fk_check_result_report")),
        sa.PrimaryKeyConstraint("report", "position", name=op.f("pk_check_result")),
    )
    op.create_table(
        "waiver",
        sa.Column("report", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("check", sa.String(length=160), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", Utc(), nullable=False),
        sa.Column("by", sa.String(length=120), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["report"], ["gate_report.id"], name=op.f("fk_waiver_report")),
        sa.PrimaryKeyConstraint("report", "number", name=op.f("pk_waiver")),
    )
