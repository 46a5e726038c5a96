"""What a fitted pipeline knows, as data: texts, numbers and arrays, from which columns are answered without its library.

It holds no code and reading it runs none: MessagePack, whose arrays are of numbers. Made by `kept_of` when a version is released and
compared with the model there; `Scoring` answers from it.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from everloop.compiled.parts import UnreadableError

FORM = 1
"""Changes with what is kept and with what is made of it; what is of another form is not used."""
_DTYPES = ("<f8", "<i4", "|u1")
Array = NDArray[Any]


class Words(msgspec.Struct, frozen=True, tag="words"):
    """A column of texts: how often each of `terms` is in it, weighed by `idf` and over `norm` as TF-IDF is, where there are any."""

    column: int
    terms: list[str]
    lengths: tuple[int, int]
    is_lower: bool
    is_filled: bool
    is_binary: bool = False
    is_sublinear: bool = False
    idf: np.ndarray | None = None
    norm: str | None = None

    @property
    def width(self) -> int:
        return len(self.terms)


class Lookup(msgspec.Struct, frozen=True, tag="lookup"):
    """A column whose values an encoder knows.

    `answers` are a number for each, or where `places` is not 0, the place of a one among so many, -1 for none. What has None in
    `null`, `nan` or `other` is refused.
    """

    column: int
    values: list[str | int | float | bool]
    answers: np.ndarray
    null: float | None
    nan: float | None
    other: float | None
    places: int = 0

    @property
    def width(self) -> int:
        return self.places or 1


class Number(msgspec.Struct, frozen=True, tag="number"):
    """A column of numbers: what is missing is `fill`, if anything, then it is moved and scaled."""

    column: int
    fill: float | None = None
    less: float = 0.0
    by: float = 1.0
    width: int = 1


class Linear(msgspec.Struct, frozen=True, tag="linear"):
    """`weights` are (n_columns, n_values), `add` (n_values,)."""

    weights: np.ndarray
    add: np.ndarray


class Trees(msgspec.Struct, frozen=True, tag="trees"):
    """Nodes of all trees one after the other, `roots` where each begins; children are counted from there, and a leaf's `left` is 0.

    Each value is added to `base` (n_values,) in turn: by iteration, then by class.
    """

    roots: np.ndarray
    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    nan_goes_left: np.ndarray
    value: np.ndarray
    base: np.ndarray


Block = Words | Lookup | Number


class Kept(msgspec.Struct, frozen=True):
    """`shares` says how probabilities are made of what the ending says; None: of a classifier without them, or of a number.

    `classes` are told as texts; None where it gives numbers.
    """

    blocks: tuple[Block, ...]
    ending: Linear | Trees
    classes: tuple[str, ...] | None
    shares: str | None
    form: int = FORM


def written(kept: Kept) -> bytes:
    """Raises UnreadableError for values of other kinds, such as categories that are dates."""
    try:
        return msgspec.msgpack.Encoder(enc_hook=_array_told).encode(kept)
    except (msgspec.MsgspecError, NotImplementedError, OverflowError, TypeError) as error:
        raise UnreadableError(f"it cannot be kept: {error}") from error


def read(content: bytes) -> Kept:
    """Raises UnreadableError for what is of another form."""
    try:
        found = msgspec.msgpack.Decoder(Kept, dec_hook=_array_of).decode(content)
    except (msgspec.MsgspecError, ValueError, TypeError) as error:
        raise UnreadableError(f"what was kept cannot be read: {error}") from error
    if found.form != FORM:
        raise UnreadableError(f"what was kept is of form {found.form}, here it is {FORM}")
    return found


def _array_told(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.str in _DTYPES:
        return [value.dtype.str, value.shape, value.tobytes()]
    raise NotImplementedError(f"{type(value).__name__} is not kept")


def _array_of(_kind: type, told: Any) -> Array:
    dtype, shape, content = told
    return np.frombuffer(content, dtype=dtype).reshape(shape)  # which refuses objects
