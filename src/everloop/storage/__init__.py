"""Where everything is kept: the metadata database and the content-addressed blobs.

Answers: how does a verb read and change records so that what was acknowledged stays, on SQLite and on
PostgreSQL alike, and where do bytes live. Owns no table of its own but holds the one `metadata` that all
rooms' tables are declared on, and the migrations that create them. May call nothing but settings, ids,
clock and errors. Names are loaded when they are asked for: a process that only reads or writes blobs, as one that runs
a pipeline's step does, starts without SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.storage.blob_cache import BlobCache
    from everloop.storage.blobs import (
        Blobs,
        FileBlobs,
        digest_of_file,
        open_blobs,
        place_of,
    )
    from everloop.storage.columns import Json, Utc, metadata, to_json
    from everloop.storage.database import Database, Tx, open_database, wall_of
    from everloop.storage.files import replacing, sync_folder, write_atomically
    from everloop.storage.inserts import inserting
    from everloop.storage.schema import migrate, newest_schema

_HOMES = {
    "BlobCache": "blob_cache",
    "Blobs": "blobs",
    "FileBlobs": "blobs",
    "digest_of_file": "blobs",
    "open_blobs": "blobs",
    "place_of": "blobs",
    "Json": "columns",
    "Utc": "columns",
    "metadata": "columns",
    "to_json": "columns",
    "Database": "database",
    "Tx": "database",
    "open_database": "database",
    "wall_of": "database",
    "replacing": "files",
    "sync_folder": "files",
    "write_atomically": "files",
    "inserting": "inserts",
    "migrate": "schema",
    "newest_schema": "schema",
}

__all__ = [
    "BlobCache",
    "Blobs",
    "Database",
    "FileBlobs",
    "Json",
    "Tx",
    "Utc",
    "digest_of_file",
    "inserting",
    "metadata",
    "migrate",
    "newest_schema",
    "open_blobs",
    "open_database",
    "place_of",
    "replacing",
    "sync_folder",
    "to_json",
    "wall_of",
    "write_atomically",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
