"""Signatures of the marks that let a model's own code run, which old ones lack; finding the versions of a logged model."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0023"


def upgrade() -> None:
    op.add_column("version_trust", sa.Column("key", sa.String(64)))
    op.add_column("version_trust", sa.Column("signature", sa.String(128)))
    op.create_index("ix_model_version_logged_model", "model_version", ["logged_model"])
