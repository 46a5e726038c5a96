"""Tables of the room labels."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Filled by the room."""
