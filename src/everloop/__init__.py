"""everloop."""
