"""Tables of the room feedback."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "audit_sample",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("endpoint", sa.String(length=120), nullable=False),
        sa.Column("start_at", Utc(), nullable=False),
        sa.Column("end_at", Utc(), nullable=False),
        sa.Column("probability", Json(), nullable=False),
        sa.Column("considered", Json(), nullable=False),
        sa.Column("chosen", Json(), nullable=False),
        sa.Column("created", sa.Integer(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_sample")),
    )
    op.create_index("ix_audit_sample_endpoint", "audit_sample", ["endpoint", "end_at"], unique=False)
    op.create_table(
        "correction",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("endpoint", sa.String(length=120), nullable=False),
        sa.Column("prediction_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("answer", Json(), nullable=False),
        sa.Column("variant", sa.String(length=120), nullable=False),
        sa.Column("release", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("predicted_at", Utc(), nullable=False),
        sa.Column("value", Json(), nullable=False),
        sa.Column("reporter", sa.String(length=120), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("recorded_at", Utc(), nullable=False),
        sa.Column("contradicts", sa.Boolean(), nullable=False),
        sa.Column("label_set", sa.String(length=120), nullable=True),
        sa.Column("fate", sa.String(length=12), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_correction")),
        sa.UniqueConstraint(
            "prediction_id",
            "reporter",
            "value",
            "at",
            name=op.f("uq_correction_prediction_id_reporter_value_at"),
        ),
    )
    op.create_index("ix_correction_endpoint", "correction", ["endpoint", "at", "id"], unique=False)
    op.create_table(
        "outcome",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("endpoint", sa.String(length=120), nullable=False),
        sa.Column("prediction_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("answer", Json(), nullable=False),
        sa.Column("variant", sa.String(length=120), nullable=False),
        sa.Column("release", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("predicted_at", Utc(), nullable=False),
        sa.Column("value", Json(), nullable=False),
        sa.Column("source", sa.String(length=60), nullable=False),
        sa.Column("is_correct", sa.Boolean(), nullable=False),
        sa.Column("inclusion_probability", sa.Double(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("recorded_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcome")),
    )
    op.create_index("ix_outcome_endpoint", "outcome", ["endpoint", "predicted_at", "id"], unique=False)
    op.create_index("ix_outcome_prediction", "outcome", ["prediction_id", "source"], unique=False)
    op.create_table(
        "review_item",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("endpoint", sa.String(length=120), nullable=False),
        sa.Column("prediction_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("answer", Json(), nullable=False),
        sa.Column("variant", sa.String(length=120), nullable=False),
        sa.Column("release", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("predicted_at", Utc(), nullable=False),
        sa.Column("reason", sa.String(length=12), nullable=False),
        sa.Column("origin", sa.String(length=40), nullable=False),
        sa.Column("label_set", sa.String(length=120), nullable=True),
        sa.Column("suggested", Json(), nullable=True),
        sa.Column("inclusion_probability", sa.Double(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("value", Json(), nullable=True),
        sa.Column("reviewer", sa.String(length=120), nullable=True),
        sa.Column("answered_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_review_item")),
        sa.UniqueConstraint("origin", name=op.f("uq_review_item_origin")),
    )
    op.create_index("ix_review_item_queue", "review_item", ["state", "endpoint", "id"], unique=False)
    op.create_table(
        "waiting_label",
        sa.Column("origin", sa.String(length=40), nullable=False),
        sa.Column("label_set", sa.String(length=120), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", Json(), nullable=False),
        sa.Column("annotator", sa.String(length=120), nullable=False),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("prediction_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_waiting_label")),
    )
    op.create_index("ix_waiting_label_set", "waiting_label", ["label_set", "origin"], unique=False)
