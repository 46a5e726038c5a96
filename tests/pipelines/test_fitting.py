from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from everloop.errors import Invalid
from everloop.pipelines.fitting import best, fit
from everloop.pipelines.values import Model, Split, split, with_facts, with_features
from everloop.serving import Field, Signature


@pytest.fixture(scope="module", autouse=True)
def _scikit_learn() -> None:
    """So that no test's own time holds the seconds of the import."""
    importlib.import_module("sklearn.linear_model")


def colours(labels: list[Any] | None = None) -> Split:
    table = pa.table(
        {
            "_row_id": range(8),
            "title": ["red rose", "red apple", "blue sky", "blue sea"] * 2,
            "price": [1.0, 2.0, 30.0, None] * 2,
            "label": labels or ["r", "r", "b", "b"] * 2,
        }
    )
    return Split(table.slice(0, 4), table.slice(4), ("title", "price"))


def on_titles(data: Split, last: Any = None) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = ColumnTransformer([("title", TfidfVectorizer(), data.position("title"))])
    return make_pipeline(words, last or LogisticRegression())


def with_rules(data: Split, **rules: Any) -> Split:
    """The split as of a dataset whose schema says this of its columns."""
    train, test = (with_facts(part, rules=rules) for part in (data.train, data.test))
    return Split(train, test, data.inputs)


def a_model(**metrics: float) -> Model:
    return Model(lambda: None, Signature((), "number"), metrics, pa.table({}), "split")


def test_a_models_signature_has_the_rules_of_the_datasets_schema_and_says_so() -> None:
    data = with_rules(
        colours(),
        title={"max_length": 40, "allowed": ["red rose", "blue sky"]},
        price={"minimum": 0.0, "maximum": 99.0},
    )
    title, price = fit(on_titles(data), data).signature.inputs
    assert title == Field(
        "title", "string", allowed=("red rose", "blue sky"), longest=40, from_schema=("allowed", "longest")
    )
    assert price == Field(
        "price", "number", nullable=True, minimum=0.0, maximum=99.0, from_schema=("maximum", "minimum")
    )


def test_values_that_the_schema_does_not_name_are_passed_where_that_is_said() -> None:
    data = with_rules(colours(), title={"allowed": ["red rose"]})
    model = fit(on_titles(data), data, unseen={"title": "pass"})
    assert model.signature.inputs[0].unseen == "pass"
    with pytest.raises(Invalid, match="of an input whose schema names the allowed values: title"):
        fit(on_titles(data), data, unseen={"price": "pass"})


def test_a_classifier_is_fitted_and_judged() -> None:
    data = colours()
    model = fit(on_titles(data), data)
    assert model.metrics == {"accuracy": 1.0, "macro_f1": 1.0, "weighted_f1": 1.0}
    assert model.signature == Signature(
        (Field("title", "string"), Field("price", "number", nullable=True)), "class", ("b", "r")
    )
    assert model.classes == ("b", "r")
    assert model.split_ref == data.digest
    assert model.per_class is not None
    assert model.per_class["support"].to_pylist() == [2, 2]


def test_a_model_and_a_split_show_themselves_in_a_notebook() -> None:
    data = colours()
    model = fit(on_titles(data), data)
    assert f"{model.metrics['accuracy']:.4g}" in model._repr_html_()
    assert "accuracy" in model._repr_html_()
    assert f"{data.train.num_rows:,} rows" in data._repr_html_()


def test_the_evaluation_holds_each_test_row_with_its_answer_and_score() -> None:
    data = colours()
    model = fit(on_titles(data), data)
    assert model.evaluation.column_names == ["_row_id", "label", "predicted", "score"]
    assert model.evaluation["_row_id"].to_pylist() == [4, 5, 6, 7]
    probabilities = model.estimator.predict_proba(data.x_test)
    assert model.evaluation["score"].to_pylist() == pytest.approx(probabilities.max(axis=1).tolist())


def test_the_columns_of_the_test_rows_are_computed_once() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    seen: list[int] = []

    def prices(x: Any) -> Any:
        seen.append(len(x))
        return np.nan_to_num(x[:, 1:].astype(float))

    data = colours()
    model = fit(make_pipeline(FunctionTransformer(prices), LogisticRegression()), data)
    assert seen == [4, 4]
    assert model.evaluation["predicted"].to_pylist() == model.estimator.predict(data.x_test).tolist()


def test_the_estimator_given_is_left_as_it_was() -> None:
    data = colours()
    given = on_titles(data)
    fit(given, data)
    assert not hasattr(given[-1], "classes_")


