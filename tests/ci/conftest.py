"""Checks in tests see no CI service around them, whichever runs the tests."""

from __future__ import annotations

import pytest

from everloop.ci.repository import HEADS, VARIABLES
from everloop.ci.writing import SERVICE_VARIABLES


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *HEADS, *SERVICE_VARIABLES, "EVERLOOP_HOME"):
        monkeypatch.delenv(name, raising=False)
