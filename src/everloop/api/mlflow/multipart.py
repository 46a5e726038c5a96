"""MLflow's calls for a file that comes in parts: begun, each part sent to the address that was told for it, put together.

Clients send large files so, several parts at once. Parts wait in a folder of the home, and so reach the server that the
upload began at; they are sent with the credentials of who began it, and to nobody else's. What was not put together within a
day is removed when another begins.
"""

from __future__ import annotations

import re
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, TypedDict

import msgspec
from blake3 import blake3
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from everloop import clock, tracking
from everloop.api.mlflow.artifacts import check_size, received, writable
from everloop.api.mlflow.protocol import MlflowRoute
from everloop.api.routes import Call
from everloop.errors import Conflict, Invalid, NotFound, NotReady
from everloop.workspace import Workspace

_MOST_PARTS = 10_000
_MOST_UNDER_WAY = 100
_LEFT_S = 86_400  # after which an upload is one that nobody goes on with
_ID = re.compile(r"[0-9a-f]{32}")
_PIECE_BYTES = 1 << 20


class Begin(msgspec.Struct):
    folder: str
    path: str
    num_parts: int


class Part(msgspec.Struct):
    part_number: int
    etag: str | None = None


class End(msgspec.Struct):
    folder: str
    upload_id: str
    parts: list[Part] = []


class Credential(TypedDict):
    """Where a part goes, and what is sent with it."""

    url: str
    part_number: int
    headers: dict[str, str]


class Begun(TypedDict):
    upload_id: str
    credentials: list[Credential]


class About(msgspec.Struct):
    """What is known of an upload under way."""

    owner: str
    path: str
    actor: str
    num_parts: int


def begin(call: Call, asked: Begin) -> Begun:
    """Begin to take a file in parts, and say where each goes."""
    if not 1 <= asked.num_parts <= _MOST_PARTS:
        raise Invalid(
            f"the file is to come in {asked.num_parts} parts; it is 1 to {_MOST_PARTS:,}. Make the parts larger."
        )
    name = re.split(r"[/\\]", asked.path)[-1]  # clients tell the path on their machine
    if not name:
        raise Invalid(f"{asked.path[:60]!r} names no file. Name the file that comes.")
    owner, path = writable(call.ws, f"{asked.folder}/{name}")
    upload = _begun(call.ws, About(owner, path, call.principal.name, asked.num_parts))
    said = call.headers.get("authorization")
    address = f"{_address(call)}/api/2.0/mlflow-artifacts/mpu/part/{upload}"
    return {
        "upload_id": upload,
        "credentials": [
            {
                "url": f"{address}/{number}",
                "part_number": number,
                "headers": {} if said is None else {"Authorization": said},  # a client sends what it is told
            }
            for number in range(1, asked.num_parts + 1)
        ],
    }


async def part(call: Call, request: Request) -> Response:
    """Keep a part of a file that the body holds."""
    folder, about = await run_in_threadpool(_under_way, call, call.path["upload_id"])
    number = call.path["number"]
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) <= about.num_parts):
        raise Invalid(
            f"the part has the number {number[:20]!r}; this upload has parts 1 to {about.num_parts}. Send it to the address told."
        )
    try:
        async with received(call.ws, request) as source:
            digest = await run_in_threadpool(_keep, call.ws, folder, int(number), source)
    except ClientDisconnect:
        return Response(status_code=400)  # for the log: nobody reads it
    return Response(b"{}", media_type="application/json", headers={"ETag": f'"{digest}"'})


def complete(call: Call, asked: End) -> None:
    """Put the parts of a file together, and keep it."""
    folder, about = _under_way(call, asked.upload_id)
    told = {one.part_number: (one.etag or "").strip('"') for one in asked.parts}
    if sorted(told) != list(range(1, about.num_parts + 1)):
        raise Invalid(
            f"{len(told)} parts are named of an upload of {about.num_parts}; each is named once, by the number that it was sent "
            "under. Send those that are missing, and name them all."
        )
    whole = folder / "whole"
    with whole.open("wb") as file:
        for number in sorted(told):
            if _append(folder / str(number), file) != told[number]:
                raise Invalid(
                    f"part {number} did not come whole, or is not what its ETag says. Send it again."
                )
    tracking.log_artifact(call.ws, about.owner, about.path, whole)
    shutil.rmtree(folder, ignore_errors=True)


def abort(call: Call, asked: End) -> None:
    """Let go of an upload and the parts that came."""
    folder, _ = _under_way(call, asked.upload_id)
    shutil.rmtree(folder, ignore_errors=True)


def _begun(ws: Workspace, about: About) -> str:
    """A folder for the parts; its name, which nobody can guess."""
    parts = ws.home / "parts"
    parts.mkdir(exist_ok=True)
    under_way = 0
    for folder in parts.iterdir():
        with suppress(FileNotFoundError):
            if clock.wall().timestamp() - folder.stat().st_mtime > _LEFT_S:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                under_way += 1
    if under_way >= _MOST_UNDER_WAY:
        raise NotReady(
            f"{under_way} uploads in parts are under way, which is the most. Try again when some have ended."
        )
    upload = secrets.token_hex(16)
    (parts / upload).mkdir()
    (parts / upload / "about.json").write_bytes(msgspec.json.encode(about))
    return upload


def _under_way(call: Call, upload: str) -> tuple[Path, About]:
    """The folder of an upload that this caller began. Raises NotFound."""
    folder = call.ws.home / "parts" / upload
    try:
        if not _ID.fullmatch(upload):
            raise FileNotFoundError
        about = msgspec.json.decode((folder / "about.json").read_bytes(), type=About)
    except FileNotFoundError:
        about = None
    if about is None or about.actor != call.principal.name:
        raise NotFound(
            f"there is no upload {upload[:40]!r} of yours; it ended, or was left for a day. Begin the file anew."
        )
    return folder, about


def _keep(ws: Workspace, folder: Path, number: int, source: Path | bytes) -> str:
    """Keep a part in the place of an earlier one of its number; its digest. Raises Conflict when the upload has ended."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    try:
        kept = sum(
            one.stat().st_size for one in folder.iterdir() if one.name.isdigit() and one.name != str(number)
        )
        check_size(kept + size, ws.settings.artifact_max_mb * 1_000_000)
        coming = folder / f"{number}-{secrets.token_hex(4)}"
        with coming.open("wb") as file:
            if isinstance(source, bytes):
                file.write(source)
                digest = blake3(source).hexdigest()
            else:
                digest = _append(source, file)
        coming.replace(folder / str(number))
    except FileNotFoundError as error:
        raise Conflict("the upload ended while this part of it came. Begin the file anew.") from error
    return digest


def _append(source: Path, to: IO[bytes]) -> str:
    """Write a file's content at the end of another; its digest, empty when there is no such file."""
    digest = blake3()
    try:
        with source.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                to.write(piece)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _address(call: Call) -> str:
    """How this caller reaches the server: parts are sent to whole addresses."""
    scheme = "https" if call.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{call.headers['host']}"  # the host was found to be ours


_MPU = "mlflow-artifacts/mpu"
ROUTES = [
    MlflowRoute("POST", f"{_MPU}/create/{{folder:path}}", "run", begin, Begin),
    MlflowRoute("PUT", f"{_MPU}/part/{{upload_id}}/{{number}}", "run", stream=part),
    MlflowRoute("POST", f"{_MPU}/complete/{{folder:path}}", "run", complete, End),
    MlflowRoute("POST", f"{_MPU}/abort/{{folder:path}}", "run", abort, End),
]
