"""Tables of the room labels."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "label_schema",
        sa.Column("label_set", sa.String(length=120), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("dataset", sa.String(length=120), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("classes", Json(), nullable=False),
        sa.Column("per_item", sa.Integer(), nullable=False),
        sa.Column("reports", Json(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("label_set", "number", name=op.f("pk_label_schema")),
    )
    op.create_table(
        "label_event",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("label_set", sa.String(length=120), nullable=False),
        sa.Column("schema_number", sa.Integer(), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", Json(), nullable=False),
        sa.Column("annotator", sa.String(length=120), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("recorded_at", Utc(), nullable=False),
        sa.Column("shown", Json(), nullable=True),
        sa.Column("duration_ms", sa.BigInteger(), nullable=True),
        sa.Column("prediction_id", sa.String(length=40), nullable=True),
        sa.Column("file", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["label_set", "schema_number"],
            ["label_schema.label_set", "label_schema.number"],
            name=op.f("fk_label_event_label_set_schema_number"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_event")),
    )
    op.create_index("ix_label_event_newest", "label_event", ["label_set", "id"], unique=False)
    op.create_index("ix_label_event_prediction", "label_event", ["prediction_id"], unique=False)
    op.create_index("ix_label_event_row", "label_event", ["label_set", "row_id", "id"], unique=False)
    op.create_table(
        "label_snapshot",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("label_set", sa.String(length=120), nullable=False),
        sa.Column("schema_number", sa.Integer(), nullable=False),
        sa.Column("rule", sa.String(length=16), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("per_class", Json(), nullable=False),
        sa.Column("annotators", Json(), nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(
            ["label_set", "schema_number"],
            ["label_schema.label_set", "label_schema.number"],
            name=op.f("fk_label_snapshot_label_set_schema_number"),
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_label_snapshot")),
    )
    op.create_index("ix_label_snapshot_newest", "label_snapshot", ["label_set", "at"], unique=False)
