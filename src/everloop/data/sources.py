"""Reads what a user gives, a file, a folder of tables or of images, or an Arrow table, into columns as they were found."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3

from everloop.data.arrow import AnyArray
from everloop.data.csv_files import read_csv
from everloop.data.folders import files_below
from everloop.data.image_files import read_images
from everloop.data.records import DIGEST, ROW_ID, Column, Format
from everloop.errors import Invalid, NotFound, StorageFailed

_FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_WORDS: dict[type, str] = {bool: "a boolean", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True)
class Source:
    """Rows as found. `is_text` says that all columns are text whose types have to be read out of it (CSV).

    `file` has the name, the BLAKE3 digest of exactly the bytes that were read, and their number; it is None for
    a table in memory.
    """

    rows: pa.Table
    format: str
    file: dict[str, Any] | None
    is_text: bool = False


def load(source: Path | pa.Table, *, key: str | None, file_format: Format | None) -> Source:
    """The rows of a source, at least one, under names that can be columns.

    Raises
    ------
    NotFound
        There is no such file.
    Invalid
        The file is broken, empty, or of no known format.
    """
    found = Source(source, "table", None) if isinstance(source, pa.Table) else _read(source, key, file_format)
    # A table that `read` gave out can be ingested again: the columns that everloop added are left out.
    kept = [name for name in found.rows.column_names if name not in (ROW_ID, DIGEST)]
    rows = found.rows.select(kept) if len(kept) == len(set(kept)) else found.rows
    _check_names(kept)
    if rows.num_rows == 0 or not kept:
        what = f"the {found.format} file" if found.file else "the table"
        raise Invalid(f"{what} has no rows; a version is made from at least one. Check what wrote it.")
    return Source(rows, found.format, found.file, found.is_text)


def _read(path: Path, key: str | None, file_format: Format | None) -> Source:
    if not path.exists():
        raise NotFound(f"there is no file or folder {path}. Check the path.")
    if path.is_dir():
        files = list(files_below(path))
        if file_format in (None, "images") and not (files and all(map(_is_table, files))):
            rows, file = read_images(path, key=key)
            return Source(rows, "images", file)
        return _read_tables(path, files, file_format)
    chosen = file_format or _FORMATS.get(path.suffix.lower())
    if chosen is None or chosen == "images":
        raise Invalid(
            f"{path.name} is not of a known format: by their ending, {', '.join(_FORMATS)} files are read, and folders "
            "of images. Rename it or name the format."
        )
    data = _bytes_of(path)
    if not data.strip():
        raise Invalid(f"{path.name} is empty; a version is made from at least one row. Check what wrote it.")
    read = {"csv": read_csv, "jsonl": _read_jsonl, "parquet": _read_parquet}[chosen]
    file = {"name": path.name, "digest": blake3(data).hexdigest(), "bytes": len(data)}
    return Source(read(data, path.name), chosen, file, is_text=chosen == "csv")


def _is_table(found: tuple[Path, Path]) -> bool:
    return found[0].suffix.lower() in _FORMATS


def _read_tables(folder: Path, files: list[tuple[Path, Path]], file_format: Format | None) -> Source:
    """The rows of all tables below a folder, one file after the other in the order of their paths."""
    read = [(place.as_posix(), _read(path, None, file_format)) for path, place in files]
    formats = sorted({one.format for _, one in read})
    if len(formats) != 1:
        raise Invalid(
            f"the folder {folder} has {' and '.join(formats) or 'no'} files; one that is read as a table has files of one "
            "format with the same columns. Move the others away, or name one file."
        )
    first, columns = read[0][0], read[0][1].rows.column_names
    for place, one in read:
        if set(one.rows.column_names) != set(columns):
            apart = sorted(set(one.rows.column_names) ^ set(columns))
            raise Invalid(
                f"{place} and {first} do not have the same columns ({', '.join(apart)}); the files of a folder are one table. "
                "Mend the file, or move it away."
            )
    try:
        rows = pa.concat_tables([one.rows.select(columns) for _, one in read], promote_options="permissive")
    except pa.ArrowException as error:
        raise Invalid(
            f"the files of {folder} have a column in types that do not go together: {error}. Write them in one type."
        ) from error
    records = [one.file or {} for _, one in read]
    listing = "".join(
        f"{record['digest']} {place}\n" for record, (place, _) in zip(records, read, strict=True)
    )
    file = {
        "name": folder.name,
        "digest": blake3(listing.encode()).hexdigest(),
        "bytes": sum(record["bytes"] for record in records),
        "files": len(records),
    }
    return Source(rows, formats[0], file, is_text=read[0][1].is_text)


def _bytes_of(path: Path) -> bytes:
    # Read once and whole, so that the digest is of exactly the bytes that were parsed.
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageFailed(
            f"{path} cannot be read: {error.strerror}. Check its permissions, then run the same command again."
        ) from error


def _check_names(names: list[str]) -> None:
    for name in names:
        Column(name, "string")  # raises for a name that cannot be a column's
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise Invalid(f"the column {twice[0]!r} is there twice; names are unique. Rename one of them.")


def _read_parquet(data: bytes, name: str) -> pa.Table:
    try:
        rows = pq.ParquetFile(pa.BufferReader(data)).read()
        rows.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(
            f"{name} is not a readable Parquet file: {str(error).splitlines()[0].rstrip('.')}. Write it again, or name its format."
        ) from error
    return rows


def _read_jsonl(data: bytes, name: str) -> pa.Table:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Invalid(
                f"{name}, line {number} is not JSON in UTF-8: {error}. Each line of a JSONL file is one JSON object."
            ) from error
        if not isinstance(row, dict):
            raise Invalid(
                f"{name}, line {number} is JSON, but not an object; each line of a JSONL file is one object, "
                'such as {"id": 1, "title": "..."}. Correct the line.'
            )
        rows.append(row)
    names = dict.fromkeys(chain.from_iterable(rows))
    return pa.table({column: _array([row.get(column) for row in rows], column) for column in names})


def _array(values: list[Any], column: str) -> AnyArray:
    """JSON values of one kind as an Arrow array; whole and other numbers together are numbers."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int, float}:
        values = [None if value is None else float(value) for value in values]
    elif len(kinds) > 1 or kinds & {dict, list}:
        raise _not_one_kind(values, column)
    try:
        return pa.array(values, pa.large_string()) if kinds == {str} else pa.array(values)
    except OverflowError as error:
        raise Invalid(
            f"column {column!r} has a whole number that does not fit into 64 bits. Write such values as text."
        ) from error


def _not_one_kind(values: list[Any], column: str) -> Invalid:
    seen: dict[type, int] = {}
    for row, value in enumerate(values, start=1):
        if value is not None:
            seen.setdefault(type(value), row)
    found = " and ".join(f"{_WORDS.get(kind, 'a nested value')} in row {row}" for kind, row in seen.items())
    return Invalid(
        f"column {column!r} has {found}; a column has one type: text, numbers or booleans. "
        "Write its values in one form; nested values go into columns of their own."
    )
