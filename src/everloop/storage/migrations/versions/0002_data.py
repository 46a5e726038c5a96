"""Tables of the room data."""

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Filled by the room."""
