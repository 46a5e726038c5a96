"""What is kept of a pipeline against the pipeline itself: the same answers, from data alone, whatever rows stand together."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, RobustScaler, StandardScaler

from everloop.compiled import NotCompiledError, Scoring, UnreadableError, UnsureError, kept_of, read, written
from everloop.features.text import FilledText
from tests.compiled.test_many import LABELS, ODD, columns_of
from tests.serving.home import TITLES, object_array

TYPES = (pa.int64(), pa.string(), pa.float64(), pa.string(), pa.bool_())


def scoring(model: Any, columns: int) -> Scoring:
    """As it comes back from its bytes."""
    return Scoring.of(read(written(kept_of(model, columns=columns))))


def table(rows: int = 400) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(3)
    found = np.empty((rows, 5), dtype=object)
    found[:, 0] = random.integers(0, 90, rows).tolist()
    found[:, 1] = random.choice(np.array(["a", "b", "c", None], dtype=object), rows)
    found[:, 2] = random.choice(np.array([*random.normal(0, 30, 60), None], dtype=object), rows)
    found[:, 3] = random.choice(["x", "y"], rows)
    found[:, 4] = random.choice([True, False], rows).tolist()
    return found


def labels(rows: np.ndarray[Any, Any], classes: int) -> list[str]:
    random = np.random.default_rng(4)
    marks = [
        one[0] // 30 + (one[1] == "a") + ((one[2] or 0) > 5) + noise
        for one, noise in zip(rows, random.integers(0, 2, len(rows)), strict=True)
    ]
    return [f"class {int(mark) % classes}" for mark in marks]


@pytest.mark.parametrize(
    "words",
    [
        TfidfVectorizer(),
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1),
        TfidfVectorizer(ngram_range=(2, 3), lowercase=False, norm="l1", use_idf=False),
        CountVectorizer(binary=True, ngram_range=(1, 2)),
        make_pipeline(FilledText(), TfidfVectorizer(norm=None, vocabulary=["a", "red", "leaf"])),
    ],
)
@pytest.mark.parametrize(
    "last", [LogisticRegression(), MultinomialNB(), SGDClassifier(loss="log_loss", random_state=0)]
)
def test_texts_are_answered_as_by_the_model(words: Any, last: Any) -> None:
    rows = object_array([[text] for text in [*TITLES, *ODD]])
    kinds = [["Tea", "Bikes", "Books"][place % 3] for place in range(len(rows))]
    model = make_pipeline(ColumnTransformer([("words", words, 0)]), last).fit(rows, kinds)
    found = scoring(model, 1).answer(columns_of(rows, pa.string()))
    expected = model.predict_proba(rows)
    best = np.sort(expected, axis=1)
    assert np.array_equal(found.sure, best[:, -1] - best[:, -2] > 1e-9)
    assert found.sure.any()
    assert found.shares is not None
    assert np.allclose(found.shares, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "last",
    [
        HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=3),
        LogisticRegression(max_iter=3_000),
        SGDClassifier(loss="log_loss", random_state=0),
        RidgeClassifier(),
    ],
)
@pytest.mark.parametrize(
    "encoder",
    [
        OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=3, sparse_output=False),
    ],
)
@pytest.mark.filterwarnings("ignore:Found unknown categories:UserWarning")  # as meant
@pytest.mark.filterwarnings("ignore:Maximum number of iteration")  # it need not be a good model
def test_a_table_is_answered_as_by_the_model(encoder: Any, last: Any, classes: int) -> None:
    is_trees = isinstance(last, HistGradientBoostingClassifier)
    if is_trees and isinstance(encoder, OneHotEncoder):
        return
    numbers: Any = "passthrough" if is_trees else make_pipeline(SimpleImputer(), StandardScaler())
    steps = [
        ("n", numbers, [2, 0]),
        ("r", RobustScaler(), [4]),
        ("w", encoder, [1, 3]),
        ("no", "drop", []),
    ]
    rows = table()
    model = make_pipeline(ColumnTransformer(steps), last).fit(rows, labels(rows, classes))
    rows[:7, 1] = "unheard of"
    found = scoring(model, 5).answer(columns_of(rows, *TYPES))
    assert found.sure.all()
    assert model.classes_[found.outputs].tolist() == model.predict(rows).tolist()
    if hasattr(model, "predict_proba"):
        assert found.shares is not None
        assert np.allclose(found.shares, model.predict_proba(rows), rtol=0, atol=1e-13)


@pytest.mark.parametrize("last", [Ridge(), HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=3)])
def test_a_number_is_answered_as_by_the_model(last: Any) -> None:
    rows = table()
    columns = ColumnTransformer([("n", SimpleImputer(strategy="median"), [0, 2])])
    model = make_pipeline(columns, last).fit(rows, [one[0] + (one[2] or 7.0) for one in rows])
    found = scoring(model, 5).answer(columns_of(rows, *TYPES))
    assert found.sure.all()
    assert np.allclose(found.outputs, model.predict(rows), rtol=1e-12)


def test_what_stands_beside_a_row_changes_no_bit_of_its_answer() -> None:
    rows = table()
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    steps = [("n", SimpleImputer(), [0, 2]), ("w", encoder, [1, 3])]
    for last in (LogisticRegression(max_iter=3_000), HistGradientBoostingClassifier(max_iter=9)):
        asked = scoring(make_pipeline(ColumnTransformer(steps), last).fit(rows, labels(rows, 3)), 5)
        whole = asked.answer(columns_of(rows, *TYPES)).shares
        assert whole is not None
        for place in (0, 13, 399):
            alone = asked.answer(columns_of(rows[place : place + 1], *TYPES)).shares
            assert alone is not None
            assert np.array_equal(whole[place : place + 1], alone)


def test_a_row_that_the_model_refuses_or_ties_is_left_to_it() -> None:
    rows = table()
    steps = [("n", "passthrough", [0]), ("w", OneHotEncoder(), [1])]
    model = make_pipeline(ColumnTransformer(steps), LogisticRegression(max_iter=3_000))
    asked = scoring(model.fit(rows, labels(rows, 2)), 5)
    rows[3, 1] = "unheard of"
    rows[5, 0] = None
    with_null = columns_of(rows, *TYPES)
    assert np.flatnonzero(~asked.answer(with_null).sure).tolist() == [3, 5]
    with pytest.raises(UnsureError):
        asked.answer([with_null[1], *with_null[1:]])
    words = ColumnTransformer([("words", TfidfVectorizer(), 0)])
    model = make_pipeline(words, LogisticRegression()).fit(object_array([["red"], ["blue"]]), LABELS)
    texts = columns_of(object_array([["red"], ["neither"], [None]]), pa.string())
    assert scoring(model, 1).answer(texts).sure.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (LogisticRegression(), "no pipeline of two steps"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "does not begin with a ColumnTransformer"),
        (
            make_pipeline(ColumnTransformer([("n", "passthrough", [0])]), KNeighborsClassifier(1)),
            "KNeighbors",
        ),
        (
            make_pipeline(
                ColumnTransformer([("n", "passthrough", [0])]),
                HistGradientBoostingClassifier(max_leaf_nodes=None, min_samples_leaf=1),
            ),
            "trees of many leaves",
        ),
    ],
)
def test_what_is_not_known_is_not_kept_and_named(model: Any, reason: str) -> None:
    rows = np.arange(300, dtype=np.float64)[:, None]
    kinds = [LABELS[int(place * 7 % 5 > 2)] for place in range(300)]
    with pytest.raises(NotCompiledError, match=reason):
        kept_of(model.fit(rows, kinds), columns=1)


def test_categories_that_are_no_texts_or_numbers_are_not_kept() -> None:
    rows = object_array([[datetime(2026, 1, day, tzinfo=UTC)] for day in (1, 2, 1, 2)])
    days = ColumnTransformer([("day", OrdinalEncoder(), [0])])
    model = make_pipeline(days, LogisticRegression()).fit(rows, [*LABELS, *LABELS])
    with pytest.raises(UnreadableError):
        scoring(model, 1)


def test_it_is_read_without_the_library_and_not_from_another_form() -> None:
    rows = object_array([[text] for text in TITLES])
    kinds = [LABELS[place % 2] for place in range(len(rows))]
    words = ColumnTransformer([("words", TfidfVectorizer(), 0)])
    content = written(kept_of(make_pipeline(words, LogisticRegression()).fit(rows, kinds), columns=1))
    said = subprocess.run(
        [sys.executable, "-c", _ALONE],
        input=json.dumps({"kept": content.hex(), "texts": TITLES}),
        capture_output=True,
        check=True,
        text=True,
    )
    assert json.loads(said.stdout) == {"sure": len(TITLES), "libraries": []}
    with pytest.raises(UnreadableError, match="is of form 99"):
        read(content.replace(b"\xa4form\x01", b"\xa4form\x63"))
    with pytest.raises(UnreadableError, match="cannot be read"):
        read(content.replace(b"<f8", b"|O8"))


_ALONE = """
import json, sys
import pyarrow as pa
from everloop.compiled import Scoring, read
told = json.load(sys.stdin)
found = Scoring.of(read(bytes.fromhex(told["kept"]))).answer([pa.chunked_array([told["texts"]])])
print(json.dumps({"sure": int(found.sure.sum()), "libraries": [one for one in ("sklearn", "scipy") if one in sys.modules]}))
"""
