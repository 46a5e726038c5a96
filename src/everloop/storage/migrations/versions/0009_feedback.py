"""Tables of the room feedback."""

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Filled by the room."""
