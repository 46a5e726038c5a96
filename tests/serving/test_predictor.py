from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from everloop.errors import GateFailed, Invalid, NotFound
from everloop.serving import Failure, Field, Manifest, Predictor, untrusted_types
from everloop.serving.trusted import PREDICTS_THE_MOST_PROBABLE
from everloop.storage import FileBlobs
from tests.serving.home import object_array, picky_model, title_model, write_blob, write_release

NUMBERS = (Field("a", "number"), Field("b", "number"))
rng = np.random.default_rng(7)
X = rng.integers(0, 5, (300, 2)).astype(object)
Y = np.array(["x", "y", "z"])[(X.astype(float).sum(axis=1) / 3.5).astype(int)]


def load(home: Path, model: Any, **given: Any) -> Predictor:
    return Predictor.load(write_release(home, "rel_1", model, **given), FileBlobs(home / "blobs"))


def test_answers_classes_with_the_three_highest_scores(tmp_path: Path) -> None:
    outputs, scores = load(tmp_path, title_model()).predict(object_array([["a fridge"], ["a freezer"]]))
    assert outputs == ["Fridges", "Freezers"]
    assert list(scores[0]) == ["Fridges", "Freezers"]
    assert sum(scores[0].values()) == pytest.approx(1)
    assert all(type(value) is float for value in scores[0].values())


def test_many_classes_have_three_scores(tmp_path: Path) -> None:
    classes = tuple(f"c{number}" for number in range(9))
    model = GaussianNB().fit(np.repeat(np.arange(18.0).reshape(9, 2), 2, axis=0), np.repeat(classes, 2))
    _, scores = load(tmp_path, model, inputs=NUMBERS, classes=classes).predict(object_array([[8.0, 9.0]]))
    assert len(scores[0]) == 3


def test_answers_numbers(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0, 1], [1, 0], [2, 2]], [1.0, 2.0, 5.0])
    outputs, scores = load(tmp_path, model, inputs=NUMBERS, classes=None).predict(
        object_array([[2, 2], [0, 1]])
    )
    assert outputs == pytest.approx([5.0, 1.0])
    assert scores == [{}, {}]


def test_a_number_that_is_none_is_a_failure_of_its_row(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0, 1], [1, 0], [2, 2]], [1.0, 2.0, 5.0])
    model.intercept_ = np.inf
    answers = load(tmp_path, model, inputs=NUMBERS, classes=None).answer([[0.0, 0.0]])
    assert answers == [Failure("ValueError", "the model returned inf")]


def test_a_classifier_without_probabilities_answers_without_scores(tmp_path: Path) -> None:
    predictor = load(tmp_path, LinearSVC().fit(X, Y), inputs=NUMBERS, classes=("x", "y", "z"))
    outputs, scores = predictor.predict(X)
    assert outputs == list(predictor.model.predict(X))
    assert scores == [{}] * 300


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(
    "model",
    [
        BernoulliNB(),
        CategoricalNB(),
        ComplementNB(),
        DecisionTreeClassifier(max_depth=2),
        ExtraTreesClassifier(n_estimators=5, max_depth=2, random_state=0),
        GaussianNB(),
        HistGradientBoostingClassifier(max_iter=3),
        LinearDiscriminantAnalysis(),
        LogisticRegression(),
        MLPClassifier((4,), max_iter=5, tol=10, random_state=0),
        MultinomialNB(),
        RandomForestClassifier(n_estimators=5, max_depth=2, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_most_probable_class_is_what_the_model_itself_predicts(tmp_path: Path, model: Any) -> None:
    """For each classifier whose `predict` is skipped; ties included, the inputs are few whole numbers."""
    assert type(model).__name__ in PREDICTS_THE_MOST_PROBABLE
    predictor = load(tmp_path, model.fit(X, Y), inputs=NUMBERS, classes=("x", "y", "z"))
    assert predictor.model.takes_most_probable
    assert predictor.predict(X)[0] == list(model.predict(X))


def test_any_other_classifier_is_asked_itself(tmp_path: Path) -> None:
    model = KNeighborsClassifier(2).fit(
        X, Y
    )  # its ties go elsewhere than the first of equal probabilities may
    predictor = load(tmp_path, model, inputs=NUMBERS, classes=("x", "y", "z"))
    assert not predictor.model.takes_most_probable
    assert predictor.predict(X)[0] == list(model.predict(X))


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (GaussianNB().fit(X, Y), ("x", "y", "z")),
        (KNeighborsClassifier(2).fit(X, Y), ("x", "y", "z")),
        (LinearSVC().fit(X, Y), ("x", "y", "z")),
        (LinearRegression().fit(X, X.sum(axis=1)), None),
    ],
    ids=lambda one: type(one).__name__,
)
def test_in_arrays_it_says_of_many_rows_what_it_says_of_each(
    tmp_path: Path, model: Any, classes: tuple[str, ...] | None
) -> None:
    predictor = load(tmp_path, model, inputs=NUMBERS, classes=classes)
    outputs, scores = predictor.predict(X)
    found = predictor.ranked(X)
    assert found is not None
    assert found.outputs.tolist() == outputs
    if found.best is None or found.shares is None:
        assert scores == [{}] * 300
        return
    for each, best, shares in zip(scores, found.best, found.shares, strict=True):
        assert dict(zip(found.classes[best], shares, strict=True)) == pytest.approx(each)


def test_in_arrays_there_is_nothing_where_one_row_fails(tmp_path: Path) -> None:
    predictor = load(tmp_path, picky_model(), inputs=(Field("title", "string"), Field("colour", "string")))
    assert predictor.ranked(object_array([["fridge", "red"], ["fridge", "green"]])) is None
    endless = LinearRegression().fit([[0, 1], [1, 0], [2, 2]], [1.0, 2.0, 5.0])
    endless.intercept_ = np.inf
    assert load(tmp_path / "other", endless, inputs=NUMBERS, classes=None).ranked(X) is None


def test_columns_are_asked_only_where_they_are_answered_as_rows_are(tmp_path: Path) -> None:
    rows = object_array([["fridge", "red"], ["freezer", "white"], ["fridge", "white"]])
    columns = [pa.chunked_array([pa.array(rows[:, place].tolist())]) for place in (0, 1)]
    predictor = load(tmp_path, picky_model(), inputs=(Field("title", "string"), Field("colour", "string")))
    found = predictor.ranked_columns(columns)
    assert found is not None
    assert found.outputs.tolist() == predictor.predict(rows)[0]
    assert predictor.ranks_alike(columns, rows)
    assert not predictor.ranks_alike(columns, rows[::-1])  # other answers
    assert not predictor.ranks_alike(columns, object_array([["fridge", "green"]] * 3))  # refused


def test_a_model_of_other_columns_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="takes 2 columns, its signature and features give 1"):
        load(tmp_path, picky_model())


