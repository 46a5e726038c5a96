"""Compiled plans against the scikit-learn models that they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
    TfidfVectorizer,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from everloop.compiled import NotCompiledError, plan_of
from everloop.features.text import FilledText
from tests.serving.home import TITLES, object_array

TOLERANCE = 1e-9


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A few rows are no work for several threads; where others use the cores, they wait for each other."""
    with threadpool_limits(1):
        yield


WORDS = ["cool", "fridge", "big", "door", "freezer", "Straße", "İstanbul", "naïve", "x", "42", "été"]
TEXTS = [*TITLES, "Straße naïve été", "x 42 cool cool cool", "door-to-door", ""]
THREE = ["a", "b", "c", "a", "b", "c", "a", "b", "c", "a"]

rng = np.random.default_rng(3)
ROWS = 240
TABLE = np.empty((ROWS, 5), dtype=object)
TABLE[:, 0] = rng.normal(size=ROWS)
TABLE[:, 1] = rng.integers(-3, 4, size=ROWS)
TABLE[:, 2] = rng.choice(["red", "blue", "green", "rare"], p=[0.4, 0.3, 0.28, 0.02], size=ROWS)
TABLE[:, 3] = rng.choice(["yes", "no"], size=ROWS)
TABLE[:, 4] = rng.normal(5, 20, size=ROWS)
TABLE[rng.random(ROWS) < 0.1, 0] = None
SUMS = np.array([(row[0] or 0) + row[1] + (row[2] == "red") - (row[3] == "no") for row in TABLE])
CLASSES = np.array(["low", "mid", "high"])[np.digitize(SUMS, [-1, 1])]
STRANGE: list[list[Any]] = [
    [None, 2, "red", "yes", 0.5],
    [0.0, -3, "unseen", "no", -1e6],
    [1.5, 100, "blue", "yes", 1e300],
    [-0.0, 0, "", "no", 5.0],
    [float("nan"), 1, "green", "no", 0.1],
]


def same(model: Any, rows: Any) -> int:
    """Hold the plan against the model, rows alone and together; how many rows the plan answers."""
    plan, answered, alone = plan_of(model, columns=rows.shape[1]), [], []
    for row in rows.tolist():
        with suppress(Exception):  # the model is asked then
            alone.append(plan.predict(object_array([row]))[0])
            answered.append(row)
    many = object_array(answered)
    expected = model.predict(many)
    agree(expected, alone)
    agree(expected, plan.predict(many))
    assert (plan.probabilities is not None) == hasattr(model, "predict_proba")
    if plan.probabilities is not None:
        shares = plan.probabilities(many)
        np.testing.assert_allclose(shares, model.predict_proba(many), rtol=0, atol=TOLERANCE)
    return len(answered)


def agree(expected: Any, found: Any) -> None:
    if np.asarray(expected).dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        assert list(found) == list(expected)


def of_texts(vectorizer: Any, ending: Any = None, labels: Any = THREE) -> Any:
    columns = ColumnTransformer([("text", vectorizer, 0)])
    return make_pipeline(columns, ending or LogisticRegression()).fit(
        object_array([[one] for one in TEXTS]), labels
    )


def of_table(ending: Any, *steps: Any, labels: Any = CLASSES) -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    given = steps or (
        ("numbers", numbers, [0, 1, 4]),
        ("words", OneHotEncoder(handle_unknown="ignore"), [2, 3]),
    )
    return make_pipeline(ColumnTransformer(list(given)), ending).fit(TABLE, labels)


