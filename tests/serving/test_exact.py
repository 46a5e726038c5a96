"""A compiled plan is used when it was verified at the release and is as good here; else the model itself answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from everloop.compiled import Plan, plan_of
from everloop.serving import Failure, Field, Manifest, Predictor, read_manifest, write_manifest
from everloop.serving import exact as room
from everloop.serving.exact import Quick, compare
from everloop.serving.made_up import made_up
from everloop.serving.predictor import verified_files
from everloop.serving.tryout import Asked, compared
from everloop.storage import FileBlobs
from tests.serving.home import TITLES, go_live, object_array, picky_model, title_model, write_release
from tests.serving.server import Server

NUMBERS = (Field("a", "number"), Field("b", "number", nullable=True))
rng = np.random.default_rng(5)
X = rng.normal(size=(200, 2)).astype(object)
Y = np.where(X.sum(axis=1) > 0, "x", "y")


def released(home: Path, model: Any, real: list[list[Any]] | None = None, **given: Any) -> Manifest:
    """A release whose plan was compared as the registry does it, but in this process."""
    blobs = FileBlobs(home / "blobs")
    manifest = write_release(home, "rel_1", model, **given)
    asked = Asked(verified_files(manifest, blobs), manifest=manifest, rows=real or [])
    *_, (compiled, columns, onnx) = compared(asked)
    for content in (columns, onnx):
        blobs.put(content)
    manifest = msgspec.structs.replace(manifest, compiled=compiled)
    (home / "serving" / "releases" / "rel_1.json").unlink()
    write_manifest(home / "serving", manifest)
    return manifest


def load(home: Path, manifest: Manifest, **given: Any) -> Predictor:
    return Predictor.load(manifest, FileBlobs(home / "blobs"), **given)


def test_what_was_compared_stands_in_the_manifest_and_the_plan_answers(tmp_path: Path) -> None:
    manifest = released(tmp_path, title_model(), [[title] for title in TITLES])
    compiled = manifest.compiled
    assert compiled is not None
    assert (compiled.is_used, compiled.reason, compiled.digest) == (True, "", manifest.digest)
    assert (compiled.rows, compiled.real_rows, compiled.left) == (len(TITLES) + 256, len(TITLES), 0)
    assert compiled.difference < 1e-12
    predictor = load(tmp_path, manifest)
    assert predictor.path == "compiled"
    original = load(tmp_path, manifest, is_compiled=False)
    assert original.path == "original: the setting compiled_models is off"
    rows = [[title] for title in TITLES]
    for answer, expected in zip(predictor.answer(rows), original.answer(rows), strict=True):
        assert isinstance(answer, tuple)
        assert isinstance(expected, tuple)
        assert answer[0] == expected[0]
        assert answer[1] == pytest.approx(expected[1], abs=1e-9)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"digest": "another"}, "is not the one of this everloop"),
        ({"rules": 0}, "is not the one of this everloop"),
        ({"library": "0.1"}, "compared with scikit-learn 0.1, here is"),
        ({"is_used": False, "reason": "it differed"}, "it differed"),
    ],
)
def test_a_comparison_of_something_else_does_not_count(
    tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    manifest = released(tmp_path, title_model())
    assert manifest.compiled is not None
    other = msgspec.structs.replace(manifest.compiled, **changed)
    predictor = load(tmp_path, msgspec.structs.replace(manifest, compiled=other))
    assert predictor.path.startswith("original: ")
    assert reason in predictor.path
    assert load(tmp_path, msgspec.structs.replace(manifest, compiled=None)).path.startswith(
        "original: it was released"
    )


def shifted(by: float) -> Callable[..., Plan]:
    """A plan maker whose plans are wrong by so much."""

    def made(model: Any, *, columns: int) -> Plan:
        plan = plan_of(model, columns=columns)
        shares = plan.probabilities
        assert shares is not None
        return Plan(plan.predict, lambda rows: shares(rows) + by)

    return made


def test_a_plan_that_differs_is_found_and_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "plan_of", shifted(2e-9))
    compiled = released(tmp_path, title_model()).compiled
    assert compiled is not None
    assert (compiled.is_used, compiled.rows) == (False, 1)
    assert compiled.reason.startswith("the plan differs from the model in row 1, by 2e-09")


def test_a_plan_that_gives_another_class_is_found_and_the_manifest_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = plan_of(title_model(reverse=True), columns=1)
    monkeypatch.setattr(room, "plan_of", lambda model, *, columns: other)
    released(tmp_path, title_model(), [[title] for title in TITLES])
    compiled = read_manifest(tmp_path / "serving", "rel_1").compiled
    assert compiled is not None
    assert compiled.reason.startswith("the plan gives another answer than the model in row 1")


def test_a_plan_that_differs_only_here_is_found_when_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = released(tmp_path, title_model())
    monkeypatch.setattr(room, "plan_of", shifted(1e-3))
    with caplog.at_level(logging.WARNING):
        predictor = load(tmp_path, manifest)
    assert predictor.path == "original: the plan differs from the model in row 1, by 0.001"
    assert (
        "release rel_1 is answered by its model, not by what was compared with it: the plan differs"
        in caplog.text
    )
    assert predictor.answer([["a fridge"]])[0][0] == "Fridges"  # type: ignore[index]


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    model, other = title_model(), title_model()
    words = other.steps[0][1].transformers_[0][1]
    words._tfidf.idf_ = words.idf_ * np.linspace(1, 1.01, len(words.idf_))
    manifest = write_release(tmp_path, "rel_1", model)
    loaded = load(tmp_path, manifest).model
    found = compare(plan_of(other, columns=1), loaded, [[title] for title in TITLES])
    assert "differs from the model in row 1" in found.problem


def test_a_plan_that_answers_what_the_model_refuses_is_not_used(tmp_path: Path) -> None:
    def answers_all(rows: Any) -> Any:
        return np.array(["Fridges"] * len(rows))

    loaded = load(tmp_path, write_release(tmp_path, "rel_1", title_model())).model
    plan = Plan(answers_all, lambda rows: np.tile([0.0, 1.0], (len(rows), 1)))
    assert compare(plan, loaded, [[None]]).problem == "row 1 is refused by the model and answered by the plan"


def test_what_is_not_compiled_says_why(tmp_path: Path) -> None:
    model = KNeighborsClassifier(3).fit(X, Y)
    manifest = released(tmp_path, model, inputs=NUMBERS, classes=("x", "y"))
    path = load(tmp_path, manifest).path
    assert path.startswith("original: KNeighborsClassifier is no model that is compiled")


def test_numbers_are_compared_relative_to_their_size(tmp_path: Path) -> None:
    model = LinearRegression().fit(X, X.sum(axis=1).astype(float) * 1e12)
    manifest = released(
        tmp_path, model, X.tolist(), inputs=(Field("a", "number"), Field("b", "number")), classes=None
    )
    assert manifest.compiled is not None
    assert manifest.compiled.is_used
    assert load(tmp_path, manifest).answer([[1.0, 2.0]])[0][0] == pytest.approx(3e12)  # type: ignore[index]


def test_a_row_that_the_plan_leaves_is_answered_or_refused_by_the_model(tmp_path: Path) -> None:
    inputs = (Field("title", "string"), Field("colour", "string"))
    rows = [[title, "red"] for title in TITLES] * 5
    manifest = released(tmp_path, picky_model(), rows, inputs=inputs)
    predictor = load(tmp_path, manifest)
    assert predictor.predict_at_once([["fridge", "green"]]) is None
    answers = predictor.answer([["fridge", "red"], ["fridge", "green"]])
    assert isinstance(answers[0], tuple)
    assert isinstance(answers[1], Failure)
    assert "Found unknown categories" in answers[1].text


def test_a_model_that_refuses_unknown_categories_is_compared_on_known_ones(tmp_path: Path) -> None:
    columns = [OneHotEncoder(), OneHotEncoder(), OneHotEncoder()]
    table = object_array([[a, b, c] for a in "uvw" for b in "xy" for c in (1, 2, 3)])
    encoders = ColumnTransformer([(str(place), one, [place]) for place, one in enumerate(columns)])
    model = make_pipeline(encoders, LogisticRegression()).fit(table, ["x", "y", "y"] * 6)
    inputs = (Field("a", "string"), Field("b", "string"), Field("c", "integer"))
    manifest = released(tmp_path, model, inputs=inputs, classes=("x", "y"))
    assert load(tmp_path, manifest).path == "compiled"


def test_batches_in_which_the_model_is_quicker_are_the_models(tmp_path: Path) -> None:
    manifest = released(tmp_path, title_model())
    predictor = load(tmp_path, manifest)
    assert isinstance(predictor.quick, Quick)
    asked: list[int] = []

    def counted(rows: Any) -> Any:
        asked.append(len(rows))
        return predictor.quick.plan.probabilities(rows)  # type: ignore[union-attr, misc]

    quick = Quick(Plan(predictor.quick.plan.predict, counted), most_rows=4, rows_at_once=2)
    limited = Predictor(manifest, predictor.model, quick)
    for count in (1, 4, 5):
        assert len(limited.answer([["a fridge"]] * count)) == count
    assert asked == [1, 4]
    assert limited.predict_at_once([["a fridge"]] * 3) is None
    assert limited.predict_at_once([["a fridge"]] * 2) == limited.answer([["a fridge"]] * 2)


def test_trees_are_compiled_too(tmp_path: Path) -> None:
    table = X.copy()
    table[::7, 1] = None
    model = HistGradientBoostingClassifier(max_iter=20).fit(table.astype(float), Y)
    manifest = released(tmp_path, model, table.tolist(), inputs=NUMBERS, classes=("x", "y"))
    assert load(tmp_path, manifest).path == "compiled"


def test_made_up_rows_hold_what_the_model_knows_and_what_is_odd(tmp_path: Path) -> None:
    fields = (Field("title", "string", nullable=True), Field("price", "number", minimum=0, maximum=9))
    manifest = write_release(tmp_path, "rel_1", title_model(columns=2), inputs=fields)
    rows = made_up(manifest, load(tmp_path, manifest).model, 400)
    texts = [row[0] for row in rows]
    assert rows == made_up(manifest, load(tmp_path, manifest).model, 400)
    assert {None, "", "fridge"} <= set(texts)
    assert any("unheard-of" in text for text in texts if text)
    assert all(0 <= row[1] <= 9 for row in rows)


def test_a_serving_process_says_which_path_answers(tmp_path: Path, serve: Callable[..., Server]) -> None:
    released(tmp_path, title_model())
    write_release(tmp_path, "rel_2", title_model(reverse=True), version=2)
    go_live(tmp_path, ("1", 50), ("2", 50))
    server = serve(tmp_path)
    for _ in range(8):
        assert server.predict("a big fridge").status_code == 200
    paths = server.worker().paths
    assert paths["rel_1"] == "compiled"
    assert paths["rel_2"].startswith("original: it was released without a comparison")
