"""What a page shows of a file that a client logged: a table, a picture, or text; nothing that a browser would run.

A picture stands in the page as data: a browser runs no script in one, an SVG's own included, and it asks nobody for anything.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from everloop import tracking
from everloop.errors import NotFound
from everloop.workspace import Workspace

_TEXT_BYTES = 200_000
_PICTURE_BYTES = 3_000_000
_ROWS = 100
_COLUMNS = 40
_FILES = 200
_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}


@dataclass(frozen=True)
class File:
    """A file of a run or a logged model."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class Preview:
    """The beginning of a file as one of `table` (names of columns first), `picture` (its data as an address) and `text`."""

    path: str
    size_bytes: int
    is_cut: bool
    table: Sequence[Sequence[str]] | None = None
    picture: str | None = None
    text: str | None = None


def files_of(ws: Workspace, owner: str) -> list[File]:
    """The files of a run or a logged model, wherever its client keeps them; about the first 200 of those not kept here.

    Raises Denied when this server does not read there.
    """
    kept = [File(one.path, one.size_bytes) for one in tracking.artifacts(ws, owner)]
    folders = [] if kept else [""]
    while folders and len(kept) < _FILES:
        for entry in tracking.artifact_entries(ws, owner, folders.pop()):
            if entry.is_folder:
                folders.append(entry.path)
            else:
                kept.append(File(entry.path, entry.size_bytes or 0))
    return sorted(kept, key=lambda one: one.path)


def preview_of(ws: Workspace, owner: str, files: Sequence[File], path: str) -> Preview:
    """What is shown of one of an owner's files. Raises NotFound."""
    file = next((one for one in files if one.path == path), None)
    if file is None:
        raise NotFound(f"there is no file {path!r} with it. Its page lists those that are there.")
    with tracking.open_artifact(ws, owner, path) as opened:
        content = opened.read(_PICTURE_BYTES)
    kind = kind_of_picture(path, content)
    if kind is not None and file.size_bytes <= _PICTURE_BYTES:
        told = base64.b64encode(content).decode()
        return Preview(path, file.size_bytes, False, picture=f"data:{kind};base64,{told}")
    is_cut = len(content) > _TEXT_BYTES
    content = content[:_TEXT_BYTES]
    if b"\0" in content:
        return Preview(path, file.size_bytes, is_cut)
    text = content.decode(errors="replace")
    table = _table(path, text, is_cut=is_cut)
    if table is not None:
        is_long = len(table) > _ROWS + 1
        shown = [[cell[:200] for cell in row[:_COLUMNS]] for row in table[: _ROWS + 1]]
        return Preview(path, file.size_bytes, is_cut or is_long, table=shown)
    return Preview(path, file.size_bytes, is_cut, text=text if is_cut else _laid_out(path, text))


def kind_of_picture(path: str, content: bytes) -> str | None:
    """The media type of a file that a browser draws, None of any other."""
    if PurePosixPath(path).suffix.lower() == ".svg":
        return "image/svg+xml"
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), None)


def _table(path: str, text: str, *, is_cut: bool) -> list[list[str]] | None:
    """The rows of a CSV or TSV file, or of a table as MLflow's clients log one; None for anything else."""
    ending = PurePosixPath(path).suffix.lower()
    if ending in (".csv", ".tsv"):
        whole = text.rpartition("\n")[0] if is_cut else text
        try:
            return list(csv.reader(io.StringIO(whole), delimiter="\t" if ending == ".tsv" else ",")) or None
        except csv.Error:
            return None
    found = _parsed(text) if ending == ".json" and not is_cut else None
    if not isinstance(found, dict) or set(found) != {"columns", "data"}:
        return None
    columns, data = found["columns"], found["data"]
    if (
        not isinstance(columns, list)
        or not isinstance(data, list)
        or not all(isinstance(it, list) for it in data)
    ):
        return None
    return [[_said(cell) for cell in row] for row in (columns, *data[: _ROWS + 1])]


def _laid_out(path: str, text: str) -> str:
    """JSON with one value on a line, which clients write without a break; other text as it is."""
    found = _parsed(text) if PurePosixPath(path).suffix.lower() == ".json" else None
    return text if found is None else json.dumps(found, indent=2, ensure_ascii=False)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # it only has the name
        return None


def _said(cell: Any) -> str:
    return cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
