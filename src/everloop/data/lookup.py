"""Finds rows by their key. The keys of a part are read once in a process: a part is never changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from everloop.data.arrow import AnyArray, one_array
from everloop.data.arrow import compute as pc
from everloop.data.definitions import version as version_named
from everloop.data.layout import Part, Positions, read_manifest, read_part
from everloop.data.reading import as_version, checked_names, in_order
from everloop.data.records import ROW_ID, Column, DatasetVersion
from everloop.errors import Invalid
from everloop.workspace import Workspace

_REMEMBERED_BYTES = 64 << 20  # keys and row ids of about four million rows with whole-number keys


def rows_by_key(
    ws: Workspace, ref: str, keys: Iterable[str | int], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows whose key is among `keys`, as `read` gives them; keys that are not there are left out.

    Whole-number keys may also be given as text, as they arrive over HTTP.

    Raises
    ------
    Invalid
        The dataset has no key.
    """
    found = version_named(ws, ref)
    names = checked_names(found.schema, columns)
    tables = [
        read_part(ws, part, found.schema, names, positions=hit) for part, _, hit in _hits(ws, found, keys)
    ]
    return as_version(found, in_order(tables, found.schema, names))


def row_ids_by_key(ws: Workspace, ref: str, keys: Iterable[str | int]) -> dict[str, int]:
    """The row ids of these keys, by the key as text; keys that are not there are left out.

    Costs about 10 ns a row of the version once its keys have been read in this process. Raises Invalid as
    `rows_by_key`.
    """
    return {
        str(key): row_id
        for _, there, hit in _hits(ws, version_named(ws, ref), keys)
        for key, row_id in zip(there.keys.take(hit).to_pylist(), there.row_ids[hit].tolist(), strict=True)
    }


class _Keys:
    """The key and the row id of each row of a part, those not alive any more included."""

    def __init__(self, keys: AnyArray, row_ids: Positions) -> None:
        self.keys = keys
        self.row_ids = row_ids
        self.nbytes = keys.nbytes + row_ids.nbytes


class Remembered:
    """The keys of the parts that were asked for last, by part and column, up to so many bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._known: OrderedDict[tuple[str, str], _Keys] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in self._known.values())

    def keys_of(self, ws: Workspace, part: Part, found: DatasetVersion, key: str) -> _Keys:
        name = (part.digest, key)
        with self._lock:
            if name in self._known:
                self._known.move_to_end(name)
                return self._known[name]
        rows = read_part(ws, part, found.schema, [ROW_ID, key])
        read = _Keys(one_array(rows[key]), np.asarray(rows[ROW_ID]))
        with self._lock:
            self._known[name] = read
            while self.nbytes > self._most_bytes:
                self._known.popitem(last=False)
        return read


_remembered = Remembered(_REMEMBERED_BYTES)


def _hits(
    ws: Workspace, found: DatasetVersion, keys: Iterable[str | int]
) -> Iterator[tuple[Part, _Keys, Positions]]:
    """The parts that have living rows of these keys, and where in the part."""
    key = _key_of(found)
    wanted = _key_values(keys, is_integer=key.type == "integer")
    for part in read_manifest(ws, found.manifest).parts:
        there = _remembered.keys_of(ws, part, found, key.name)
        hit = np.flatnonzero(np.asarray(pc.is_in(there.keys, wanted)))
        if len(hit) and part.deleted_count:
            hit = hit[part.is_alive()[hit]]
        if len(hit):
            yield part, there, hit


def _key_of(found: DatasetVersion) -> Column:
    key = found.schema.key
    column = found.schema.get(key) if key is not None else None
    if column is None:
        raise Invalid(f"dataset {found.dataset!r} has no key to look rows up by. Read them by row id.")
    return column


def _key_values(keys: Iterable[str | int], *, is_integer: bool) -> AnyArray:
    if not is_integer:
        return pa.array([str(key) for key in keys], pa.large_string())
    numbers = [int(key) for key in keys if isinstance(key, int) or key.removeprefix("-").isdecimal()]
    return pa.array([number for number in numbers if -(2**63) <= number < 2**63], pa.int64())
