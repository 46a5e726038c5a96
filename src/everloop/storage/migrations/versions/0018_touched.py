"""What a step touched without declaring it."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("step_run", sa.Column("touched", Json(), nullable=True))
