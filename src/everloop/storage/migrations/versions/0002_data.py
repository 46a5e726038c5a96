"""Tables of the room data."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "dataset",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("schema", Json(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_dataset")),
    )
    op.create_table(
        "dataset_version",
        sa.Column("dataset", sa.String(length=80), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("schema", Json(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("operation", Json(), nullable=False),
        sa.Column("personal", Json(), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("created_by", sa.String(length=120), nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["dataset.name"], name=op.f("fk_dataset_version_dataset")),
        sa.PrimaryKeyConstraint("dataset", "number", name=op.f("pk_dataset_version")),
    )