VECTORIZERS = {
    "tfidf": TfidfVectorizer(),
    "sublinear, two words": TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1),
    "letters in words": TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)),
    "letters": TfidfVectorizer(analyzer="char", ngram_range=(1, 3), lowercase=False),
    "accents to unicode": TfidfVectorizer(strip_accents="unicode"),
    "accents to ascii": TfidfVectorizer(strip_accents="ascii", token_pattern=r"\w+"),
    "stop words": TfidfVectorizer(stop_words="english"),
    "own stop words": TfidfVectorizer(stop_words=["cool", "door"]),
    "no idf, l1": TfidfVectorizer(use_idf=False, norm="l1"),
    "no norm, binary": TfidfVectorizer(norm=None, binary=True),
    "not smooth": TfidfVectorizer(smooth_idf=False, vocabulary=None),
    "counts": CountVectorizer(),
    "binary counts, two to three words": CountVectorizer(
        binary=True, ngram_range=(2, 3), token_pattern=r"\b\w+\b"
    ),
    "counts, weighed": make_pipeline(CountVectorizer(), TfidfTransformer(sublinear_tf=True)),
    "hashed": HashingVectorizer(n_features=64),
    "hashed, unsigned": HashingVectorizer(
        n_features=256, alternate_sign=False, norm="l1", ngram_range=(1, 2)
    ),
    "hashed, binary": HashingVectorizer(n_features=16, binary=True, norm=None),
    "filled": make_pipeline(FilledText(), TfidfVectorizer()),
}


@pytest.mark.parametrize("kind", VECTORIZERS)
def test_a_text_model_is_answered_as_by_scikit_learn(kind: str) -> None:
    model = of_texts(VECTORIZERS[kind])

    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map(" ".join)), min_size=1, max_size=5)
    )
    def holds(texts: list[str]) -> None:
        rows = object_array([[one] for one in [*texts, *TEXTS]])
        assert same(model, rows) == len(rows)

    holds()


CLASSIFIERS = {
    "logistic": LogisticRegression(C=5),
    "logistic without intercept": LogisticRegression(fit_intercept=False),
    "descent": SGDClassifier(loss="log_loss", random_state=0),
    "descent, hinge": SGDClassifier(random_state=0),
    "vectors": LinearSVC(),
    "ridge": RidgeClassifier(),
    "perceptron": Perceptron(),
    "tree": DecisionTreeClassifier(max_depth=6, random_state=0),
    "forest": RandomForestClassifier(12, random_state=0),
    "random trees": ExtraTreesClassifier(12, random_state=0),
    "boosted": GradientBoostingClassifier(n_estimators=12, random_state=0),
    "histograms": HistGradientBoostingClassifier(max_iter=12, random_state=0),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_on_a_table_is_answered_as_by_scikit_learn(kind: str, classes: int) -> None:
    labels = CLASSES if classes == 3 else np.where(CLASSES == "mid", "low", CLASSES)
    model = of_table(CLASSIFIERS[kind], labels=labels)
    assert same(model, np.vstack((TABLE, object_array(STRANGE)))) >= ROWS + 4


REGRESSORS = {
    "least squares": LinearRegression(),
    "ridge": Ridge(),
    "lasso": Lasso(0.01),
    "descent": SGDRegressor(random_state=0),
    "tree": DecisionTreeRegressor(max_depth=6, random_state=0),
    "forest": RandomForestRegressor(12, random_state=0),
    "boosted": GradientBoostingRegressor(n_estimators=12, random_state=0),
    "histograms": HistGradientBoostingRegressor(max_iter=12, random_state=0),
    "histograms of counts": HistGradientBoostingRegressor(max_iter=12, loss="poisson", random_state=0),
}


@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_number_is_answered_as_by_scikit_learn(kind: str) -> None:
    assert same(of_table(REGRESSORS[kind], labels=np.exp(SUMS / 5)), TABLE) == ROWS


@pytest.mark.parametrize("ending", [ComplementNB(), MultinomialNB(), ComplementNB(norm=True)], ids=str)
@pytest.mark.parametrize("classes", [2, 3])
def test_naive_bayes_is_answered_as_by_scikit_learn(ending: Any, classes: int) -> None:
    labels = THREE if classes == 3 else ["a" if one == "a" else "b" for one in THREE]
    assert same(of_texts(CountVectorizer(), ending, labels), object_array([[one] for one in TEXTS])) == len(
        TEXTS
    )


ORDINAL = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
COLUMNS = {
    "trees that see gaps": (("n", "passthrough", [0, 1]), ("c", OrdinalEncoder(**ORDINAL), [2, 3])),
    "rare categories together": (("c", OrdinalEncoder(**ORDINAL, max_categories=3), [2, 3]),),
    "unknown as nan": (("c", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), [2]),),
    "first dropped": (("c", OneHotEncoder(drop="first"), [2, 3]),),
    "binary dropped, dense": (("c", OneHotEncoder(drop="if_binary", sparse_output=False), [2, 3]),),
    "rare in one column": (("c", OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist"), [2, 3]),),
    "most frequent for gaps": (
        ("n", make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=None), MinMaxScaler()), [0, 1]),
        ("s", make_pipeline(SimpleImputer(strategy="constant", fill_value="?", missing_values=None), OneHotEncoder()), [3]),
    ),
    "scaled three ways": (
        ("a", MaxAbsScaler(), [1]),
        ("b", RobustScaler(), [4]),
        ("c", StandardScaler(with_mean=False), slice(4, 5)),
        ("d", FunctionTransformer(), [1, 4]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_columns_are_made_as_by_scikit_learn(kind: str) -> None:
    model = of_table(HistGradientBoostingClassifier(max_iter=5), *COLUMNS[kind])
    assert same(model, np.vstack((TABLE, object_array(STRANGE)))) >= ROWS


def test_each_of_many_categories_is_known() -> None:
    table = object_array([[f"c{number:04d}"] for number in range(700)])
    columns = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), [0])])
    model = make_pipeline(columns, Ridge(alpha=0.1)).fit(table, np.arange(700.0))
    assert same(model, table) == 700