def test_a_classifier_without_probabilities_has_no_scores() -> None:
    from sklearn.svm import LinearSVC

    data = colours()
    assert fit(on_titles(data, LinearSVC()), data).evaluation["score"].null_count == 4


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([1, 1, 0, 0] * 2, ("0", "1")), ([True, True, False, False] * 2, ("False", "True"))],
)
def test_classes_are_told_as_texts(labels: list[Any], classes: tuple[str, ...]) -> None:
    data = colours(labels)
    model = fit(on_titles(data), data)
    assert model.classes == classes
    assert model.evaluation["label"].to_pylist() == [str(value) for value in labels[4:]]


def test_a_regressor_is_judged_by_its_errors() -> None:
    from sklearn.dummy import DummyRegressor

    data = colours([1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 4.0])
    model = fit(DummyRegressor(), data)
    assert model.metrics == pytest.approx({"r2": -0.2, "mae": 1.0, "rmse": math.sqrt(1.5)})
    assert (model.signature.output, model.classes, model.per_class) == ("number", None, None)
    assert model.evaluation["predicted"].to_pylist() == [2.0] * 4
    assert model.evaluation["score"].null_count == 4


def test_whole_numbers_are_numbers_to_a_regressor_and_classes_to_a_classifier() -> None:
    from sklearn.dummy import DummyClassifier, DummyRegressor

    data = colours([1, 2, 3, 2, 1, 2, 3, 4])
    assert fit(DummyRegressor(), data).signature.output == "number"
    assert fit(DummyClassifier(), data).classes == ("1", "2", "3")


def test_features_follow_the_inputs() -> None:
    from sklearn.dummy import DummyClassifier

    data = colours()
    train = with_features(data.train, {"volume": pa.array([1, 2, 3, 4])})
    test = with_features(data.test, {"volume": pa.array([5, 6, None, 8])})
    model = fit(DummyClassifier(), Split(train, test, ("title",), features=("volume",)))
    assert model.signature.inputs == (Field("title", "string"),)
    assert model.feature_fields == (Field("volume", "integer", nullable=True),)
    assert model.features == ("volume",)


def test_further_metrics_are_computed_from_labels_and_answers() -> None:
    data = colours()
    model = fit(on_titles(data), data, metrics={"reds": lambda _labels, answers: np.mean(answers == "r")})
    assert model.metrics["reds"] == 0.5
    with pytest.raises(Invalid, match="'bad' gave a list"):
        fit(on_titles(data), data, metrics={"bad": lambda _labels, _answers: []})  # type: ignore[dict-item, return-value]


def test_the_best_model_has_the_highest_score_or_the_lowest_error() -> None:
    low, high = a_model(macro_f1=0.7, mae=0.1), a_model(macro_f1=0.9, mae=0.3)
    assert best([low, high], by="macro_f1") is high
    assert best([low, high], by="mae") is low
    assert best([low, high], by="mae", highest=True) is high


def test_the_first_of_equals_is_best_and_nan_never_is() -> None:
    models = [a_model(macro_f1=value) for value in (math.nan, 0.8, 0.8, 0.1)]
    assert best(models, by="macro_f1") is models[1]
    assert best(models, by="macro_f1", highest=False) is models[3]


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ([], "no best of 0 models"),
        ([a_model(macro_f1=math.nan)], "none has a number"),
        ([a_model(accuracy=1)], "no metric 'macro_f1'; it has accuracy"),
    ],
)
def test_there_is_no_best_of_nothing(models: list[Model], problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        best(models, by="macro_f1")


def test_real_titles_are_classified_with_95_percent_accuracy(shared_data: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    folder = shared_data / "marketplace"
    parts = []
    for name, first in (("seed_labelled", 0), ("seed_validation", 1_000_000)):
        table = pq.read_table(folder / f"{name}.parquet").rename_columns({"category": "label"})
        parts.append(table.append_column("_row_id", pa.array(range(first, first + table.num_rows))))
    data = Split(parts[0], parts[1], ("title", "merchant_id"), group="product_id")
    model = fit(on_titles(data, LogisticRegression(C=20)), data)
    assert model.metrics["accuracy"] == pytest.approx(0.95, abs=0.005)
    assert model.classes is not None
    assert len(model.classes) == 10


def test_real_titles_are_split_by_product_and_classified(shared_data: Path) -> None:
    rows = pq.read_table(shared_data / "marketplace" / "seed_labelled.parquet")
    rows = rows.append_column("_row_id", pa.array(range(rows.num_rows)))
    labels = rows.select(["_row_id", "category"]).rename_columns(["_row_id", "label"])
    data = split(rows, labels, by="product_id", inputs=["title"])
    assert not set(data.train["product_id"].to_pylist()) & set(data.test["product_id"].to_pylist())
    assert fit(on_titles(data), data).metrics["accuracy"] == pytest.approx(0.945, abs=0.02)
