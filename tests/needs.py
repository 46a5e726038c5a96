"""What some tests need from the machine: shared data, a PostgreSQL, a browser, other engines (peers).

Where it is missing they are skipped, unless the environment variable TEST_REQUIRE names it (comma-separated):
then they fail, so that a complete run cannot leave them out unseen.
"""

from __future__ import annotations

import os
from typing import Literal, NoReturn, get_args

import pytest

Need = Literal["browser", "data", "peers", "postgres"]
NEEDS: tuple[Need, ...] = get_args(Need)


def required(environ: str | None = None) -> frozenset[str]:
    """The needs that may not be missing. Raises UsageError for a name that is none."""
    text = os.environ.get("TEST_REQUIRE", "") if environ is None else environ  # noqa: TID251  (not a setting)
    named = frozenset(filter(None, (name.strip() for name in text.split(","))))
    if unknown := sorted(named.difference(NEEDS)):
        raise pytest.UsageError(f"TEST_REQUIRE names {', '.join(unknown)}; it knows {', '.join(NEEDS)}")
    return named


def missing(need: Need, reason: str) -> NoReturn:
    """Skip the test that runs, or fail it where TEST_REQUIRE says that nothing may be missing."""
    if need in required():
        pytest.fail(f"{reason} (TEST_REQUIRE names {need!r})", pytrace=False)
    pytest.skip(reason)
