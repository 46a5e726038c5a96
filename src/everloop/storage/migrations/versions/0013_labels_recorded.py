"""Labels by when they were recorded: so that counting the new ones does not read all."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_index("ix_label_event_recorded", "label_event", ["label_set", "recorded_at"])
