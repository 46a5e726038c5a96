"""A pipeline asked about columns against itself asked about rows: the same to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from everloop.compiled import NotCompiledError, UnsureError, many_of
from everloop.features.text import FilledText
from tests.serving.home import TITLES, object_array

ODD = [
    "",
    "a",
    "Größe ÆØÅ 3er",
    "ΟΔΟΣ ΣΑΣ ς",
    "İstanbul",
    "red_leaf RED-leaf red",
    "x\ny\tzz",
    "red\0leaf \0",
    "red",
    "leaf",
    "東京 タワー",
    "\x1cab\x85cd",
]
LABELS = ["Tea", "Bikes"]


def columns_of(rows: np.ndarray[Any, Any], *types: pa.DataType) -> list[pa.ChunkedArray[Any]]:
    return [pa.chunked_array([pa.array(rows[:, place].tolist(), kind)]) for place, kind in enumerate(types)]


@pytest.mark.parametrize(
    "words",
    [
        TfidfVectorizer(),
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1),
        TfidfVectorizer(ngram_range=(2, 3), lowercase=False, norm=None),
        CountVectorizer(binary=True, dtype=np.float64),
        make_pipeline(FilledText(), TfidfVectorizer()),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 3)),
        TfidfVectorizer(stop_words=["red"], strip_accents="unicode"),
    ],
)
def test_texts_are_answered_as_in_rows(words: Any) -> None:
    rows = object_array([[text] for text in [*TITLES, *ODD]])
    labels = [LABELS[place % 2] for place in range(len(rows))]
    model = make_pipeline(ColumnTransformer([("words", words, 0)]), LogisticRegression()).fit(rows, labels)
    many = many_of(model)
    assert many.probabilities is not None
    given = columns_of(rows, pa.string())
    assert np.array_equal(many.probabilities(given), model.predict_proba(rows))
    assert many.predict(given).tolist() == model.predict(rows).tolist()


@given(texts=st.lists(st.text(alphabet=st.characters(codec="utf-8")), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_words_are_cut_as_scikit_learn_cuts_them(texts: list[str]) -> None:
    rows = object_array([[text] for text in [*texts, "red leaf"]])
    counts = ColumnTransformer([("words", CountVectorizer(ngram_range=(1, 2)), 0)])
    model = make_pipeline(counts, Ridge()).fit(rows, range(len(rows)))
    assert np.array_equal(many_of(model).predict(columns_of(rows, pa.string())), model.predict(rows))


@pytest.mark.parametrize(
    "encoder",
    [
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        OneHotEncoder(handle_unknown="ignore"),
        OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=3, sparse_output=False, drop="first"
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Found unknown categories:UserWarning")  # as meant
@pytest.mark.parametrize(
    "last", [HistGradientBoostingClassifier(max_iter=5), LogisticRegression(max_iter=3_000)]
)
def test_a_table_is_answered_as_in_rows(encoder: Any, last: Any) -> None:
    random = np.random.default_rng(3)
    rows = np.empty((200, 5), dtype=object)
    rows[:, 0] = random.integers(0, 90, 200).tolist()
    rows[:, 1] = random.choice(np.array(["a", "b", "c", None], dtype=object), 200)
    rows[:, 2] = random.random(200).tolist()
    rows[:, 3] = random.choice(["x", "y"], 200)
    rows[:, 4] = random.choice([True, False], 200).tolist()
    steps = [
        ("n", "passthrough", [0, 4]),
        ("w", encoder, [1, 3]),
        ("s", StandardScaler(), [2]),
        ("no", "drop", []),
    ]
    model = make_pipeline(ColumnTransformer(steps), last).fit(rows, random.choice(LABELS, 200))
    rows[:7, 1] = "unheard of"
    given = columns_of(rows, pa.int64(), pa.string(), pa.float64(), pa.string(), pa.bool_())
    many = many_of(model)
    assert many.probabilities is not None
    assert np.array_equal(many.probabilities(given), model.predict_proba(rows))


def test_what_is_to_be_asked_in_rows_is_not_answered() -> None:
    rows = object_array([["red leaf"], ["small chain"]])
    model = make_pipeline(ColumnTransformer([("words", TfidfVectorizer(), 0)]), LogisticRegression()).fit(
        rows, LABELS
    )
    with pytest.raises(UnsureError):
        many_of(model).predict(columns_of(object_array([[None], ["red"]]), pa.string()))
    with pytest.raises(NotCompiledError, match="no pipeline of two steps"):
        many_of(model.steps[1][1])
