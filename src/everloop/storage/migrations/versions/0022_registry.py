"""Descriptions, tags, terms of stages and deletion of models and versions; webhooks."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    for column in (
        sa.Column("stages", Json(), nullable=False, server_default="[]"),
        sa.Column("description", sa.Text(), nullable=False, server_default=""),
        sa.Column("updated_at", Utc(), nullable=True),
        sa.Column("deleted_at", Utc(), nullable=True),
    ):
        op.add_column("model", column)
    for column in (
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("logged_model", sa.String(length=40), nullable=True),
        sa.Column("run_link", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False, server_default=""),
        sa.Column("updated_at", Utc(), nullable=True),
        sa.Column("archived_at", Utc(), nullable=True),
        sa.Column("deleted_at", Utc(), nullable=True),
    ):
        op.add_column("model_version", column)
    op.create_table(
        "model_tag",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["model.name"], name=op.f("fk_model_tag_model")),
        sa.PrimaryKeyConstraint("model", "name", name=op.f("pk_model_tag")),
    )
    op.create_table(
        "model_version_tag",
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["model", "number"],
            ["model_version.model", "model_version.number"],
            name=op.f("fk_model_version_tag_model_number"),
        ),
        sa.PrimaryKeyConstraint("model", "number", "name", name=op.f("pk_model_version_tag")),
    )
    op.create_table(
        "webhook",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("kinds", Json(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.String(length=40), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook")),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("webhook", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["webhook"], ["webhook.id"], name=op.f("fk_webhook_delivery_webhook")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
    )
    op.create_index("ix_webhook_delivery_due", "webhook_delivery", ["ended_at", "due_at"])
