"""MLflow's calls for files: the artifact proxy, and the lists and downloads of runs, logged models and versions.

A place of the proxy is what follows `mlflow-artifacts:/` in the URIs that clients are told:
`EXPERIMENT/RUN/artifacts/PATH`, `EXPERIMENT/models/MODEL/artifacts/PATH`, and `versions/NAME/NUMBER/PATH`, which is a
registered version's and cannot be written. Files are sent as attachments of a type that no browser runs, whole or from
where a download was cut off.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, NotRequired, TypedDict
from urllib.parse import quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from everloop import clock, registry, tracking
from everloop.api.mlflow.protocol import MlflowRoute
from everloop.api.mlflow.runs import One, key_of
from everloop.api.routes import Call
from everloop.errors import Denied, Invalid, NotFound, StorageFailed
from everloop.tracking import Artifact, Entry
from everloop.workspace import Workspace

_CHUNK_BYTES = (
    1 << 20
)  # of a body that is held at once: a smaller one never touches the disk on its way to the blobs
_LEFT_S = 86_400  # after which a file of an upload is one that a killed process left
_VERSIONS = "versions/"
# What a browser may know a file as: everything else that is text is plain text, and the rest is bytes.
_PLAIN_TYPES = frozenset(
    {"application/json", "application/pdf", "image/gif", "image/jpeg", "image/png", "image/webp", "text/csv"}
)
_READABLE = (".yaml", ".yml", ".toml", ".log", ".md", ".py", ".sql", ".jsonl", ".lock", "MLmodel")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Place(msgspec.Struct):
    path: str


class PlaceOrNone(msgspec.Struct):
    path: str = ""


class Listed(One, kw_only=True):
    path: str = ""


class OfRun(One, kw_only=True):
    path: str


class OfVersion(msgspec.Struct):
    name: str
    version: str
    path: str


class OfModel(msgspec.Struct):
    model_id: str
    artifact_file_path: str


class FolderOfModel(msgspec.Struct):
    model_id: str
    artifact_directory_path: str = ""


class EntryForm(TypedDict):
    """A file or a folder in the protocol's form."""

    path: str
    is_dir: bool
    file_size: NotRequired[int]


class Files(TypedDict):
    files: list[EntryForm]


class FilesBelow(Files):
    root_uri: str


def download(call: Call, asked: Place) -> Response:
    """Send a file of the artifact proxy."""
    if asked.path.startswith(_VERSIONS):
        return _sent(call, _open_of_version(call.ws, *_version_at(asked.path)), asked.path)
    return _sent(call, tracking.open_artifact(call.ws, *tracking.owner_at(call.ws, asked.path)), asked.path)


async def upload(call: Call, request: Request) -> Response:
    """Keep a file that the body holds."""
    owner, path = await run_in_threadpool(writable, call.ws, call.path["path"])
    try:
        async with received(call.ws, request) as source:
            await run_in_threadpool(tracking.log_artifact, call.ws, owner, path, source)
    except ClientDisconnect:
        return Response(status_code=400)  # for the log: nobody reads it
    return Response(b"{}", media_type="application/json")


def remove(call: Call, asked: Place) -> None:
    """Remove a file, or a folder with all that is in it."""
    owner, path = writable(call.ws, asked.path, may_be_all=True)
    tracking.remove_artifacts(call.ws, owner, path)


def browse(call: Call, asked: PlaceOrNone) -> Files:
    """What is in a folder of the artifact proxy, by its names there."""
    if asked.path.startswith(_VERSIONS):
        ref, folder = _version_at(asked.path)
        entries = tracking.entries_of(_files_below(call.ws, ref, folder), folder)
    else:
        entries = tracking.artifact_entries(call.ws, *tracking.owner_at(call.ws, asked.path))
    return {"files": _shown([one._replace(path=one.path.rpartition("/")[2]) for one in entries])}


def list_of_run(call: Call, asked: Listed) -> FilesBelow:
    """What is in a folder of a run's files, by its paths there."""
    return _listed(call.ws, key_of(asked), asked.path)


def list_of_model(call: Call, asked: FolderOfModel) -> FilesBelow:
    """What is in a folder of a logged model's files, by its paths there."""
    return _listed(call.ws, asked.model_id, asked.artifact_directory_path)


def file_of_run(call: Call, asked: OfRun) -> Response:
    """Send a file of a run, as MLflow's pages ask for it."""
    return _sent(call, tracking.open_artifact(call.ws, key_of(asked), asked.path), asked.path)


