"""Environments built anew: a recorded one with the packages that were installed then, and one from a lock file."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import everloop
from everloop.errors import Invalid, NotReady
from everloop.tracking.records import Environment
from everloop.tracking.software import described, installed, normal_name

_OURS = "everloop"
_TOLD_LINES = 12  # of an installer's last words
_PIN = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:===?\s*([^\s;,*]+)|@\s*(\S+))\s*(?:;.*)?"
)
# What a lock may say beside its packages: where they are to be had, and how.
_OPTIONS = (
    "-i ", "--index-url", "--extra-index-url", "-f ", "--find-links", "--no-index", "--no-binary", "--only-binary",
    "--require-hashes", "--prefer-binary", "--pre", "--trusted-host",
)  # fmt: skip


def rebuild(recorded: Environment, folder: Path, *, wheels: Path | None = None) -> str:
    """Make a virtual environment in `folder` with a recorded environment's Python and packages; return its Python.

    Uses uv when it is on the path, which can also fetch another Python, else pip. Both take their own settings
    (indexes, offline, folders of wheels) from their own environment variables and files. everloop itself is this one,
    linked: it has to read this workspace.

    Parameters
    ----------
    wheels
        A folder of wheels from which alone packages are taken.

    Raises
    ------
    Invalid
        The environment is another platform's or has packages that are installed in place from a folder, or pip would
        have to make another Python's.
    NotReady
        A package or the Python cannot be had now.
    """
    check_buildable(recorded)
    wanted = write_pins(recorded, folder.with_name("requirements.txt"))
    if shutil.which("uv") is None:
        _check_same_python(recorded)
    try:
        python = _install(
            wanted, folder, python=recorded.python, log=folder.with_name("building.log"), wheels=wheels
        )
    except Refused as refused:
        raise NotReady(
            f"the run's environment cannot be rebuilt here: {refused}\nEach package is needed in the version that was "
            "recorded. Go online, or name a folder of wheels (UV_FIND_LINKS, PIP_FIND_LINKS); without --rebuild the run is "
            "repeated with what is installed here."
        ) from refused
    _link(folder, [_OURS])
    return python


def locked_environment(lock: str, content: bytes) -> Environment:
    """The environment that a lock file makes with this Python, beside what everloop itself needs, in the versions here.

    Raises
    ------
    Invalid
        It is no list of packages with one version each.
    """
    pinned = dict(_pins(lock, content))
    return described({**dict(_needed()), **pinned})


def build_locked(lock: str, content: bytes, folder: Path, *, log: Path) -> str:
    """Make the environment of a lock file in `folder`, with this Python; return its Python.

    The lock's packages are installed by uv or pip, as in `rebuild`, and what these print is added to `log`. everloop and what
    it needs are linked from here, but for packages that the lock has.

    Raises
    ------
    Invalid
        As `locked_environment`.
    NotReady
        A package cannot be had now.
    """
    pinned = _pins(lock, content)
    wanted = folder.with_name(f"{folder.name}.txt")
    wanted.write_bytes(content)
    try:
        python = _install(wanted, folder, python=sys.executable, log=log)
    except Refused as refused:
        raise NotReady(
            f"the environment of {lock} cannot be built: {refused}\nIts {len(pinned)} packages are needed in the versions "
            "that it names. Mend the lock, go online, or name a folder of wheels (UV_FIND_LINKS, PIP_FIND_LINKS)."
        ) from refused
    finally:
        wanted.unlink()
    _link(folder, [_OURS, *(name for name, _ in _needed())])
    return python


class Refused(Exception):  # noqa: N818  (an installer's answer, told by who asked)
    """What an installer said."""


def write_pins(recorded: Environment, place: Path) -> Path:
    """Write an environment's packages but everloop as requirements."""
    place.write_text("".join(f"{name}=={version}\n" for name, version in recorded.packages if name != _OURS))
    return place


