"""Passwords of accounts."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.create_table(
        "account_password",
        sa.Column("account", sa.String(120), sa.ForeignKey("account.name"), primary_key=True),
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("hash", sa.String(200), nullable=False),
        sa.Column("set_at", Utc, nullable=False),
        sa.UniqueConstraint("id", name="uq_account_password_id"),
    )
