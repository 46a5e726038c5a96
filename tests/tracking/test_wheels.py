"""Wheels of an environment are kept in the home, and it is rebuilt from them when nobody else has them any more."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from everloop.errors import Invalid, NotReady
from everloop.tracking import Environment, drop_wheels, installed, keep_wheels, kept_wheels, rebuild
from everloop.workspace import Workspace
from tests.tracking.test_rebuilding import offline

__all__ = ["offline"]  # a fixture


def recorded(*packages: tuple[str, str]) -> Environment:
    return dataclasses.replace(installed(), digest="d" * 64, packages=packages, editable=())


@pytest.mark.usefixtures("offline")
def test_an_environment_is_rebuilt_from_its_kept_wheels_alone(ws: Workspace, tmp_path: Path) -> None:
    environment = recorded(("everloop", "0.0.1"), ("steadyhand", "1.0"))
    kept = keep_wheels(ws, environment)
    assert (kept.count, kept.environment) == (1, environment.digest)
    assert kept.size_bytes == next(kept.folder.iterdir()).stat().st_size
    (tmp_path / "wheels" / "steadyhand-1.0-py3-none-any.whl").unlink()  # the index has it no more
    with pytest.raises(NotReady):
        rebuild(environment, tmp_path / "other")
    assert keep_wheels(ws, environment) == kept
    python = rebuild(environment, tmp_path / "environment", wheels=kept.folder)
    asked = "import steadyhand; print(steadyhand.shift())"
    told = subprocess.run([python, "-P", "-c", asked], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["0.5"]


@pytest.mark.usefixtures("offline")
def test_all_wheels_are_kept_or_none(ws: Workspace) -> None:
    environment = recorded(("steadyhand", "1.0"), ("unsteady", "2.0"))
    with pytest.raises(NotReady, match=r"(?s)cannot be had: .*unsteady==2\.0.*Nothing was kept"):
        keep_wheels(ws, environment)
    assert kept_wheels(ws, environment.digest) is None
    assert list((ws.home / "wheels").iterdir()) == []


@pytest.mark.usefixtures("offline")
def test_wheels_can_be_dropped(ws: Workspace) -> None:
    kept = keep_wheels(ws, recorded(("steadyhand", "1.0")))
    drop_wheels(ws, kept.environment)
    drop_wheels(ws, kept.environment)
    assert kept_wheels(ws, kept.environment) is None


def test_another_python_is_refused(ws: Workspace) -> None:
    with pytest.raises(Invalid, match=r"the run's Python is 3\.1\.0"):
        keep_wheels(ws, dataclasses.replace(recorded(), python="3.1.0"))
