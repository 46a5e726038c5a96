"""What the log keeps of a prediction: whether it is drawn, and its inputs by the rules for personal data.

The model always gets the true values. What is not kept as it is, is a text that says so:

    hash:9f86d081884c7d65...    equal for equal values, and nobody without the key can try values against it
    drop:                       there was a value
    write to [email]            what looks like personal data is cut out of the text, the rest is kept
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from blake3 import blake3
from numpy.typing import NDArray

from everloop.errors import StorageFailed
from everloop.predictions.records import LogPolicy, Personal
from everloop.storage import sync_folder

DROPPED = "drop:"
_HASH = "hash:"
HIDDEN = f"{_HASH}|{DROPPED}"  # how a value begins that is not the given one
_UNIT = 2.0**-53
_KEY_BYTES = 32
_DIGITS = 8  # of an id's last ten, which are random
_STRENGTH: tuple[Personal, ...] = ("mask", "hash", "drop")
_json = msgspec.json.Encoder().encode


def uniform(prediction_id: str) -> float:
    """A number in [0, 1) that looks random and is always the same for one id.

    What is kept of a sampled endpoint and what is drawn for audit are those below a share, so that one sample lies within
    the other: nothing that an audit would draw is left out of the log while the log's share is the larger. It is no
    function of the one that deals requests to variants, so that the sample of each variant is random.
    """
    digest = blake3(b"everloop audit\0" + prediction_id.encode()).digest(length=8)
    return (int.from_bytes(digest, "little") >> 11) * _UNIT


def evenly(table: pa.Table) -> tuple[pa.Table, float]:
    """The rows that would be there had all been kept with the smallest chance among them, and that chance.

    What stands for how many is then the same for all, so that shares, percentiles and distributions need no weights.
    The table has the columns `id`, `shadow_of` and `probability`.
    """
    if not table.num_rows:
        return table, 1.0
    least = float(pc.min(table["probability"]).as_py())
    if least == 1.0 or pc.max(table["probability"]).as_py() == least:
        return table, least
    drawn = pc.coalesce(table["shadow_of"], table["id"]).to_pylist()
    return table.filter(pa.array([uniform(str(one)) < least for one in drawn])), least


def drawn(table: pa.RecordBatch | pa.Table, chance: float | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows are in a sample in which each prediction is with this chance; those that were kept with a smaller one all are.

    An id's last digits decide, which are random and have nothing to do with `uniform`, so that the log's own chance and this
    one multiply. The same rows are drawn whenever it is asked, and a smaller sample lies within a larger. The table has the
    columns `id` and `probability`.
    """
    at_most = chance / table["probability"].to_numpy(zero_copy_only=False)
    if (at_most >= 1.0).all():
        return np.ones(table.num_rows, dtype=np.bool_)
    ids: Any = table["id"]
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    last = pc.binary_slice(ids.cast(pa.binary()), -_DIGITS).cast(pa.binary(_DIGITS))
    text = np.frombuffer(last.buffers()[1], np.uint8).reshape(-1, _DIGITS)[last.offset :][: len(last)]
    digits = (text & 15) + 9 * (text >> 6)  # of 0 to 9 and a to f
    return np.asarray(digits @ 16.0 ** -np.arange(1.0, _DIGITS + 1) < at_most)


def weights(batch: pa.RecordBatch | pa.Table) -> Any:
    """How many predictions each row stands for, (n_rows,) float64: the inverse of its chance."""
    return 1.0 / batch["probability"].to_numpy(zero_copy_only=False)


def is_hidden(value: Any) -> bool:
    """Whether a logged input is not the value that was given, so that nothing may be computed from it."""
    return isinstance(value, str) and (value == DROPPED or value.startswith(_HASH))


class Keeper:
    """How one release's inputs are kept on one endpoint; `of` gives None where all are kept as they are."""

    def __init__(self, rules: Mapping[str, Personal | None], default: Personal | None, key: bytes) -> None:
        self._rules = dict(rules)
        self._default = default
        self._key = key
        # half a second to load, and only where texts are to be masked
        self._masked: Callable[[str], str] = _masker() if "mask" in self._rules.values() else str

    @classmethod
    def of(
        cls,
        inputs: Iterable[str],
        personal: Mapping[str, Personal],
        policy: LogPolicy,
        key: Callable[[], bytes],
    ) -> Keeper | None:
        """Of the rule of the schema, which `personal` gives for some inputs, and that of the endpoint the stronger holds."""
        wide: Personal | None = None if policy.inputs == "keep" else policy.inputs
        if wide is None and not personal:
            return None
        rules: dict[str, Personal | None] = dict.fromkeys(inputs, wide)
        rules |= {name: _stronger(rule, wide) for name, rule in personal.items()}
        # an unknown input is one that a client misspelt: it may be any of the personal ones
        return cls(rules, wide or "hash", key())

    def hides(self, names: Iterable[str]) -> list[str]:
        """Which of the inputs cannot be read back from the log."""
        return sorted(name for name in names if self._rules.get(name) in ("hash", "drop"))

    def inputs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self._kept(self._rules.get(name, self._default), value) for name, value in given.items()
        }

    def key(self, name: str, value: str) -> str:
        """The value of an input as the key that finds its predictions: its hash where the input is not kept as it is."""
        return value if self._rules.get(name, self._default) is None else self.hashed(value)

    def features(self, found: Mapping[str, tuple[Any, int | None]]) -> dict[str, tuple[Any, int | None]]:
        """Numbers are kept; a text may be one of the inputs."""
        return {
            name: (self._kept(self._default, value) if isinstance(value, str) else value, as_of)
            for name, (value, as_of) in found.items()
        }

    def _kept(self, rule: Personal | None, value: Any) -> Any:
        if rule is None or value is None:
            return value
        if rule == "mask" and isinstance(value, str):
            return self._masked(value)
        return self.hashed(value) if rule == "hash" else DROPPED

    def hashed(self, value: Any) -> str:
        return hashed(value, self._key)


def hashed(value: Any, key: bytes) -> str:
    """A value's keyed hash, of 128 bits: 3 and 3.0 are one number."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return f"{_HASH}{blake3(_json(value), key=key).hexdigest(length=16)}"


def log_key(folder: Path, secret: str | None = None) -> bytes:
    """The key of a home's hashes: made from a secret that several machines share, else of the home's own file.

    The file is made when it is first needed, readable by its owner alone. Raises StorageFailed when it cannot be.
    """
    if secret:
        return blake3(secret.encode(), derive_key_context="everloop 2026-11 prediction log").digest()
    path = folder / "log.key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise StorageFailed(
            f"the key of hashed inputs {path} cannot be read or written: {error.strerror or error}. Make it readable for the "
            "user that everloop runs as, or free space there."
        ) from error
    if len(key) != _KEY_BYTES:
        raise StorageFailed(
            f"{path} has {len(key)} bytes; the key of hashed inputs has {_KEY_BYTES}. Restore it from a backup, or remove it: "
            "what is hashed from then on cannot be compared with what was hashed before."
        )
    return key


def _make_key(path: Path) -> None:
    """Under a name that appears whole, also when two processes make one at once: the first is kept."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _stronger(one: Personal, other: Personal | None) -> Personal:
    return one if other is None else max(one, other, key=_STRENGTH.index)


def _masker() -> Callable[[str], str]:
    from everloop.data import masked  # noqa: PLC0415  (see above)

    return masked
