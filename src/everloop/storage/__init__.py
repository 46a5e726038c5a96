"""Where everything is kept: the metadata database and the content-addressed blobs.

Answers: how does a verb read and change records so that what was acknowledged stays, on SQLite and on
PostgreSQL alike, and where do bytes live. Owns no table of its own but holds the one `metadata` that all
rooms' tables are declared on, and the migrations that create them. May call nothing but settings, ids,
clock and errors.
"""

from everloop.storage.blobs import FileBlobs, sync_folder, write_atomically
from everloop.storage.columns import Json, Utc, metadata, to_json
from everloop.storage.database import Database, Tx, open_database, wall_of
from everloop.storage.schema import migrate

__all__ = [
    "Database",
    "FileBlobs",
    "Json",
    "Tx",
    "Utc",
    "metadata",
    "migrate",
    "open_database",
    "sync_folder",
    "to_json",
    "wall_of",
    "write_atomically",
]
