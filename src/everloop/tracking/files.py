"""The files of a run: named by a path, kept as blobs."""

from __future__ import annotations

from pathlib import Path

from everloop.errors import Invalid, NotFound
from everloop.storage import Tx
from everloop.tracking import store
from everloop.tracking.lifecycle import need_run, unknown_run
from everloop.tracking.records import Artifact
from everloop.workspace import Workspace

_PATH_LENGTH = 500


def log_artifact(ws: Workspace, run_id: str, path: str, source: Path | bytes) -> Artifact:
    """Keep a file with a run under `path`, replacing the one that was there.

    The content is a blob before the run names it, so a failure in between leaves a blob that nothing names.

    Raises
    ------
    Invalid
        The path could leave the run's folder, or the source is not a file.
    NotFound
        There is no such run.
    """
    return _keep(ws, run_id, {path: source})[0]


def log_artifacts(ws: Workspace, run_id: str, path: str, folder: Path) -> list[Artifact]:
    """Keep all files of a folder with a run, below `path` (empty: at the top), in one transaction.

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
    return _keep(ws, run_id, sources) if sources else []


def artifacts(ws: Workspace, run_id: str, *, below: str = "") -> list[Artifact]:
    """The files of a run in order of their paths; with `below`, those in that folder. Raises NotFound."""
    with ws.read() as connection:
        if not store.has_run(connection, run_id):
            raise unknown_run(run_id)
        return store.artifacts_below(connection, run_id, f"{below.rstrip('/')}/" if below else "")


def read_artifact(ws: Workspace, run_id: str, path: str) -> bytes:
    """The content of one file of a run. Raises NotFound."""
    with ws.read() as connection:
        found = store.artifact_at(connection, run_id, path)
    if found is None:
        raise NotFound(f"run {run_id} has no file {path!r}. 'everloop runs show {run_id}' lists its files.")
    return ws.blobs.get(found.digest)


def _keep(ws: Workspace, run_id: str, sources: dict[str, Path | bytes]) -> list[Artifact]:
    for path in sources:
        check_path(path)
    with ws.read() as connection:  # before the blobs are written, which may be large
        if not store.has_run(connection, run_id):
            raise unknown_run(run_id)
    kept = [_stored(ws, path, source) for path, source in sources.items()]

    def change(tx: Tx) -> None:
        need_run(tx, run_id)
        store.put_artifacts(tx, run_id, kept)

    ws.write(change)
    return kept


def _stored(ws: Workspace, path: str, source: Path | bytes) -> Artifact:
    if isinstance(source, bytes):
        return Artifact(path, ws.blobs.put(source), len(source), ws.now())
    if not source.is_file():
        raise Invalid(f"{source} is no file. Name an existing file, or use log_artifacts for a folder.")
    return Artifact(path, ws.blobs.put_file(source), source.stat().st_size, ws.now())


def check_path(path: str) -> None:
    """Refuse what could mean another place than below the run when it is written out as files."""
    parts = path.split("/")
    is_plain = path.isprintable() and "\\" not in path and len(path) <= _PATH_LENGTH
    if not is_plain or any(part in ("", ".", "..") for part in parts) or parts[0].endswith(":"):
        raise Invalid(
            f"{path[:60]!r} cannot be a file's path in a run: names joined by '/', without '.', '..' or a leading '/', "
            f"up to {_PATH_LENGTH} printable characters. Choose another path."
        )
