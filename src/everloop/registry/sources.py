"""Where an MLflow client says that a model's files are, and the copy of them that a version is made of.

A source is text from outside, so it is taken apart before anything is looked up: only places that everloop itself keeps,
or a folder below the artifact root of the settings, mean anything, and no spelling leads anywhere else. The copy is
taken once, file by file into blobs: what happens at the source later changes no version.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from everloop import tracking
from everloop.errors import Invalid, NotFound
from everloop.registry.find import need_version
from everloop.registry.records import ModelVersion
from everloop.registry.register import Said, register
from everloop.workspace import Workspace

_LENGTH = 2_000
_MOST_FILES = 10_000
# by scheme, each a whole path
_PLACES = (
    ("runs", re.compile(r"/?(?P<run>[0-9a-f]{32})(?:/(?P<path>.+))?")),
    ("mlflow-artifacts", re.compile(r"/[0-9]+/(?P<run>[0-9a-f]{32})/artifacts(?:/(?P<path>.+))?")),
    (
        "mlflow-artifacts",
        re.compile(r"/[0-9]+/models/(?P<model>m-[0-9a-f]{32})/artifacts(?:/(?P<path>.+))?"),
    ),
    ("mlflow-artifacts", re.compile(r"/versions/(?P<name>[^/]+)/(?P<number>[0-9]{1,9})")),
    ("models", re.compile(r"/?(?P<model>m-[0-9a-f]{32})")),
    ("models", re.compile(r"/?(?P<name>[^/@]+)(?:/(?P<number>[0-9]{1,9})|@(?P<alias>[^/@]+))")),
)
_TOLD = (
    "A source is runs:/RUN/PATH, mlflow-artifacts:/EXPERIMENT/RUN/artifacts/PATH, models:/NAME/VERSION, models:/m-ID, or a "
    "folder below the artifact root of the settings."
)


@dataclass(frozen=True)
class RunFiles:
    """Files of a run below a path, or all of them."""

    run: str
    path: str = ""


@dataclass(frozen=True)
class LoggedModel:
    """The files of a model that a client logged, below a path or all of them."""

    id: str
    path: str = ""


@dataclass(frozen=True)
class VersionFiles:
    """The files of a version that is registered already."""

    ref: str


@dataclass(frozen=True)
class Folder:
    """A folder below the artifact root, by its path there."""

    path: PurePosixPath


Source = RunFiles | LoggedModel | VersionFiles | Folder


def register_source(
    ws: Workspace,
    name: str,
    source: str,
    *,
    run: str | None = None,
    logged_model: str | None = None,
    run_link: str | None = None,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> ModelVersion:
    """Register what is at a source, as it is now, as the next version of a model; a copy of a version keeps its lineage.

    Where no run is named it is the source's, or the one that logged the model.

    Raises
    ------
    Invalid
        The source is none that is allowed, or holds links.
    NotFound
        There is no such model, run or version.
    """
    root = artifact_root(ws)
    place = parse_source(source, root=root)
    files = snapshot(ws, place, root=root)
    logged_model = logged_model or (place.id if isinstance(place, LoggedModel) else None)
    made_by = run or (place.run if isinstance(place, RunFiles) else _run_of(ws, logged_model))
    known = None if made_by is None else tracking.run(ws, made_by)
    said = Said(
        source=source,
        logged_model=logged_model,
        run_link=run_link,
        description=description,
        tags=tags or {},
    )
    if isinstance(place, VersionFiles):
        with ws.read() as connection:
            original = need_version(connection, place.ref)
        return _copy(ws, name, original, said)
    return register(
        ws,
        name,
        run=made_by,
        files=files,
        signature=None,
        metrics={} if known is None else known.metrics,
        code=None if known is None else known.code,
        environment=None if known is None else known.environment,
        said=said,
    )


def _run_of(ws: Workspace, logged_model: str | None) -> str | None:
    if logged_model is None:
        return None
    try:
        return tracking.logged_model(ws, logged_model, or_deleted=True).run
    except NotFound:  # a client may name one that it logged elsewhere
        return None


def _copy(ws: Workspace, name: str, version: ModelVersion, said: Said) -> ModelVersion:
    return register(
        ws,
        name,
        run=version.run,
        files=version.files,
        signature=version.signature,
        metrics=version.metrics,
        data_version=version.data_version,
        label_snapshot=version.label_snapshot,
        code=version.code,
        environment=version.environment,
        features=version.features,
        said=said,
    )


def parse_source(text: str, *, root: Path | None = None) -> Source:
    """What a source means. `root` is the folder of artifacts that clients write themselves, if there is one.

    Raises Invalid for everything that is not plainly one of the places that are known.
    """
    _check_spelling(text)
    scheme, separator, rest = text.partition(":")
    if not separator and text.startswith("/"):
        return _below(text, text, root)
    if scheme == "file":
        return _below(text, unquote(_without_host(text, rest)), root)
    for known, pattern in _PLACES:
        if separator and known == scheme and (found := pattern.fullmatch(_without_host(text, rest))):
            return _place(found.groupdict())
    raise _refused(text, "it is none of the places that are known")


def _place(found: Mapping[str, str | None]) -> Source:
    path = found.get("path") or ""
    if run := found.get("run"):
        return RunFiles(f"run_{run}", path)
    if model := found.get("model"):
        return LoggedModel(model, path)
    number = found.get("number")
    return VersionFiles(f"{found['name']}@{int(number) if number else found['alias']}")


def snapshot(ws: Workspace, source: Source, *, root: Path | None = None) -> Mapping[str, str]:
    """The files at a source by their paths below it, each with the digest of a blob; none where nothing is.

    Raises NotFound for an unknown run, model or version, and Invalid for a folder with links in it.
    """
    match source:
        case RunFiles(run, path):
            return _of_owner(ws, run, path)
        case LoggedModel(model, path):
            return _of_owner(ws, model, path)
        case VersionFiles(ref):
            with ws.read() as connection:
                return need_version(connection, ref).files
        case Folder(path):
            if root is None:
                raise _refused(str(path), "there is no artifact root")
            return _of_folder(ws, root, path)


def artifact_root(ws: Workspace) -> Path | None:
    """The folder that the settings name for artifacts which clients write themselves; None where it is no folder."""
    text = ws.settings.artifact_root
    if text.startswith("file:"):
        text = unquote(urlsplit(text).path)
    return Path(text).resolve() if text and "://" not in text else None


def _check_spelling(text: str) -> None:
    if not text or len(text) > _LENGTH:
        raise Invalid(f"the source has {len(text)} characters; it has 1 to {_LENGTH}. {_TOLD}")
    plain = text
    for _ in range(4):  # what is decoded once too often somewhere may be decoded once more
        if not plain.isprintable() or any(sign in plain for sign in "\\?#"):
            raise _refused(text, "it holds a backslash, a query, a fragment or signs that no path has")
        if any(part in (".", "..") for part in re.split(r"[/:]", plain)):
            raise _refused(text, "it holds '.' or '..', which could lead out of its folder")
        plain = unquote(plain)


def _without_host(text: str, rest: str) -> str:
    """What follows a scheme: `PATH`, `/PATH` or `///PATH`, without the slashes before it but one."""
    if not rest.startswith("//"):
        return rest
    if not rest.startswith("///") or rest.startswith("////"):
        raise _refused(text, "it names another machine")
    return rest[2:]


def _below(text: str, path: str, root: Path | None) -> Folder:
    if root is None:
        raise _refused(
            text, "it is a path of the server's disk, and no artifact root is set that it could be below"
        )
    if unquote(path) != path or not path.startswith("/") or "//" in path:
        raise _refused(text, "it is no plain absolute path")
    wanted = PurePosixPath(path)
    if not wanted.is_relative_to(PurePosixPath(root)) or wanted == PurePosixPath(root):
        raise _refused(text, "it is a path of the server's disk that is not below the artifact root")
    return Folder(wanted.relative_to(PurePosixPath(root)))


def _refused(text: str, why: str) -> Invalid:
    return Invalid(f"the source {text[:120]!r} is refused: {why}. {_TOLD}")


def _of_owner(ws: Workspace, owner: str, path: str) -> Mapping[str, str]:
    """The files of a run or of a logged model below a path, or the one that it names."""
    found = tracking.gathered(ws, owner, below=path)
    start = len(path.rstrip("/")) + 1 if path else 0
    if not found and path:
        found = [one for one in tracking.gathered(ws, owner) if one.path == path]
        start = len(path) - len(PurePosixPath(path).name)
    return {one.path[start:]: one.digest for one in found}


def _of_folder(ws: Workspace, root: Path, path: PurePosixPath) -> Mapping[str, str]:
    """The files of a folder, each opened from its parent's descriptor: a link put there meanwhile is not followed."""
    files: dict[str, str] = {}
    top = _open_folder(root, path)
    if top is None:
        return files
    try:
        for name, descriptor in _files_of(top, PurePosixPath()):
            try:
                files[name] = _kept(ws, descriptor)
            finally:
                os.close(descriptor)
            if len(files) > _MOST_FILES:
                raise Invalid(
                    f"{path} holds more than {_MOST_FILES} files; a model has fewer. Name its own folder."
                )
    finally:
        os.close(top)
    return files