def file_of_model(call: Call, asked: OfModel) -> Response:
    """Send a file of a logged model, as MLflow's pages ask for it."""
    file = tracking.open_artifact(call.ws, asked.model_id, asked.artifact_file_path)
    return _sent(call, file, asked.artifact_file_path)


def file_of_version(call: Call, asked: OfVersion) -> Response:
    """Send a file of a registered version, as MLflow's pages ask for it."""
    ref = _ref(asked.name, asked.version)
    return _sent(call, _open_of_version(call.ws, ref, asked.path), asked.path)


def writable(ws: Workspace, place: str, *, may_be_all: bool = False) -> tuple[str, str]:
    """The owner of a place that may be written, and the path there."""
    if place.startswith(_VERSIONS):
        raise Denied(
            f"{place[:120]!r} is a file of a registered version, which never changes. Log the model anew and register it."
        )
    owner, path = tracking.owner_at(ws, place)
    path = path.rstrip("/")
    if path or not may_be_all:
        tracking.check_path(path)
    return owner, path


@asynccontextmanager
async def received(ws: Workspace, request: Request) -> AsyncIterator[Path | bytes]:
    """A request's whole body: in memory when it is small, else in a file of the home that is gone afterwards.

    Raises Invalid for one that is too large or stops coming, StorageFailed when the disk refuses.
    """
    idle_s, most = ws.settings.upload_idle_s, ws.settings.artifact_max_mb * 1_000_000
    told = request.headers.get("content-length", "0")
    check_size(int(told) if told.isdigit() else 0, most)
    body = _Body(ws.home)
    try:
        async with asyncio.timeout(idle_s) as patience:
            async for chunk in request.stream():
                patience.reschedule(asyncio.get_running_loop().time() + idle_s)
                await body.take(chunk)
                check_size(body.size, most)
        yield await body.whole()
    except TimeoutError as error:
        raise Invalid(
            f"nothing came of the file for {idle_s} seconds, and nothing is kept of it. Send it again, or set upload_idle_s."
        ) from error
    except OSError as error:
        raise StorageFailed(
            f"the upload could not be written below {ws.home}: {error.strerror or error}. Nothing is kept of it. Free space, "
            "then send it again."
        ) from error
    finally:
        body.close()


