"""Experiments and runs as MLflow's clients know them: deletion, artifact places, inputs, outputs, metrics of models."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0020"
down_revision = "0018"


def upgrade() -> None:
    op.add_column("experiment", sa.Column("artifact_root", sa.Text(), nullable=True))
    op.add_column("experiment", sa.Column("updated_at", Utc(), nullable=True))
    op.add_column("experiment", sa.Column("deleted_at", Utc(), nullable=True))
    if op.get_context().dialect.name == "postgresql":  # SQLite does not look at the length of a text
        op.alter_column(
            "experiment", "name", type_=sa.String(length=500), existing_type=sa.String(length=250)
        )
    op.create_table(
        "experiment_tag",
        sa.Column("experiment", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["experiment"], ["experiment.id"], name=op.f("fk_experiment_tag_experiment")),
        sa.PrimaryKeyConstraint("experiment", "name", name=op.f("pk_experiment_tag")),
    )
    op.add_column("run", sa.Column("client_user", sa.String(length=250), nullable=True))
    op.add_column("run", sa.Column("artifact_uri", sa.Text(), nullable=True))
    op.add_column("run", sa.Column("deleted_at", Utc(), nullable=True))
    op.create_index("ix_run_experiment_started_at", "run", ["experiment", "started_at", "id"], unique=False)
    # with the run in it a search by a metric's value reads the index alone
    op.drop_index("ix_run_latest_metric_name_value", table_name="run_latest_metric")
    op.create_index(
        "ix_run_latest_metric_name_value", "run_latest_metric", ["name", "value", "run"], unique=False
    )
    op.create_table(
        "run_dataset",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("dataset", sa.String(length=64), nullable=False),
        sa.Column("context", sa.Text(), nullable=True),
        sa.Column("tags", Json(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_run_dataset_run")),
        sa.PrimaryKeyConstraint("run", "dataset", name=op.f("pk_run_dataset")),
    )
    op.create_table(
        "logged_dataset",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=36), nullable=False),
        sa.Column("source_type", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_logged_dataset")),
    )
    op.create_table(
        "run_model",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("role", sa.String(length=6), nullable=False),
        sa.Column("model", sa.String(length=60), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_run_model_run")),
        sa.PrimaryKeyConstraint("run", "role", "model", name=op.f("pk_run_model")),
    )
    op.create_table(
        "model_metric",
        sa.Column("model", sa.String(length=60), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("dataset_name", sa.String(length=500), nullable=False),
        sa.Column("dataset_digest", sa.String(length=36), nullable=False),
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", Utc(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "model",
            "name",
            "dataset_name",
            "dataset_digest",
            "run",
            "step",
            "at",
            name=op.f("pk_model_metric"),
        ),
    )
    op.create_index("ix_model_metric_run", "model_metric", ["run"], unique=False)
