"""What columns hold: numbers, values of which there are few, and the terms of texts, read for all rows together.

Texts are cut by Arrow as scikit-learn's vectorizers cut them unless told otherwise: a title takes a sixth of what a search for its words
and a look for each into a dictionary take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from everloop.compiled.parts import UnsureError

if TYPE_CHECKING:
    import pyarrow as pa

Column: TypeAlias = "pa.ChunkedArray[Any]"
Places = NDArray[np.int64]
_TERMS_A_WORD = 4


def numbers_of(column: Column) -> NDArray[np.float64]:
    """As an estimator makes floats of objects: null is not a number."""
    kind = str(column.type)
    if kind.startswith(("int", "uint", "float", "double", "bool")):
        found: NDArray[np.float64] = column.to_numpy().astype(np.float64)
        return found
    raise UnsureError


def values_of(column: Column) -> tuple[list[Any], NDArray[np.intp]]:
    """A column's different values, null among them, and which each row has."""
    coded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return coded.dictionary.to_pylist(), coded.indices.to_numpy()


def terms_of(
    terms: Sequence[str], lengths: tuple[int, int], *, is_lower: bool
) -> Callable[[Column], tuple[Places, Places]]:
    """What finds terms of so many words in texts, null being an empty one: in which row and which term, (n_found,) each."""
    import pyarrow as pa  # noqa: PLC0415  (compiled plans are made in processes that need no Arrow)
    import pyarrow.compute as pc  # noqa: PLC0415  (as above)

    shortest, longest = lengths
    known, cut = pa.array(terms, pa.string()), bytes(_cut(byte, is_lower=is_lower) for byte in range(256))
    has_short = longest > 1 or any(len(one) < 2 for one in terms)
    search = re.compile(r"\w\w+").findall  # what `\b\w\w+\b` finds, too

    def words_of(texts: Any) -> tuple[Any, Places]:
        """All words of the texts, and in which of them each is."""
        is_ascii = pc.string_is_ascii(texts)
        if not pc.all(is_ascii).as_py():
            others = texts.filter(pc.invert(is_ascii)).to_pylist()
            found = [" ".join(search(one.lower() if is_lower else one)) for one in others]
            texts = pc.replace_with_mask(texts, pc.invert(is_ascii), pa.array(found, pa.string()))
        _, offsets, content = texts.buffers()
        ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
        begin, end = ends[[0, -1]].tolist()
        whole = content.slice(begin, end - begin).to_pybytes().translate(cut)
        plain = pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends - begin), pa.py_buffer(whole))
        words = pc.ascii_split_whitespace(plain)
        flat: Any = words.flatten()
        row = np.repeat(np.arange(len(texts)), np.diff(words.offsets.to_numpy()))
        if has_short:
            is_long = pc.not_equal(pc.binary_length(flat), pa.scalar(1))
            flat, row = flat.filter(is_long), row[is_long.to_numpy(zero_copy_only=False)]
        return flat, row

    @cache
    def alone() -> dict[str, int]:
        return {term: place for place, term in enumerate(terms)}

    def look_up(words: Any) -> NDArray[Any]:
        """(n_words,) the place of each, -1 for one that is not known. Arrow reads all terms each time, which few words do not repay."""
        if len(words) * _TERMS_A_WORD < len(known):
            return np.fromiter(map(alone().get, words.to_pylist(), repeat(-1)), np.int32, len(words))
        found: NDArray[Any] = pc.index_in(words, value_set=known).fill_null(-1).to_numpy()
        return found

    def find(column: Column) -> tuple[Places, Places]:
        words, row = words_of(column.cast(pa.string()).combine_chunks().fill_null(""))
        rows, found = [], []
        for length in range(shortest, longest + 1):
            count = max(0, len(words) - length + 1)
            parts = [words.slice(begin, count) for begin in range(length)]
            joined = parts[0] if length == 1 else pc.binary_join_element_wise(*parts, " ")
            term = look_up(joined)
            is_known = (term >= 0) & (row[:count] == row[len(row) - count :])
            rows.append(row[:count][is_known])
            found.append(term[is_known])
        return np.concatenate(rows), np.concatenate(found).astype(np.int64)

    return find


def _cut(byte: int, *, is_lower: bool) -> int:
    """What stands for a byte of UTF-8 where words are cut at blanks; those beyond ASCII are in words by now."""
    one = chr(byte)
    if byte < 128 and not (one.isalnum() or one == "_"):
        return ord(" ")
    return ord(one.lower()) if byte < 128 and is_lower else byte
