"""Contributions by hand, and that they always add up to what the model says itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from everloop.explaining import Explanation, NotExplainedError, taken_apart

NAMES = ["title", "price", "colour"]
rng = np.random.default_rng(3)
WORDS = ["fridge", "freezer", "steel", "white", "big", "small"]
ROWS = np.empty((200, 3), dtype=object)
ROWS[:] = [
    [" ".join(rng.choice(WORDS, 3)), float(rng.normal()), str(rng.choice(["red", "white", "blue"]))]
    for _ in range(200)
]
TWO = np.array(["yes" if "steel" in row[0] or row[1] > 0 else "no" for row in ROWS])
THREE = np.array(["dear" if row[1] > 0.7 else one for row, one in zip(ROWS, TWO, strict=True)])
NUMBER = np.array([row[1] * 2 + ("big" in row[0]) for row in ROWS], dtype=float)


def columns(**given: Any) -> ColumnTransformer:
    parts = [
        ("words", TfidfVectorizer(), 0),
        ("price", make_pipeline(SimpleImputer(), StandardScaler()), [1]),
        ("colour", OneHotEncoder(handle_unknown="ignore"), [2]),
    ]
    return ColumnTransformer(parts, **given)


def explained(model: Any, row: Any, *, names: list[str] | None = None) -> Explanation:
    answer = model.predict(row)[0]
    classes = getattr(model, "classes_", None)
    place = 0 if classes is None else classes.tolist().index(answer)
    return taken_apart(model, names or NAMES).explain(row, place, None if classes is None else str(answer))


def by_name(found: Explanation) -> dict[str, float]:
    return {one.input: one.contribution for one in found.contributions}


def parts(found: Explanation, name: str) -> dict[str, float]:
    (one,) = [one for one in found.contributions if one.input == name]
    return {part.part: part.contribution for part in one.parts}


def test_a_linear_models_contributions_are_weights_times_numbers() -> None:
    model = LinearRegression().fit([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [5.0, 7.0, 2.0])  # 5 + 2a - 3b
    found = explained(model, np.array([[4.0, 1.0]]), names=["a", "b"])
    assert (found.method, found.of, found.label) == ("linear", "the number", None)
    assert found.base == pytest.approx(5.0)
    assert by_name(found) == pytest.approx({"a": 8.0, "b": -3.0})
    assert found.score == pytest.approx(10.0)


def test_each_word_and_category_is_named_with_its_weight() -> None:
    columns = ColumnTransformer([("words", CountVectorizer(), 0), ("colour", OneHotEncoder(), [1])])
    model = make_pipeline(columns, LogisticRegression())
    rows = np.array([["cool fridge", "red"], ["deep freezer", "white"], ["fridge", "white"]], dtype=object)
    model.fit(rows, ["Fridges", "Freezers", "Fridges"])
    weights = dict(zip(model[0].get_feature_names_out(), model[1].coef_[0], strict=True))
    row = np.array([["fridge cool fridge", "red"]], dtype=object)
    found = explained(model, row, names=["title", "colour"])
    assert (found.of, found.label) == ("log-odds", "Fridges")
    assert parts(found, "title") == pytest.approx(
        {"fridge": 2 * weights["words__fridge"], "cool": weights["words__cool"]}
    )
    assert parts(found, "colour") == pytest.approx({"red": weights["colour__x1_red"]})
    assert found.score == pytest.approx(model.decision_function(row)[0], abs=1e-12)


def test_the_first_of_two_classes_is_explained_with_its_own_sign() -> None:
    model = make_pipeline(columns(), LogisticRegression()).fit(ROWS, TWO)
    row = ROWS[TWO == "no"][:1]
    found = explained(model, row)
    assert found.label == "no"
    assert found.score == pytest.approx(-model.decision_function(row)[0])
    assert found.score > 0


def test_a_trees_contributions_are_what_each_split_changes() -> None:
    # price below 1: 0, 0; from 1 on by colour: 4 (red) or 10 (else), so that the root expects 3.5 and the split node 7
    rows = np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 0.0], [2.0, 1.0]])
    model = DecisionTreeRegressor().fit(rows, [0.0, 0.0, 4.0, 10.0])
    found = explained(model, np.array([[2.0, 1.0]]), names=["price", "is_red"])
    assert found.method == "tree paths"
    assert (found.base, found.score) == (3.5, 10.0)
    assert by_name(found) == {"price": 3.5, "is_red": 3.0}


def test_a_boosted_trees_nodes_expect_the_mean_of_the_leaves_below() -> None:
    rows = np.array([[0.0], [0.0], [0.0], [1.0]])
    model = GradientBoostingRegressor(n_estimators=1, learning_rate=0.5).fit(rows, [0.0, 0.0, 0.0, 8.0])
    found = explained(model, np.array([[1.0]]), names=["x"])  # starts at 2; the leaves are -2 (3 rows) and 6
    assert (found.base, found.score) == pytest.approx((2.0, 5.0))
    assert by_name(found) == pytest.approx({"x": 3.0})


CLASSIFIERS = [
    LogisticRegression(),
    RidgeClassifier(),
    LinearSVC(),
    DecisionTreeClassifier(max_depth=5),
    RandomForestClassifier(10, random_state=0),
    ExtraTreesClassifier(10, random_state=0),
    GradientBoostingClassifier(n_estimators=5),
    HistGradientBoostingClassifier(max_iter=5),
]
REGRESSORS = [
    Ridge(),
    RandomForestRegressor(10, random_state=0),
    GradientBoostingRegressor(n_estimators=5),
    HistGradientBoostingRegressor(max_iter=5, loss="squared_error"),
]


@pytest.mark.parametrize(
    ("model", "labels"),
    [
        *((one, labels) for one in CLASSIFIERS for labels in (TWO, THREE)),
        *((one, NUMBER) for one in REGRESSORS),
    ],
    ids=lambda one: type(one).__name__ if hasattr(one, "fit") else str(len(set(one.tolist()))),
)
def test_base_and_contributions_add_up_to_the_models_own_score(model: Any, labels: Any) -> None:
    fitted = make_pipeline(columns(sparse_threshold=0), clone(model)).fit(ROWS, labels)
    for number in range(10):
        found = explained(fitted, ROWS[number : number + 1])
        assert found.base + sum(by_name(found).values()) == pytest.approx(found.score, abs=1e-9)
        for one in found.contributions:
            if one.parts:
                told = one.rest + sum(part.contribution for part in one.parts)
                assert told == pytest.approx(one.contribution, abs=1e-9)


def test_a_missing_number_goes_the_way_that_the_tree_learnt() -> None:
    rows = np.array([[0.0], [1.0], [np.nan], [np.nan]] * 10)
    model = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=1).fit(rows, [0.0, 1.0, 9.0, 9.0] * 10)
    found = explained(model, np.array([[np.nan]]), names=["x"])
    assert found.score == pytest.approx(model.predict([[np.nan]])[0])


@pytest.mark.parametrize(
    "before",
    [
        FeatureUnion([("words", CountVectorizer()), ("pairs", TfidfVectorizer(ngram_range=(2, 2)))]),
        make_pipeline(CountVectorizer(), SelectKBest(k=3)),
        HashingVectorizer(n_features=64),
        make_pipeline(TfidfVectorizer(), PCA(2)),
    ],
    ids=["side by side", "selected", "hashed", "mixed within a column"],
)
def test_numbers_are_followed_back_to_their_column(before: Any) -> None:
    words = ColumnTransformer([("words", before, 0), ("price", "passthrough", [1])])
    found = explained(make_pipeline(words, LogisticRegression()).fit(ROWS, TWO), ROWS[:1])
    assert found.base + sum(by_name(found).values()) == pytest.approx(found.score, abs=1e-9)
    assert by_name(found)["title"] != 0
    assert by_name(found)["colour"] == 0  # which the model does not take


def test_rare_and_dropped_categories_keep_their_names() -> None:
    encoder = OneHotEncoder(drop="first", min_frequency=50, handle_unknown="ignore", sparse_output=False)
    rows = np.array([["a"]] * 60 + [["b"]] * 60 + [["c"]] * 5 + [["d"]] * 5, dtype=object)
    labels = ["no"] * 60 + ["yes"] * 70
    model = make_pipeline(encoder, LogisticRegression()).fit(rows, labels)
    assert set(parts(explained(model, np.array([["b"]], dtype=object), names=["kind"]), "kind")) == {"b"}
    rare = parts(explained(model, np.array([["d"]], dtype=object), names=["kind"]), "kind")
    assert set(rare) == {"infrequent_sklearn"}


def test_what_mixes_columns_or_is_another_model_is_said_by_name() -> None:
    mixing = make_pipeline(StandardScaler(), PCA(2), LogisticRegression())
    rows = rng.normal(size=(40, 3))
    mixing.fit(rows, rows[:, 0] > 0)
    with pytest.raises(NotExplainedError, match="PCA mixes several columns"):
        explained(mixing, rows[:1])
    with pytest.raises(NotExplainedError, match="KNeighborsClassifier is neither linear nor made of trees"):
        taken_apart(KNeighborsClassifier().fit(rows, rows[:, 0] > 0), NAMES)
