from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everloop.monitoring.text import Vocabulary, text_numbers


def texts(*values: str | None) -> pa.ChunkedArray[Any]:
    return pa.chunked_array([pa.array(values, pa.large_string())])


def test_words_are_in_small_letters_without_punctuation_in_any_script() -> None:
    vocabulary = Vocabulary.learn(texts("Café-crème, 500g", "café ЧАЙ"))
    assert set(vocabulary.words) == {"café", "crème", "500g", "чай"}
    assert vocabulary.words[0] == "café"
    assert vocabulary.n_in_another == 1


def test_a_text_is_three_numbers() -> None:
    vocabulary = Vocabulary.learn(texts("red tea", "green tea"))
    numbers = text_numbers(texts("Red car, blue tea", "", None, "!!"), vocabulary, own=False)
    assert numbers["characters"].tolist() == [17.0, 0.0, 2.0]
    assert numbers["words"].tolist() == [4.0, 0.0, 0.0]
    assert numbers["unfamiliar words"].tolist() == [0.5]


def test_a_word_repeated_in_one_text_is_not_in_another() -> None:
    vocabulary = Vocabulary.learn(texts("tea tea tea", "coffee"))
    assert vocabulary.n_in_another == 0
    assert text_numbers(texts("tea tea tea"), vocabulary, own=True)["unfamiliar words"].tolist() == [1.0]


def test_own_texts_are_as_unfamiliar_as_later_ones_of_the_same_source() -> None:
    random = np.random.default_rng(1)
    shares = 1.0 / np.arange(1, 3_001)
    words = np.array([f"w{i}" for i in range(3_000)])

    def some() -> pa.ChunkedArray[Any]:
        drawn = random.choice(words, (3_000, 8), p=shares / shares.sum())
        return texts(*(" ".join(row) for row in drawn))

    own, later = some(), some()
    vocabulary = Vocabulary.learn(own)
    before = text_numbers(own, vocabulary, own=True)["unfamiliar words"].mean()
    now = text_numbers(later, vocabulary, own=False)["unfamiliar words"].mean()
    naive = text_numbers(own, vocabulary, own=False)["unfamiliar words"].mean()
    assert before == pytest.approx(now, abs=0.004)
    assert naive == 0.0 < now - 0.01


def test_a_vocabulary_is_bounded_and_fair_at_its_bound() -> None:
    vocabulary = Vocabulary.learn(texts("a b c", "a b d", "a b e", "a f"), at_most=3)
    assert vocabulary.words == ("a", "b")
    assert vocabulary.n_in_another == 2
    assert Vocabulary.from_dict(vocabulary.as_dict()) == vocabulary


def test_no_texts_make_no_numbers() -> None:
    vocabulary = Vocabulary.learn(texts())
    assert vocabulary.words == ()
    assert text_numbers(texts(None), vocabulary, own=True)["words"].tolist() == []
