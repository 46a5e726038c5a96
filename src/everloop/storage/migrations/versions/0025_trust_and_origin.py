"""Signatures of the marks that let a model's own code run, which old ones lack; finding the versions of a logged model;
running through runs by their start.
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.add_column("version_trust", sa.Column("key", sa.String(64)))
    op.add_column("version_trust", sa.Column("signature", sa.String(128)))
    op.create_index("ix_model_version_logged_model", "model_version", ["logged_model"])
    op.create_index("ix_run_started_at", "run", ["started_at", "id"])
    op.create_index("ix_run_kind_started_at", "run", ["kind", "started_at", "id"])
    op.create_index("ix_run_parent_started_at", "run", ["parent", "started_at", "id"])
    op.drop_index("ix_run_kind_id", "run")
    op.drop_index("ix_run_parent_id", "run")
