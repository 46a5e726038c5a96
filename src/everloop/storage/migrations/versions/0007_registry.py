"""Tables of the room registry."""

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Filled by the room."""
