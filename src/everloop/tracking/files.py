"""The files of a run, a logged model or a trace: named by a path and kept as blobs, or written by their client below a root.

An *owner* is a run's id (`run_...`), a logged model's (`m-...`) or a trace's (`tr-...`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from everloop.errors import Conflict, Invalid, NotFound
from everloop.storage import Tx
from everloop.tracking import file_store, folders
from everloop.tracking.lifecycle import need_run, unknown_run
from everloop.tracking.logged_models import need_model, unknown_model
from everloop.tracking.places import uri_at
from everloop.tracking.records import Artifact, Entry, Keeping, OwnerKind, owner_kind
from everloop.tracking.traces import need_trace, unknown_trace
from everloop.workspace import Workspace

_PATH_LENGTH = 500
_DRIVE = re.compile(r"[A-Za-z]:")
_ARTIFACTS = "artifacts"  # what the folder of an owner's files is called
_DEEPEST_ROOT = 12  # parts of an experiment's own place


def log_artifact(ws: Workspace, owner: str, path: str, source: Path | bytes) -> Artifact:
    """Keep a file with a run or a logged model under `path`, replacing the one that was there.

    The content is a blob before the owner names it, so a failure in between leaves a blob that nothing names.

    Raises
    ------
    Invalid
        The path could leave the owner's folder, or is a folder's; the source is not a file.
    NotFound
        There is no such owner.
    Conflict
        It is deleted, or its client keeps its files by itself.
    """
    return _keep(ws, owner, {path: source})[0]


def log_artifacts(ws: Workspace, owner: str, path: str, folder: Path) -> list[Artifact]:
    """Keep all files of a folder with an owner, below `path` (empty: at the top), in one transaction.

    Raises as `log_artifact`; a symbolic link in the folder is Invalid, since it may lead anywhere.
    """
    if not folder.is_dir():
        raise Invalid(f"{folder} is no folder. Name an existing folder, or use log_artifact for one file.")
    sources: dict[str, Path | bytes] = {}
    for file in sorted(folder.rglob("*")):
        if file.is_symlink():
            raise Invalid(
                f"{file} is a symbolic link; a run keeps files. Copy what it leads to into the folder."
            )
        if file.is_file():
            below = file.relative_to(folder).as_posix()
            sources[f"{path}/{below}" if path else below] = file
    return _keep(ws, owner, sources) if sources else []


def artifacts(ws: Workspace, owner: str, *, below: str = "") -> list[Artifact]:
    """The files that everloop keeps of an owner, in order of their paths; with `below`, those in that folder.

    Raises NotFound.
    """
    with ws.read() as connection:
        if file_store.keeping(connection, owner) is None:
            raise _unknown(owner)
        return file_store.below(connection, owner, _prefix(below))


def files_of(ws: Workspace, owners: Sequence[str]) -> list[Artifact]:
    """All files that everloop keeps of some owners, deleted ones too."""
    with ws.read() as connection:
        return file_store.of_all(connection, owners)


def gathered(ws: Workspace, owner: str, *, below: str = "") -> list[Artifact]:
    """As `artifacts`, with the files that a client keeps below the artifact root too: they become blobs now.

    Raises as `artifact_entries`.
    """
    found = keeping(ws, owner)
    if found.is_ours:
        return artifacts(ws, owner, below=below)
    uri, settings = str(found.artifact_uri), ws.settings
    taken = []
    for entry in folders.all_files(settings, uri, below.rstrip("/")):
        with folders.open_file(settings, uri, entry.path) as file:
            # the file that was opened, whatever its name means by now
            source = Path(f"/dev/fd/{file.fileno()}")
            taken.append(Artifact(entry.path, ws.blobs.put_file(source), entry.size_bytes or 0, entry.at))
    return taken


def artifact_entries(ws: Workspace, owner: str, folder: str = "") -> list[Entry]:
    """What is in one folder of an owner's files, in order of names; nothing for a folder that is not there.

    Raises
    ------
    NotFound, Invalid
        There is no such owner; the folder's path could lead out of its files.
    Denied
        Its client keeps its files where this server does not read.
    """
    folder = folder.rstrip("/")
    if folder:
        check_path(folder)
    found = keeping(ws, owner)
    if not found.is_ours:
        return folders.entries(ws.settings, str(found.artifact_uri), folder)
    return entries_of(artifacts(ws, owner, below=folder), folder)


def entries_of(files: Iterable[Artifact], folder: str) -> list[Entry]:
    """What is in one folder, of all files in it and below."""
    start = len(_prefix(folder))
    found: dict[str, Entry] = {}
    for file in files:
        name, slash, _ = file.path[start:].partition("/")
        path = file.path[:start] + name
        found.setdefault(path, Entry(path, bool(slash), None if slash else file.size_bytes, file.at))
    return [found[path] for path in sorted(found)]


def open_artifact(ws: Workspace, owner: str, path: str) -> BinaryIO:
    """One file of an owner, open for reading. Raises as `artifact_entries`, and NotFound for an unknown file."""
    check_path(path)
    found = keeping(ws, owner)
    if not found.is_ours:
        return folders.open_file(ws.settings, str(found.artifact_uri), path)
    return _place(ws, owner, path).open("rb")


def read_artifact(ws: Workspace, owner: str, path: str) -> bytes:
    """The content of one file that everloop keeps. Raises NotFound."""
    return _place(ws, owner, path).read_bytes()


def remove_artifacts(ws: Workspace, owner: str, path: str = "") -> None:
    """Remove a file or a folder from an owner's files, all of them for an empty path, wherever they are.

    What a registered version is made of stays: it names the content, not the place. Raises as `open_artifact`, and
    Conflict for an owner that is deleted.
    """
    path = path.rstrip("/")
    if path:
        check_path(path)
    found = keeping(ws, owner)

    def change(tx: Tx) -> None:
        _need(tx, owner)
        if not file_store.remove(tx, owner, path) and path:
            raise _no_file(owner, path)

    if found.is_ours:
        ws.write(change)
    else:
        folders.remove(ws.settings, str(found.artifact_uri), path)


def keeping(ws: Workspace, owner: str) -> Keeping:
    """Where the files of an owner are. Raises NotFound."""
    with ws.read() as connection:
        found = file_store.keeping(connection, owner)
    if found is None:
        raise _unknown(owner)
    return found


def owner_at(ws: Workspace, place: str) -> tuple[str, str]:
    """The run, logged model or trace whose files a place of the artifact proxy is among, and the path there.

    A place is what follows `mlflow-artifacts:/` in the URI that clients are told. Raises NotFound for any other.
    """
    parts = place.strip("/").split("/") if place.isprintable() else []
    with ws.read() as connection:
        for at, part in enumerate(parts[: _DEEPEST_ROOT + 1]):
            if part != _ARTIFACTS or at == 0:
                continue
            above = parts[at - 1]
            owner = f"run_{above}" if owner_kind(above) == "run" else above
            found = file_store.keeping(connection, owner)
            if found is None or not found.is_ours:
                continue
            if urlsplit(uri_at(found, owner)).path.strip("/") == "/".join(parts[: at + 1]):
                return owner, "/".join(parts[at + 1 :])
    raise NotFound(
        f"{place[:200]!r} is no place of the files of a run, a logged model or a trace. Their URI tells the place: "
        "mlflow-artifacts:/EXPERIMENT/RUN/artifacts/PATH"
    )


def artifact_uri(ws: Workspace, owner: str) -> str:
    """Where an owner's files are, as MLflow's clients are told. Raises NotFound."""
    return uri_at(keeping(ws, owner), owner)


def check_path(path: str) -> None:
    """Refuse what could mean another place than below its owner when it is written out as files, or decoded once more.

    Raises Invalid.
    """
    plain = path
    for _ in range(4):
        parts = unicodedata.normalize("NFKC", plain).split("/")
        is_plain = plain.isprintable() and "\ufffd" not in plain and not any("\\" in part for part in parts)
        if (
            not is_plain
            or any(part in ("", ".", "..") for part in parts)
            or _DRIVE.match(parts[0])
            or parts[0].endswith(":")
            or len(path) > _PATH_LENGTH
        ):
            raise Invalid(
                f"{path[:60]!r} cannot be a file's path in a run: names joined by '/', without '.', '..' or a leading '/', "
                f"up to {_PATH_LENGTH} printable characters. Choose another path."
            )
        plain = unquote(plain)


def _keep(ws: Workspace, owner: str, sources: dict[str, Path | bytes]) -> list[Artifact]:
    for path in sources:
        check_path(path)
    found = keeping(ws, owner)  # before the blobs are written, which may be large
    if not found.is_ours:
        raise Conflict(
            f"the client of {owner} keeps its files by itself, in {found.artifact_uri}. Write there with the client."
        )
    kept = [_stored(ws, path, source) for path, source in sources.items()]

    def change(tx: Tx) -> None:
        _need(tx, owner)
        file_store.put(tx, owner, kept)

    ws.write(change)
    return kept


def _stored(ws: Workspace, path: str, source: Path | bytes) -> Artifact:
    if isinstance(source, bytes):
        return Artifact(path, ws.blobs.put(source), len(source), ws.now())
    if not source.is_file():
        raise Invalid(f"{source} is no file. Name an existing file, or use log_artifacts for a folder.")
    return Artifact(path, ws.blobs.put_file(source), source.stat().st_size, ws.now())


def _place(ws: Workspace, owner: str, path: str) -> Path:
    with ws.read() as connection:
        found = file_store.at(connection, owner, path)
    if found is None:
        raise _no_file(owner, path)
    return ws.blobs.path(found.digest)


def _prefix(folder: str) -> str:
    return f"{folder.rstrip('/')}/" if folder else ""


def _need(tx: Tx, owner: str) -> None:
    _NEED[owner_kind(owner)](tx, owner)


def _unknown(owner: str) -> NotFound:
    return _UNKNOWN[owner_kind(owner)](owner)


_NEED: dict[OwnerKind, Callable[[Tx, str], object]] = {
    "run": need_run,
    "model": need_model,
    "trace": need_trace,
}
_UNKNOWN: dict[OwnerKind, Callable[[str], NotFound]] = {
    "run": unknown_run,
    "model": unknown_model,
    "trace": unknown_trace,
}


def _no_file(owner: str, path: str) -> NotFound:
    kind = "logged model" if owner_kind(owner) == "model" else owner_kind(owner)
    return NotFound(
        f"{kind} {owner} has no file {path!r}. 'everloop runs show RUN' lists the files of a run and its models."
    )