def test_a_row_that_the_model_refuses_fails_alone(tmp_path: Path) -> None:
    inputs = (Field("title", "string"), Field("colour", "string"))
    predictor = load(tmp_path, picky_model(), inputs=inputs)
    answers = predictor.answer([["fridge", "red"], ["fridge", "green"], ["freezer", "white"]])
    assert [answer[0] if isinstance(answer, tuple) else answer.kind for answer in answers] == [
        "Fridges",
        "ValueError",
        "Freezers",
    ]
    assert isinstance(answers[1], Failure)
    assert "green" in answers[1].text


def test_a_changed_file_is_not_loaded(tmp_path: Path) -> None:
    manifest = write_release(tmp_path, "rel_1", title_model())
    digest = manifest.files["model.skops"]
    path = tmp_path / "blobs" / digest[:2] / digest[2:]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(GateFailed, match="was changed or damaged"):
        Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))
    path.unlink()
    with pytest.raises(NotFound, match="is not among the blobs"):
        Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))


def square(values: Any) -> Any:
    return values**2


def test_a_model_with_code_of_its_own_is_not_loaded(tmp_path: Path) -> None:
    content = skops.io.dumps(make_pipeline(FunctionTransformer(square), LogisticRegression()))
    with pytest.raises(GateFailed, match="may run code"):
        untrusted_types(content)
    digest = write_blob(tmp_path, content)
    manifest = msgspec.structs.replace(
        write_release(tmp_path, "rel_1", title_model()),
        files={"model.skops": digest},
        trusted_types=("tests.serving.test_predictor.square",),
    )
    with pytest.raises(GateFailed, match="square"):
        Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))


def test_audited_types_must_be_named_by_the_manifest_too(tmp_path: Path) -> None:
    model = DecisionTreeClassifier().fit(X, Y)
    manifest = write_release(tmp_path, "rel_1", model, inputs=NUMBERS, classes=("x", "y", "z"))
    assert manifest.trusted_types == ("sklearn.tree._tree.Tree",)
    with pytest.raises(GateFailed, match="does not name as trusted"):
        Predictor.load(msgspec.structs.replace(manifest, trusted_types=()), FileBlobs(tmp_path / "blobs"))


def wrong_flavor(home: Path, manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, flavor="onnx")


def two_models(home: Path, manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(
        manifest, files={**manifest.files, "b.skops": manifest.files["model.skops"]}
    )


def no_skops_file(home: Path, manifest: Manifest) -> Manifest:
    return msgspec.structs.replace(manifest, files={"model.skops": write_blob(home, b"something else")})


def other_classes(home: Path, manifest: Manifest) -> Manifest:
    signature = msgspec.structs.replace(manifest.signature, classes=("Fridges", "Freezers"))
    return msgspec.structs.replace(manifest, signature=signature)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (wrong_flavor, "of flavor 'onnx'"),
        (two_models, "its files are of flavor 'other'"),
        (no_skops_file, "no skops file"),
        (other_classes, "knows the classes Freezers, Fridges"),
    ],
)
def test_a_release_that_cannot_be_is_not_loaded(tmp_path: Path, spoil: Any, message: str) -> None:
    manifest = spoil(tmp_path, write_release(tmp_path, "rel_1", title_model()))
    with pytest.raises(Invalid, match=message):
        Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))


def test_batches_answer_as_single_rows_do(tmp_path: Path) -> None:
    predictor = load(tmp_path, title_model())
    rows = [
        [f"{title} {number}"] for number in range(20) for title in ("fridge door", "freezer", "something")
    ]
    together = predictor.predict(object_array(rows))
    alone = [predictor.predict(object_array([row])) for row in rows]
    assert together[0] == [outputs[0] for outputs, _ in alone]
    for scores, (_, single) in zip(together[1], alone, strict=True):
        assert scores == pytest.approx(single[0])


def test_the_estimators_here_are_all_of_the_table() -> None:
    tested = test_the_most_probable_class_is_what_the_model_itself_predicts.pytestmark[0].args[1]
    assert {type(model).__name__ for model in tested} == PREDICTS_THE_MOST_PROBABLE
    assert all(isinstance(model, BaseEstimator) for model in tested)
