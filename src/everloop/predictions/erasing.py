"""Taking what was asked about a person out of the prediction log: what is sealed at once, what is being written when it is sealed.

Who is erased is remembered as keyed hashes, in `log/erasures.json`, as long as a segment from before is not sealed; until then
readers see its records as erased already. An erased record keeps what says nothing of anybody: that there was a
prediction, when, by which version, what it answered and how long it took, so that counts stay right.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from everloop.clock import wall_ns
from everloop.ids import milliseconds_of
from everloop.predictions import sealed
from everloop.predictions.kept import hashed
from everloop.predictions.records import PredictionRecord
from everloop.storage import write_atomically


class Erasure(msgspec.Struct, frozen=True):
    """Hashes of the keys and ids that were erased, of predictions made up to a millisecond of the machine's clock."""

    until_ms: int
    hashes: frozenset[str]


class Erasures(msgspec.Struct, frozen=True):
    """Those that hold for segments which are not sealed; `key` made the hashes."""

    key: bytes = b""
    waiting: tuple[Erasure, ...] = ()

    def meet(self, record: PredictionRecord) -> bool:
        return bool(self.waiting) and self.name(record.id, record.key)

    def name(self, prediction_id: str, key: str | None) -> bool:
        made_ms = milliseconds_of(prediction_id)
        names = {hashed(name, self.key) for name in (prediction_id, key) if name is not None}
        return any(made_ms <= one.until_ms and names & one.hashes for one in self.waiting)


NO_ERASURES = Erasures()


def erased(record: PredictionRecord) -> PredictionRecord:
    """The record without what was asked."""
    error = None if record.error is None else "erased"
    return msgspec.structs.replace(record, key=None, inputs={}, features={}, error=error)


def read_erasures(folder: Path) -> Erasures:
    try:
        return msgspec.json.decode(_place(folder).read_bytes(), type=Erasures)
    except FileNotFoundError:
        return NO_ERASURES


def remember(folder: Path, names: Iterable[str], key: bytes) -> Erasures:
    """Erase, from what is not sealed, the predictions made up to now for these keys or with these ids."""
    until_ms = wall_ns() // 1_000_000
    new = Erasure(until_ms, frozenset(hashed(name, key) for name in names))
    known = read_erasures(folder)
    kept = Erasures(key, (*(known.waiting if known.key == key else ()), new))
    write_atomically(_place(folder), msgspec.json.encode(kept), mode=0o600)
    return kept


def settle(folder: Path, oldest_open_ms: int | None) -> None:
    """Forget those that no segment waits for: the oldest that is not sealed was begun at that millisecond."""
    known = read_erasures(folder)
    waiting = tuple(
        one for one in known.waiting if oldest_open_ms is not None and oldest_open_ms <= one.until_ms
    )
    if waiting == known.waiting:
        return
    if waiting:
        write_atomically(_place(folder), msgspec.json.encode(Erasures(known.key, waiting)), mode=0o600)
    else:
        _place(folder).unlink(missing_ok=True)


def erase_in(path: Path, schema: pa.Schema, names: Collection[str]) -> int:
    """Erase from a sealed segment; how many records it were. Raises FileNotFoundError."""
    wanted: pa.Array[Any] = pa.array(sorted(names), pa.string())
    found = sealed.count(path, wanted)
    if found:
        sealed.rewrite(path, schema, lambda batch: _blanked(batch, sealed.hits(batch, wanted)))
    return found


def erase_waiting(path: Path, schema: pa.Schema, erasures: Erasures) -> None:
    """Erase from a file that another home sealed, which does not know what was erased here."""
    if not erasures.waiting:
        return

    def change(batch: pa.RecordBatch) -> pa.RecordBatch:
        rows = zip(batch["id"].to_pylist(), batch["key"].to_pylist(), strict=True)
        return _blanked(batch, pa.array([erasures.name(str(one), key) for one, key in rows]))

    sealed.rewrite(path, schema, change)


def _blanked(batch: pa.RecordBatch, hit: Any) -> pa.RecordBatch:
    blank = {"key": None, "inputs": "{}", "features": "{}"}
    for name, value in blank.items():
        batch = sealed.put(batch, name, hit, value)
    return sealed.put(batch, "error", pc.and_(hit, batch["error"].is_valid()), "erased")


def _place(folder: Path) -> Path:
    return folder / "log" / "erasures.json"
