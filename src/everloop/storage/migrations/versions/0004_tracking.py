"""Tables of the room tracking."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Filled by the room."""
