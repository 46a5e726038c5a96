"""Free text as numbers, so that a change of language, length or subject shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

N_WORDS = 20_000
_NOT_A_WORD = r"[^\pL\pN]+"


@dataclass(frozen=True)
class Vocabulary:
    """The words of the reference's texts, the most common first, at most 20,000.

    A word is familiar when at least k other texts of the reference contain it (k is 1 unless there are too many
    words). For a text of the reference itself *other* leaves that text out, so that k + 1 are needed: otherwise each
    rare word would be familiar where it was learned and unfamiliar in every later text, and all later text would seem
    to have drifted.
    """

    words: tuple[str, ...]
    n_in_another: int  # the first so many are familiar in the reference's own texts, too

    @classmethod
    def learn(cls, texts: pa.ChunkedArray[Any], *, at_most: int = N_WORDS) -> Vocabulary:
        """From a column of strings; nulls are left out."""
        rows, words = _words(texts)
        encoded: Any = words.dictionary_encode()
        ids = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        n_words = len(encoded.dictionary)
        once_a_text = np.unique(rows * n_words + ids)
        n_texts = np.bincount(once_a_text % max(n_words, 1), minlength=n_words)  # (n_words,)
        common = np.sort(n_texts)[::-1]
        at_least = 1 if n_words <= at_most else int(common[at_most]) + 1
        order = np.argsort(-n_texts, kind="stable")[: int((n_texts >= at_least).sum())]
        return cls(
            tuple(encoded.dictionary.take(pa.array(order)).to_pylist()), int((n_texts > at_least).sum())
        )

    def as_dict(self) -> dict[str, Any]:
        return {"words": list(self.words), "n_in_another": self.n_in_another}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Vocabulary:
        return cls(tuple(value["words"]), value["n_in_another"])


def text_numbers(texts: pa.ChunkedArray[Any], vocabulary: Vocabulary, *, own: bool) -> dict[str, Floats]:
    """Characters and words of each text, and the share of its words that are unfamiliar.

    Parameters
    ----------
    texts : column of strings
        Nulls are left out; a text without words has no share.
    own : the texts are those that the vocabulary was learned from

    Examples
    --------
    >>> known = Vocabulary.learn(pa.chunked_array([["red tea", "green tea"]]))
    >>> text_numbers(pa.chunked_array([["Red tea!", "blue car"]]), known, own=False)["unfamiliar words"].tolist()
    [0.0, 1.0]
    >>> text_numbers(pa.chunked_array([["red tea", "green tea"]]), known, own=True)["unfamiliar words"].tolist()
    [0.5, 0.5]
    """
    present = texts.drop_null()
    rows, words = _words(present)
    familiar = vocabulary.words[: vocabulary.n_in_another] if own else vocabulary.words
    is_unfamiliar = ~np.asarray(
        pc.is_in(words, value_set=pa.array(familiar, words.type)).to_numpy(zero_copy_only=False)
    )
    n_words = np.bincount(rows, minlength=len(present))  # (n_texts,)
    n_unfamiliar = np.bincount(rows, weights=is_unfamiliar, minlength=len(present))
    has_words = n_words > 0
    return {
        "characters": pc.utf8_length(present).to_numpy().astype(np.float64),
        "words": n_words.astype(np.float64),
        "unfamiliar words": n_unfamiliar[has_words] / n_words[has_words],
    }


def _words(texts: pa.ChunkedArray[Any]) -> tuple[NDArray[np.int64], pa.Array[Any]]:
    """All words in small letters, and the position of the text that each is in, (n_words,)."""
    one = pa.concat_arrays(texts.drop_null().chunks) if texts.num_chunks else pa.array([], pa.large_string())
    split: Any = pc.split_pattern_regex(pc.utf8_lower(one), _NOT_A_WORD)
    words: Any = pc.list_flatten(split)
    is_word = pc.not_equal(words, pa.scalar("", words.type))
    rows: Any = pc.list_parent_indices(split).filter(is_word)
    return rows.to_numpy(zero_copy_only=False).astype(np.int64), words.filter(is_word)
