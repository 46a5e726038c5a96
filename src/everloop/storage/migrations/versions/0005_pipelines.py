"""Tables of the room pipelines."""

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Filled by the room."""
