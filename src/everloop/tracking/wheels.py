"""Wheels of environments, kept in the home, so that one can be rebuilt when no index has its packages any more."""

from __future__ import annotations

import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from everloop.errors import Invalid, NotReady
from everloop.tracking.rebuilding import (
    Refused,
    check_buildable,
    run_installer,
    write_pins,
)
from everloop.tracking.records import Environment
from everloop.workspace import Workspace


@dataclass(frozen=True)
class Wheels:
    """The wheels that are kept of an environment: where, how many, and their size in bytes."""

    environment: str
    folder: Path
    count: int
    size_bytes: int


def keep_wheels(ws: Workspace, recorded: Environment) -> Wheels:
    """Keep the wheels of all packages of a recorded environment but everloop; those that are kept already are returned.

    pip gets them, or builds those that there are sources of alone, by its own settings. All or none are kept.

    Raises
    ------
    Invalid
        The environment is another platform's or Python's, or has packages that are installed in place from a folder.
    NotReady
        A package cannot be had now.
    """
    known = kept_wheels(ws, recorded.digest)
    if known is not None:
        return known
    check_buildable(recorded)
    if platform.python_version() != recorded.python:
        raise Invalid(
            f"the run's Python is {recorded.python}, this is {platform.python_version()}; wheels are made for one Python. Keep "
            "them with everloop installed under that one."
        )
    folder = _folder_of(ws, recorded.digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as name:
        half_done = Path(name)
        wanted = write_pins(recorded, half_done / "requirements.txt")
        log, python = half_done / "getting.log", half_done / "environment" / "bin" / "python"
        wheels = half_done / "wheels"
        wheels.mkdir()
        try:
            run_installer(log, sys.executable, "-m", "venv", str(half_done / "environment"))
            run_installer(
                log, str(python), "-m", "pip", "wheel", "--no-deps", "-w", str(wheels), "-r", str(wanted)
            )
        except Refused as refused:
            raise NotReady(
                f"the wheels of environment {recorded.digest[:12]} cannot be had: {refused}\nNothing was kept. Go online, or "
                "name a folder of wheels (PIP_FIND_LINKS)."
            ) from refused
        if not folder.exists():  # else somebody else was quicker
            wheels.rename(folder)
    return _counted(recorded.digest, folder)


def kept_wheels(ws: Workspace, environment: str) -> Wheels | None:
    """The wheels that are kept of an environment, by its digest."""
    folder = _folder_of(ws, environment)
    return _counted(environment, folder) if folder.is_dir() else None


def drop_wheels(ws: Workspace, environment: str) -> None:
    """Let go of an environment's wheels, if any are kept."""
    shutil.rmtree(_folder_of(ws, environment), ignore_errors=True)


def _counted(environment: str, folder: Path) -> Wheels:
    files = [file for file in folder.iterdir() if file.suffix == ".whl"]
    return Wheels(environment, folder, len(files), sum(file.stat().st_size for file in files))


def _folder_of(ws: Workspace, environment: str) -> Path:
    return ws.home.absolute() / "wheels" / environment
