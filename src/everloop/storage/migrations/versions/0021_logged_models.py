"""Models that MLflow's clients log, and their files."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Utc

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "logged_model",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=250), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=True),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.Column("artifact_uri", sa.Text(), nullable=True),
        sa.Column("deleted_at", Utc(), nullable=True),
        sa.ForeignKeyConstraint(["experiment"], ["experiment.id"], name=op.f("fk_logged_model_experiment")),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_logged_model_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logged_model")),
    )
    op.create_index(
        "ix_logged_model_experiment_created_at",
        "logged_model",
        ["experiment", "created_at", "id"],
        unique=False,
    )
    op.create_index("ix_logged_model_run_id", "logged_model", ["run", "id"], unique=False)
    for what in ("param", "tag"):
        op.create_table(
            f"logged_model_{what}",
            sa.Column("model", sa.String(length=40), nullable=False),
            sa.Column("name", sa.String(length=250), nullable=False),
            sa.Column("value", sa.Text(), nullable=False),
            sa.ForeignKeyConstraint(
                ["model"], ["logged_model.id"], name=op.f(f"fk_logged_model_{what}_model")
            ),
            sa.PrimaryKeyConstraint("model", "name", name=op.f(f"pk_logged_model_{what}")),
        )
    op.create_table(
        "logged_model_artifact",
        sa.Column("model", sa.String(length=40), nullable=False),
        sa.Column("path", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["logged_model.id"], name=op.f("fk_logged_model_artifact_model")),
        sa.PrimaryKeyConstraint("model", "path", name=op.f("pk_logged_model_artifact")),
    )
