"""What code is run: the project's files by content, the git commit they are based on and the difference to it."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from blake3 import blake3

from everloop.errors import Invalid, NotFound, NotReady
from everloop.storage import to_json
from everloop.tracking import store
from everloop.tracking.records import Code
from everloop.workspace import Workspace

# What a project's own code is made of. Not its configuration: that is where secrets are.
_SUFFIXES = (".py", ".sql", ".golden.json")
_MAX_FILES = 5_000
_MAX_DIFF_BYTES = 5_000_000  # beyond that somebody keeps data in git; the list of files is kept instead
_GIT_TIMEOUT_S = 60


def capture_code(ws: Workspace, root: Path, files: Iterable[Path] | None = None) -> Code:
    """Record a project's code by content; one row per content, its files and its diff as blobs.

    Parameters
    ----------
    root
        The project's folder, where the loop file is. Of a git repository only what is below it counts.
    files
        Files below `root`; None: all .py, .sql and .golden.json files there that git does not ignore, or, outside git, all but
        those in hidden folders, virtual environments and the workspace.

    Raises
    ------
    Invalid
        A file is not below `root` or not there, or the folder holds more than 5,000 source files.
    NotReady
        git does not answer within a minute.
    """
    root = root.resolve()
    if not root.is_dir():
        raise Invalid(
            f"{root} is no folder; code is captured from the project's folder. Name an existing one."
        )
    state = _git_state(root)
    chosen = _below(root, files) if files is not None else _source_files(ws, root, state)
    if len(chosen) > _MAX_FILES:
        raise Invalid(
            f"{root} holds more than {_MAX_FILES} source files; a project has fewer, all below the folder of "
            "its loop file. Give the loop file a folder of its own."
        )
    kept = {path: ws.blobs.put_file(root / path) for path in chosen}
    diff = ws.blobs.put(state.diff) if state.diff else None
    is_dirty = bool(state.diff) or (state.commit is not None and not state.tracked.issuperset(chosen))
    identity = to_json({"commit": state.commit, "folder": state.folder, "diff": diff, "files": kept})
    digest = blake3(identity.encode()).hexdigest()
    found = Code(digest, state.commit, is_dirty, diff, state.folder, kept, state.problem)
    with ws.read() as connection:
        is_known = store.has_code(connection, digest)
    if not is_known:
        ws.write(lambda tx: store.put_code(tx, found))
    return found


def code(ws: Workspace, digest: str) -> Code:
    """Captured code. Raises NotFound."""
    with ws.read() as connection:
        found = store.code_by_digest(connection, digest)
    if found is None:
        raise NotFound(f"no code {digest!r} was captured here. A run names its own: 'everloop runs show'.")
    return found


def check_out(ws: Workspace, digest: str, folder: Path) -> Path:
    """Write captured files into `folder`, whole or not at all, and return it; nothing happens when it is there.

    The name of `folder` should hold the digest: what is in a folder that is there already is not looked at.
    """
    if folder.exists():
        return folder
    found = code(ws, digest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    half_done = folder.with_name(f".{folder.name[:40]}-{secrets.token_hex(8)}")
    try:
        half_done.mkdir()
        for path, blob in found.files.items():
            place = half_done / path
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ws.blobs.path(blob), place)
        try:
            half_done.rename(folder)
        except OSError:
            if not folder.exists():  # else somebody else was quicker, with the same files
                raise
    finally:
        shutil.rmtree(half_done, ignore_errors=True)
    return folder


@dataclass(frozen=True)
class _GitState:
    """What git says of a folder. Paths are relative to it; `tracked` is what the commit or the index knows."""

    commit: str | None = None
    folder: str | None = None
    diff: bytes = b""
    tracked: frozenset[str] = frozenset()
    untracked: frozenset[str] = frozenset()
    problem: str | None = None


def _git_state(root: Path) -> _GitState:
    if not any((folder / ".git").exists() for folder in (root, *root.parents)):
        return _GitState()
    git = shutil.which("git")
    if git is None:
        return _GitState(problem="git is not installed")
    inside = _run_git(git, root, "rev-parse", "--show-prefix")
    if inside.returncode != 0:
        told = inside.stderr.decode(errors="replace").strip().splitlines()
        return _GitState(problem=told[0] if told else f"git ended with {inside.returncode}")
    tracked = _listed(git, root, "--cached")
    untracked = _listed(git, root, "--others", "--exclude-standard")
    folder = os.fsdecode(inside.stdout).rstrip("\n").rstrip("/") or "."
    commit = _run_git(git, root, "rev-parse", "--verify", "--quiet", "HEAD").stdout.decode().strip() or None
    diff = _diff(git, root) if commit else b""
    return _GitState(commit, folder, diff, tracked, untracked)


def _diff(git: str, root: Path) -> bytes:
    """What differs below `root` between the commit and the files as they are, in one form whatever the user's settings."""
    plain = ("--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--relative")
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
    diff = _run_git(git, root, "diff", "HEAD", *plain, *prefixes).stdout
    if len(diff) > _MAX_DIFF_BYTES:
        return _run_git(git, root, "diff", "HEAD", "--stat=200", *plain).stdout
    return diff


def _listed(git: str, root: Path, *which: str) -> frozenset[str]:
    names = _run_git(git, root, "ls-files", "-z", *which).stdout
    return frozenset(os.fsdecode(name) for name in names.split(b"\0") if name)


def _run_git(git: str, root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    # No lock is taken beside a user who commits at the same time, and no file-watching daemon is started.
    quiet = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-C", str(root))
    try:
        return subprocess.run([git, *quiet, *words], capture_output=True, check=False, timeout=_GIT_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise NotReady(
            f"git {words[0]} in {root} took more than {_GIT_TIMEOUT_S} s. Run it by hand to see why, then try again."
        ) from error


def _below(root: Path, files: Iterable[Path]) -> list[str]:
    chosen = set()
    for file in files:
        place = (root / file).absolute()
        if ".." in place.parts or not place.is_relative_to(root) or not place.is_file():
            raise Invalid(
                f"{file} is not a file below {root}; the code of a project is in one folder. Move it there, or capture "
                "from a folder above both."
            )
        chosen.add(_name(place, root))
    return sorted(chosen)


def _source_files(ws: Workspace, root: Path, state: _GitState) -> list[str]:
    known = (name for name in state.tracked | state.untracked if name.endswith(_SUFFIXES))
    chosen = [name for name in known if (root / name).is_file()]
    if not chosen:  # no repository, or the project is in a folder that git ignores
        chosen = list(islice(_walked(root, ws.home.resolve()), _MAX_FILES + 1))
    return sorted(_name(root / name, root) for name in chosen)


def _walked(root: Path, home: Path) -> Iterator[str]:
    """Source files below a folder that git does not know."""
    for place, folders, names in os.walk(root):
        folders[:] = [name for name in folders if _is_searched(Path(place, name), home)]
        for name in names:
            if name.endswith(_SUFFIXES) and not name.startswith("."):
                yield Path(place, name).relative_to(root).as_posix()


def _is_searched(folder: Path, home: Path) -> bool:
    is_hidden = folder.name.startswith(".") or folder.name in ("__pycache__", "node_modules")
    return not is_hidden and folder != home and not (folder / "pyvenv.cfg").exists()


def _name(place: Path, root: Path) -> str:
    name = place.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Invalid(
            f"the name of {name!r} is not UTF-8; a captured file's name is. Rename the file."
        ) from error
    return name
