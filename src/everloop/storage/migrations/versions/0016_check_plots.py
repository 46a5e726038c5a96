"""What a picture of each check result shows."""

import sqlalchemy as sa
from alembic import op

from everloop.storage.columns import Json

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("check_result", sa.Column("plot", Json(), nullable=True))
