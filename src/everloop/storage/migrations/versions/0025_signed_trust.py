"""Signatures of the marks that let a model's own code run; marks of before have none, and do not count."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("version_trust", sa.Column("key", sa.String(64)))
    op.add_column("version_trust", sa.Column("signature", sa.String(128)))
