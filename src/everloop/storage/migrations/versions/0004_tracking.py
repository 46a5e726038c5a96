"""Tables of the room tracking."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json, Utc

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "code",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("commit", sa.String(length=64), nullable=True),
        sa.Column("is_dirty", sa.Boolean(), nullable=False),
        sa.Column("diff", sa.String(length=64), nullable=True),
        sa.Column("folder", sa.Text(), nullable=True),
        sa.Column("files", Json(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_code")),
    )
    op.create_table(
        "environment",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("python", sa.String(length=40), nullable=False),
        sa.Column("implementation", sa.String(length=40), nullable=False),
        sa.Column("platform", sa.String(length=120), nullable=False),
        sa.Column("packages", Json(), nullable=False),
        sa.Column("editable", Json(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_environment")),
    )
    op.create_table(
        "experiment",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("created_at", Utc(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_experiment")),
        sa.UniqueConstraint("name", name=op.f("uq_experiment_name")),
    )
    op.create_table(
        "run_latest_metric",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run", "name", name=op.f("pk_run_latest_metric")),
    )
    op.create_index("ix_run_latest_metric_name_value", "run_latest_metric", ["name", "value"], unique=False)
    op.create_table(
        "run_metric",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", Utc(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("run", "name", "step", "at", "value", name=op.f("pk_run_metric")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("experiment", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.Column("actor", sa.String(length=120), nullable=False),
        sa.Column("started_at", Utc(), nullable=False),
        sa.Column("ended_at", Utc(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("environment", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["code"], ["code.digest"], name=op.f("fk_run_code")),
        sa.ForeignKeyConstraint(["environment"], ["environment.digest"], name=op.f("fk_run_environment")),
        sa.ForeignKeyConstraint(["experiment"], ["experiment.id"], name=op.f("fk_run_experiment")),
        sa.ForeignKeyConstraint(["parent"], ["run.id"], name=op.f("fk_run_parent")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index("ix_run_experiment_id", "run", ["experiment", "id"], unique=False)
    op.create_index("ix_run_kind_id", "run", ["kind", "id"], unique=False)
    op.create_index("ix_run_parent_id", "run", ["parent", "id"], unique=False)
    op.create_table(
        "run_artifact",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("path", sa.String(length=500), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_run_artifact_run")),
        sa.PrimaryKeyConstraint("run", "path", name=op.f("pk_run_artifact")),
    )
    op.create_table(
        "run_param",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_run_param_run")),
        sa.PrimaryKeyConstraint("run", "name", name=op.f("pk_run_param")),
    )
    op.create_table(
        "run_tag",
        sa.Column("run", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_run_tag_run")),
        sa.PrimaryKeyConstraint("run", "name", name=op.f("pk_run_tag")),
    )

    # every workspace begins with the experiment that MLflow's clients expect under the number 0
    op.execute("INSERT INTO experiment (id, name) VALUES (0, 'Default')")
