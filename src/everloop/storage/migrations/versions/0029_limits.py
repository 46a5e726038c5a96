"""What an endpoint's models may take."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.add_column("endpoint", sa.Column("limits", Json(), nullable=True))