def test_a_row_that_the_model_refuses_is_not_answered() -> None:
    model = of_table(LogisticRegression(), ("c", OneHotEncoder(), [2, 3]))
    plan = plan_of(model, columns=5)
    for row in ([0.0, 1, "unseen", "yes", 1.0], [0.0, 1, None, "yes", 1.0]):
        with pytest.raises(ValueError, match="unknown categories"):
            model.predict(object_array([row]))
        with pytest.raises(Exception):  # noqa: B017, PT011  (whatever it is, the model is asked)
            plan.predict(object_array([row]))


def test_a_text_with_one_missing_is_left_to_the_model() -> None:
    plan = plan_of(of_texts(TfidfVectorizer()), columns=1)
    with pytest.raises(Exception):  # noqa: B017, PT011
        plan.predict(object_array([[None]]))


def test_a_tie_of_trees_ends_as_in_the_model() -> None:
    """Sums of the same numbers in another order differ in their last digit, and then another class is first."""
    model = RandomForestClassifier(30, max_depth=1, random_state=0)
    table = rng.integers(0, 2, (60, 6)).astype(object)
    model.fit(table, np.array(["a", "b", "c"])[rng.integers(0, 3, 60)])
    rows = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1).T.astype(object)
    plan = plan_of(model, columns=6)
    assert plan.probabilities is not None
    assert np.array_equal(plan.probabilities(rows), model.predict_proba(rows))


def custom(texts: str) -> list[str]:
    return texts.split()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (of_texts(TfidfVectorizer(analyzer=custom)), "TfidfVectorizer has a custom analyzer"),
        (of_texts(TfidfVectorizer(dtype=np.float32)), "TfidfVectorizer counts in float32"),
        (
            of_table(CalibratedClassifierCV(LogisticRegression())),
            "CalibratedClassifierCV is no model that is compiled",
        ),
        (
            of_table(
                LogisticRegression(), ("n", make_pipeline(SimpleImputer(), PolynomialFeatures()), [0, 1])
            ),
            "PolynomialFeatures is no transformer that is compiled",
        ),
        (
            of_table(LogisticRegression(), ("n", SimpleImputer(add_indicator=True), [0])),
            "SimpleImputer adds columns for what is missing",
        ),
        (of_table(SGDClassifier(loss="modified_huber")), "SGDClassifier has the loss modified_huber"),
        (
            of_table(
                HistGradientBoostingClassifier(categorical_features=[0], max_iter=2),
                ("c", OrdinalEncoder(), [2, 3]),
            ),
            "HistGradientBoostingClassifier has categorical features of its own",
        ),
        (
            of_table(GradientBoostingClassifier(init=LogisticRegression(), n_estimators=2)),
            "GradientBoostingClassifier begins with a LogisticRegression",
        ),
    ],
    ids=lambda one: "" if isinstance(one, Pipeline) else one,
)
def test_what_is_not_known_is_not_compiled_and_named(model: Any, reason: str) -> None:
    with pytest.raises(NotCompiledError, match=reason):
        plan_of(model, columns=model.n_features_in_)
