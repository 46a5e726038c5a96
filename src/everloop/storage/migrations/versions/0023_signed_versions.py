"""Signatures of model versions, and who allowed a model's own code to run."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "version_signature",
        sa.Column("model", sa.String(120), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("statement", sa.Text, nullable=False),
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("signature", sa.String(128), nullable=False),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("at", Utc, nullable=False),
    )
    op.create_table(
        "version_trust",
        sa.Column("model", sa.String(120), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("by", sa.String(120), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("at", Utc, nullable=False),
    )
