"""Applied loop files."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_table(
        "loop_version",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("file", sa.String(400), nullable=False),
        sa.Column("declared", Json(), nullable=False),
        sa.Column("applied_at", Utc(), nullable=False),
        sa.Column("applied_by", sa.String(120), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_loop_version")),
    )
