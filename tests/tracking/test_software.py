from __future__ import annotations

import dataclasses
import platform
import subprocess
import sys
from importlib import metadata

import pytest

from everloop import tracking
from everloop.errors import NotFound
from everloop.tracking.software import installed
from everloop.workspace import Workspace


def test_an_environment_names_python_and_every_package(any_ws: Workspace) -> None:
    here = tracking.capture_environment(any_ws)
    assert here.python == platform.python_version()
    assert here.version_of("scikit-learn") == metadata.version("scikit-learn")
    assert here.version_of("no-such-package") is None
    assert list(here.packages) == sorted(set(here.packages))
    assert tracking.environment(any_ws, here.digest) == here


def test_an_editable_installation_is_marked(ws: Workspace) -> None:
    here = tracking.capture_environment(ws)
    origin = metadata.distribution("everloop").read_text("direct_url.json") or ""
    assert ("everloop" in here.editable) == ('"editable": true' in origin.replace('":true', '": true'))


def test_another_process_of_the_same_environment_finds_the_same_digest() -> None:
    program = "from everloop.tracking.software import installed; print(installed().digest)"
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, timeout=60
    )
    assert other.stdout.strip() == installed().digest


def test_capturing_again_writes_nothing_new(ws: Workspace) -> None:
    assert tracking.capture_environment(ws) == tracking.capture_environment(ws)


def test_an_unknown_environment_is_not_found(ws: Workspace) -> None:
    with pytest.raises(NotFound, match="no environment"):
        tracking.environment(ws, "0" * 64)


def test_a_record_is_frozen(ws: Workspace) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tracking.capture_environment(ws).python = "4"  # type: ignore[misc]  # that is the point