class _Body:
    """What came of a body so far: in memory, from some size on in a temporary file of the home."""

    def __init__(self, home: Path) -> None:
        self.size = 0
        self._home = home
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._file: IO[bytes] | None = None

    async def take(self, chunk: bytes) -> None:
        self._held.append(chunk)
        self.size += len(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes > _CHUNK_BYTES:
            if self._file is None:
                self._file = await run_in_threadpool(_temporary, self._home)
            await run_in_threadpool(self._file.writelines, self._held)
            self._held, self._held_bytes = [], 0

    async def whole(self) -> Path | bytes:
        if self._file is None:
            return b"".join(self._held)
        await run_in_threadpool(_finish, self._file, self._held)
        return Path(self._file.name)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _temporary(home: Path) -> IO[bytes]:
    folder = home / "uploads"
    folder.mkdir(exist_ok=True)
    for left in folder.iterdir():
        with suppress(FileNotFoundError):
            if clock.wall().timestamp() - left.stat().st_mtime > _LEFT_S:
                left.unlink()
    return tempfile.NamedTemporaryFile(dir=folder, buffering=0)  # its block ends with the request's


def _finish(file: IO[bytes], rest: Sequence[bytes]) -> None:
    file.writelines(rest)
    file.flush()


def check_size(size: int, most: int) -> None:
    if size > most:
        raise Invalid(
            f"the file has more than {most // 1_000_000:,} MB, which is the most. Keep it elsewhere and log where, or set "
            "artifact_max_mb in settings.toml."
        )


def _sent(call: Call, file: BinaryIO, path: str) -> Response:
    """The answer that carries a file, or the one range of it that is asked for; it closes it."""
    about = os.fstat(file.fileno())
    # a file that is replaced is another one, written at another time
    tag = f'"{about.st_mtime_ns:x}-{about.st_size:x}"'
    part = _part(call.headers, about.st_size, tag)
    wanted = range(about.st_size) if part is None else part
    name = path.rpartition("/")[2]
    headers = {
        **_SAFE_HEADERS,
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Content-Length": str(len(wanted)),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }
    status = 200
    if part is not None:
        status = 206 if wanted else 416
        span = f"{wanted.start}-{wanted.stop - 1}" if wanted else "*"
        headers["Content-Range"] = f"bytes {span}/{about.st_size}"
    file.seek(wanted.start)
    if len(wanted) > _CHUNK_BYTES:
        return StreamingResponse(
            _chunks(file, len(wanted)), status_code=status, headers=headers, media_type=_type_of(name)
        )
    with file:
        content = file.read(len(wanted))
    return Response(content, status_code=status, headers=headers, media_type=_type_of(name))


def _part(headers: Mapping[str, str], size: int, tag: str) -> range | None:
    """The bytes of a file that a request asks for, none if they are beyond its end; None: the whole file.

    Several ranges, other units and what is no range are answered with the whole file, as RFC 9110 (14.2) allows; so is a
    range of a file that `If-Range` names as it was before.
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or headers.get("if-range", tag) != tag:
        return None
    first, last = (int(text) if text else None for text in match.groups())
    if first is None:
        return None if last is None else range(max(0, size - last), size)
    if last is not None and last < first:
        return None
    return range(first, size if last is None else min(last + 1, size)) if first < size else range(0)


def _chunks(file: BinaryIO, size: int) -> Iterator[bytes]:
    with file:
        while size and (chunk := file.read(min(size, _CHUNK_BYTES))):
            size -= len(chunk)
            yield chunk


def _type_of(name: str) -> str:
    known = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if known in _PLAIN_TYPES:
        return known
    is_text = known.startswith("text/") or known.endswith(("xml", "javascript")) or name.endswith(_READABLE)
    return "text/plain" if is_text else "application/octet-stream"


def _listed(ws: Workspace, owner: str, folder: str) -> FilesBelow:
    entries = tracking.artifact_entries(ws, owner, folder)
    return {"root_uri": tracking.artifact_uri(ws, owner), "files": _shown(entries)}


def _shown(entries: Sequence[Entry]) -> list[EntryForm]:
    return [
        {"path": one.path, "is_dir": True}
        if one.size_bytes is None
        else {"path": one.path, "is_dir": False, "file_size": one.size_bytes}
        for one in entries
    ]


def _version_at(place: str) -> tuple[str, str]:
    """The version that a place of the proxy belongs to, and the path there."""
    name, _, rest = place.removeprefix(_VERSIONS).partition("/")
    number, _, path = rest.partition("/")
    return _ref(name, number), path.rstrip("/")


def _ref(name: str, number: str) -> str:
    if (
        not name.isprintable()
        or "@" in name
        or not (number.isascii() and number.isdigit() and len(number) < 10)
    ):
        raise NotFound(
            f"{name[:60]!r} version {number[:20]!r} is no registered version. Its place is versions/NAME/NUMBER/PATH."
        )
    return f"{name}@{int(number)}"


def _open_of_version(ws: Workspace, ref: str, path: str) -> BinaryIO:
    digest = registry.version(ws, ref).files.get(path)
    if digest is None:
        raise NotFound(
            f"version {ref} has no file {path[:120]!r}. List the folder above it to see what there is."
        )
    return ws.blobs.path(digest).open("rb")


def _files_below(ws: Workspace, ref: str, folder: str) -> list[Artifact]:
    version = registry.version(ws, ref)
    prefix = f"{folder}/" if folder else ""
    return [
        Artifact(path, digest, ws.blobs.path(digest).stat().st_size, version.created_at)
        for path, digest in sorted(version.files.items())
        if path.startswith(prefix)
    ]


_PROXY = "mlflow-artifacts/artifacts"
ROUTES = [
    MlflowRoute("GET", f"{_PROXY}/{{path:path}}", "see", download, Place),
    MlflowRoute("PUT", f"{_PROXY}/{{path:path}}", "run", stream=upload),
    MlflowRoute("DELETE", f"{_PROXY}/{{path:path}}", "run", remove, Place),
    MlflowRoute("GET", _PROXY, "see", browse, PlaceOrNone),
    MlflowRoute("GET", "mlflow/artifacts/list", "see", list_of_run, Listed),
    MlflowRoute(
        "GET", "mlflow/logged-models/{model_id}/artifacts/directories", "see", list_of_model, FolderOfModel
    ),
    MlflowRoute("GET", "mlflow/logged-models/{model_id}/artifacts/files", "see", file_of_model, OfModel),
    MlflowRoute("GET", "get-artifact", "see", file_of_run, OfRun, version=None),
    MlflowRoute("GET", "model-versions/get-artifact", "see", file_of_version, OfVersion, version=None),
]