def _open_folder(root: Path, path: PurePosixPath) -> int | None:
    """A folder below the root, reached part by part without following a link; None where there is none."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    for part in path.parts:
        try:
            below = os.open(part, flags, dir_fd=descriptor)
        except FileNotFoundError:
            return None
        except OSError as error:  # a link, or a file where a folder is meant
            raise Invalid(
                f"{path} leads over {part!r}, which is no folder of its own ({error.strerror}); links are not followed. "
                "Register a folder that holds the model's files."
            ) from error
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor


def _files_of(folder: int, path: PurePosixPath) -> Iterator[tuple[str, int]]:
    """Each file below an open folder with its path and a descriptor of it, which the caller closes."""
    for name in sorted(os.listdir(folder)):
        kind = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        flags = os.O_RDONLY | os.O_NOFOLLOW | (os.O_DIRECTORY if stat.S_ISDIR(kind) else os.O_NONBLOCK)
        if not stat.S_ISDIR(kind) and not stat.S_ISREG(kind):
            raise Invalid(
                f"{path / name} is a link or no plain file; a version is a copy of plain files. Put the file itself there."
            )
        descriptor = os.open(name, flags, dir_fd=folder)
        if not stat.S_ISDIR(kind):
            yield str(path / name), descriptor
            continue
        try:
            yield from _files_of(descriptor, path / name)
        finally:
            os.close(descriptor)


def _kept(ws: Workspace, descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    if size == 0:
        return ws.blobs.put(b"")
    with mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) as content, memoryview(content) as view:
        return ws.blobs.put(view)