def _install(wanted: Path, folder: Path, *, python: str, log: Path, wheels: Path | None = None) -> str:
    """A virtual environment with exactly the wanted packages; its Python."""
    made = folder / "bin" / "python"
    source = () if wheels is None else ("--no-index", "--find-links", str(wheels))
    if (uv := shutil.which("uv")) is not None:
        run_installer(log, uv, "venv", "--python", python, str(folder))
        run_installer(
            log, uv, "pip", "install", "--no-deps", *source, "--python", str(made), "-r", str(wanted)
        )
    else:
        run_installer(log, sys.executable, "-m", "venv", str(folder))
        run_installer(log, str(made), "-m", "pip", "install", "--no-deps", *source, "-r", str(wanted))
    return str(made)


def _pins(lock: str, content: bytes) -> list[tuple[str, str]]:
    """Packages and versions of a lock file in the form of requirements.txt."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise Invalid(f"{lock} is no text: {error}. A lock file is made by 'uv pip compile'.") from error
    found = []
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        said = re.sub(r"(^|\s)#.*", "", line).strip()
        said = re.sub(r"\s--hash[= ]\S+", "", said)
        if not said or said.startswith(_OPTIONS):
            continue
        pin = _PIN.fullmatch(said)
        if pin is None:
            raise Invalid(
                f"{lock} has the line {said!r}; a lock names each package with one version, as in torch==2.9.0, and nothing "
                "else. Make it with 'uv pip compile requirements.in -o FILE' or 'pip freeze'."
            )
        found.append((normal_name(pin.group(1)), pin.group(2) or pin.group(3)))
    if not found:
        raise Invalid(
            f"{lock} names no package; an environment of a step's own has some. Make it with 'uv pip compile requirements.in "
            "-o FILE'."
        )
    return found


def _needed() -> list[tuple[str, str]]:
    """What everloop needs and what that needs, as far as it is installed here, with versions; without everloop."""
    here = dict(installed().packages)
    found: set[str] = set()
    waiting = [_OURS]
    while waiting:
        for said in metadata.requires(waiting.pop()) or ():
            name = normal_name(re.split(r"[^A-Za-z0-9._-]", said, maxsplit=1)[0])
            if "extra ==" not in said and name in here and name not in found:
                found.add(name)
                waiting.append(name)
    return sorted((name, here[name]) for name in found)


def check_buildable(recorded: Environment) -> None:
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


def run_installer(log: Path, *command: str) -> None:
    """Run an installer with its output added to `log`; raise Refused with its last words."""
    begin = log.stat().st_size if log.exists() else 0
    with log.open("ab") as printed:
        done = subprocess.run(command, stdout=printed, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        with log.open("rb") as file:
            file.seek(begin)
            lines = file.read().decode(errors="replace").strip().splitlines()
        raise Refused(f"{Path(command[0]).name} {command[1]} says\n" + "\n".join(lines[-_TOLD_LINES:]))


def _link(folder: Path, names: list[str]) -> None:
    """Let an environment import packages from here, and find their versions; those that it has already it keeps."""
    (libraries,) = folder.glob("lib/python*/site-packages")
    has = {normal_name(str(one.metadata["Name"])) for one in metadata.distributions(path=[str(libraries)])}
    for name in names:
        if name not in has:
            for file in _top_level(name):
                _link_into(libraries, file)


def _top_level(name: str) -> Iterator[Path]:
    """The files and folders that a package has side by side with those of others."""
    found = metadata.distribution(name)
    base = Path(str(found.locate_file("")))
    tops = {base / file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
    yield from sorted(top for top in tops if top.suffix != ".pth")
    if name == _OURS:  # it may be installed from a checkout
        yield Path(everloop.__file__).parent


def _link_into(folder: Path, source: Path) -> None:
    target = folder / source.name
    if not target.exists():
        target.symlink_to(source, target_is_directory=source.is_dir())
    elif target.is_dir() and not target.is_symlink() and source.is_dir():  # a folder that packages share
        for inner in sorted(source.iterdir()):
            _link_into(target, inner)
