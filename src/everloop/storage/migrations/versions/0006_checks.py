"""Tables of the room checks."""

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Filled by the room."""
