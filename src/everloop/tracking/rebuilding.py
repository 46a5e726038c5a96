"""A recorded environment built anew: a virtual environment with the packages that were installed then."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import everloop
from everloop.errors import Invalid, NotReady
from everloop.tracking.records import Environment

_OURS = "everloop"
_TOLD_LINES = 12  # of an installer's last words


def rebuild(recorded: Environment, folder: Path) -> str:
    """Make a virtual environment in `folder` with a recorded environment's Python and packages; return its Python.

    Uses uv when it is on the path, which can also fetch another Python, else pip. Both take their own settings
    (indexes, offline, folders of wheels) from their own environment variables and files. everloop itself is this one,
    linked: it has to read this workspace.

    Raises
    ------
    Invalid
        The environment is another platform's or has packages that are installed in place from a folder, or pip would
        have to make another Python's.
    NotReady
        A package or the Python cannot be had now.
    """
    _check_buildable(recorded)
    wanted = folder.with_name("requirements.txt")
    wanted.write_text("".join(f"{name}=={version}\n" for name, version in recorded.packages if name != _OURS))
    python = folder / "bin" / "python"
    if (uv := shutil.which("uv")) is not None:
        _run(uv, "venv", "--quiet", "--python", recorded.python, str(folder))
        _run(uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(wanted))
    else:
        _check_same_python(recorded)
        _run(sys.executable, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(wanted))
    _link_ourselves(folder)
    return str(python)


def _check_buildable(recorded: Environment) -> None:
    here = (platform.python_implementation(), sysconfig.get_platform())
    if (recorded.implementation, recorded.platform) != here:
        raise Invalid(
            f"the run's environment is {recorded.implementation} on {recorded.platform}, this is {here[0]} on {here[1]}. "
            "An environment is rebuilt on its own platform. Reproduce the run there, or here without --rebuild."
        )
    in_place = [name for name in recorded.editable if name != _OURS]
    if in_place:
        raise Invalid(
            f"{', '.join(in_place)} was installed in place from a folder (pip install -e), so that its version does not say "
            "what its code was. Reproduce the run without --rebuild, where it is still installed."
        )


def _check_same_python(recorded: Environment) -> None:
    if platform.python_version() != recorded.python:
        raise Invalid(
            f"the run's Python is {recorded.python}, this is {platform.python_version()}; pip makes environments of its own "
            "Python only. Install uv, which fetches others, or reproduce the run without --rebuild."
        )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        told = "\n".join(done.stderr.strip().splitlines()[-_TOLD_LINES:])
        raise NotReady(
            f"the run's environment cannot be rebuilt here: {Path(command[0]).name} {command[1]} says\n{told}\nEach package "
            "is needed in the version that was recorded. Go online, or name a folder of wheels (UV_FIND_LINKS, "
            "PIP_FIND_LINKS); without --rebuild the run is repeated with what is installed here."
        )


def _link_ourselves(folder: Path) -> None:
    """Let the new environment import this everloop, and find its version and its entry points."""
    (libraries,) = folder.glob("lib/python*/site-packages")
    package = Path(everloop.__file__).parent
    (libraries / _OURS).symlink_to(package, target_is_directory=True)
    version = metadata.version(_OURS)
    described = Path(str(metadata.distribution(_OURS).locate_file(f"{_OURS}-{version}.dist-info")))
    shutil.copytree(described, libraries / described.name)
