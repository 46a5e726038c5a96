"""Tables of the room registry."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "model",
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("approval", Json(), nullable=False),
        sa.Column("gates", Json(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_model")),
    )
    op.create_table(
        "model_version",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=True),
        sa.Column("files", Json(), nullable=False),
        sa.Column("flavor", sa.String(length=20), nullable=False),
        sa.Column("signature", Json(), nullable=True),
        sa.Column("features", Json(), nullable=False),
        sa.Column("metrics", Json(), nullable=False),
        sa.Column("data_version", sa.String(length=160), nullable=True),
        sa.Column("label_snapshot", sa.String(length=64), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("environment", sa.String(length=64), nullable=True),
        sa.Column("trusted_types", Json(), nullable=False),
        sa.Column("author", sa.String(length=120), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_model_version_model")),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_model_version")),
    )
    op.create_index("ix_model_version_run", "model_version", ["run"], unique=False)
    op.create_table(
        "approval",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("verdict", sa.String(length=8), nullable=False),
        sa.Column("by", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("gate_report", sa.String(length=40), nullable=True),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "number"],
            ["model_version.model", "model_version.number"],
            name=op.f("fk_approval_model_number"),
        ),
        sa.PrimaryKeyConstraint("model", "number", "position", name=op.f("pk_approval")),
    )
    op.create_table(
        "stage_event",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("by", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_stage_event_model")),
        sa.PrimaryKeyConstraint("model", "position", name=op.f("pk_stage_event")),
    )
    op.create_index("ix_stage_event_name", "stage_event", ["model", "kind", "name", "position"], unique=False)
    op.create_table(
        "release",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=120), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "number"],
            ["model_version.model", "model_version.number"],
            name=op.f("fk_release_model_number"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release")),
        sa.UniqueConstraint("model", "number", name=op.f("uq_release_model_number")),
    )
