"""Models of other libraries, made here; those that an mlflow client logged are in tests/flows/test_mlflow_models.py."""

from __future__ import annotations

import base64
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import pytest
import xgboost
import yaml

from everloop.errors import Invalid
from everloop.explaining import Explanation
from everloop.serving import Field, Layout, Loaded, Manifest, Predictor, Signature, load_files, try_out
from everloop.serving.explain import Explainer
from everloop.serving.mlmodel import Flavor

COLUMNS = tuple(Field(f"x{number}", "number") for number in range(4))
INPUTS = '[{"type": "double", "name": "x0"}]'
rng = np.random.default_rng(0)
X = rng.normal(size=(200, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0).astype(int)
ROWS = X[:50].astype(object)
# y = x @ w with w = (1, 2, 3, 4), as onnx.helper writes it; and the same with w in a file that the model names
WHOLE = "CAk6WQoRCgF4CgF3EgF5IgZNYXRNdWwSAWcqGwgECAEQASIQAACAPwAAAEAAAEBAAACAQEIBd1oRCgF4EgwKCggBEgYKAAoCCARiEQoBeRIMCgoIARIGCgAKAggBQgQKABAR"
NAMES_A_FILE = (
    "CAk6jgEKEQoBeAoBdxIBeSIGTWF0TXVsEgFnKlAIBAgBEAFCAXdqKAoIbG9jYXRpb24SHC4uLy4uLy4uLy4uLy4uLy4uL2V0Yy9wYXNzd2RqCwoG"
    "b2Zmc2V0EgEwagwKBmxlbmd0aBICMTZwAVoRCgF4EgwKCggBEgYKAAoCCARiEQoBeRIMCgoIARIGCgAKAggBQgQKABAR"
)


def loaded(flavor: Flavor, file: str, content: bytes, model_class: str = "") -> Loaded:
    return load_files(Layout(flavor, file, model_class, COLUMNS), {file: content})


def ubj(model: xgboost.XGBModel | xgboost.Booster) -> bytes:
    booster = model if isinstance(model, xgboost.Booster) else model.get_booster()
    return bytes(booster.save_raw("ubj"))


def test_a_classifier_of_xgboost_answers_as_it_did() -> None:
    model = xgboost.XGBClassifier(n_estimators=4).fit(X, Y)
    found = loaded("xgboost", "model.ubj", ubj(model), "xgboost.sklearn.XGBClassifier")
    assert (found.classes, found.columns) == (("0", "1", "2"), 4)
    assert found.predict(ROWS).tolist() == model.predict(X[:50]).tolist()
    assert found.probabilities is not None
    np.testing.assert_array_equal(found.probabilities(ROWS), model.predict_proba(X[:50]))


@pytest.mark.parametrize(
    ("objective", "classes"), [("reg:squarederror", None), ("multi:softprob", ("0", "1", "2"))]
)
def test_a_booster_of_xgboost_gives_numbers_or_tells_classes(
    objective: str, classes: tuple[str, ...] | None
) -> None:
    parameters = {"objective": objective, **({"num_class": 3} if classes else {})}
    model = xgboost.train(parameters, xgboost.DMatrix(X, Y), 3)
    found = loaded("xgboost", "model.ubj", ubj(model), "xgboost.core.Booster")
    expected = model.predict(xgboost.DMatrix(X[:50]))
    assert (found.classes, found.is_class) == (classes, classes is not None)
    wanted = expected.tolist() if classes is None else [str(one) for one in expected.argmax(axis=1)]
    assert found.predict(ROWS).tolist() == wanted


def test_a_booster_of_lightgbm_tells_its_classes_by_number() -> None:
    model = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(X, Y)
    found = loaded("lightgbm", "model.lgb", model.booster_.model_to_string().encode())
    assert found.classes == ("0", "1", "2")
    assert found.predict(ROWS).tolist() == [str(one) for one in model.predict(X[:50])]


def test_a_missing_number_is_a_gap_for_the_trees() -> None:
    model = xgboost.XGBRegressor(n_estimators=4).fit(X, X[:, 0])
    found = loaded("xgboost", "model.ubj", ubj(model))
    row = X[:1].copy()
    row[0, 2] = np.nan
    given = row.astype(object)
    given[0, 2] = None
    assert found.predict(given).tolist() == model.predict(row).tolist()


def explained(found: Loaded, output: str | float) -> Explanation:
    """Why the first row is answered so."""
    signature = Signature(COLUMNS, "number" if isinstance(output, float) else "class", found.classes)
    manifest = Manifest("rel_1", "model", 1, "", {}, signature, datetime(2026, 9, 1, tzinfo=UTC))
    (told,) = Explainer(Predictor(manifest, found)).explain([(X[0].tolist(), output)])
    assert isinstance(told, Explanation)
    assert told.method == "tree shap"
    assert told.base + sum(one.contribution for one in told.contributions) == pytest.approx(told.score)
    return told


def test_xgboosts_own_contributions_add_up_to_its_margin() -> None:
    several = xgboost.XGBClassifier(n_estimators=4).fit(X, Y)
    found = loaded("xgboost", "model.ubj", ubj(several), "xgboost.sklearn.XGBClassifier")
    margins = several.predict(X[:1], output_margin=True)[0]
    for place, name in enumerate(found.classes or ()):
        assert explained(found, name).score == pytest.approx(margins[place], abs=1e-5)
    two = xgboost.XGBClassifier(n_estimators=4).fit(X, Y > 0)
    found = loaded("xgboost", "model.ubj", ubj(two), "xgboost.sklearn.XGBClassifier")
    (margin,) = two.predict(X[:1], output_margin=True)
    assert [explained(found, name).score for name in found.classes or ()] == pytest.approx(
        [-margin, margin], abs=1e-5
    )
    number = xgboost.XGBRegressor(n_estimators=4).fit(X, X[:, 0])
    told = explained(loaded("xgboost", "model.ubj", ubj(number)), 1.0)
    assert told.score == pytest.approx(number.predict(X[:1])[0], abs=1e-5)
    assert told.contributions[0].input == "x0"


def test_lightgbms_own_contributions_add_up_to_its_raw_score() -> None:
    several = lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(X, Y)
    found = loaded("lightgbm", "model.lgb", several.booster_.model_to_string().encode())
    raw = several.predict(X[:1], raw_score=True)[0]
    for place, name in enumerate(found.classes or ()):
        assert explained(found, name).score == pytest.approx(raw[place])
    number = lightgbm.LGBMRegressor(n_estimators=4, verbose=-1).fit(X, X[:, 0])
    found = loaded("lightgbm", "model.lgb", number.booster_.model_to_string().encode())
    assert explained(found, 1.0).score == pytest.approx(number.predict(X[:1])[0])


def test_a_model_in_onnx_form_answers() -> None:
    found = loaded("onnx", "model.onnx", base64.b64decode(WHOLE))
    np.testing.assert_allclose(found.predict(ROWS), X[:50] @ [1, 2, 3, 4], rtol=1e-5)


def test_a_model_in_onnx_form_reads_no_file_that_it_names() -> None:
    with pytest.raises(Invalid, match="cannot be loaded by onnxruntime"):
        loaded("onnx", "model.onnx", base64.b64decode(NAMES_A_FILE))


@pytest.mark.parametrize(
    ("flavor", "file", "content"),
    [
        ("xgboost", "model.ubj", b""),  # ends the process
        ("xgboost", "model.json", b"{}"),
        ("lightgbm", "model.lgb", b"tree\n"),
        ("onnx", "model.onnx", b"PK\3\4" + b"\xff" * 64),
        ("sklearn", "model.skops", b"PK\3\4" + b"\xff" * 64),
    ],
    ids=["ends the process", "json", "text", "onnx", "skops"],
)
def test_a_file_that_is_no_model_is_refused_whatever_its_library_makes_of_it(
    tmp_path: Path, flavor: str, file: str, content: bytes
) -> None:
    form = {"data": file, "pickled_model": file}
    described = {"flavors": {flavor: form, "python_function": {}}, "signature": {"inputs": INPUTS}}
    files = {"MLmodel": yaml.safe_dump(described).encode(), file: content}
    with pytest.raises(Invalid, match=r"ended the process|is no|cannot be loaded"):
        try_out(files, hidden=tmp_path)


@pytest.mark.parametrize(
    ("flavor", "library"), [("xgboost", "xgboost"), ("lightgbm", "lightgbm"), ("onnx", "onnxruntime")]
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(flavor: str, library: str) -> None:
    program = (
        "import sys\n"
        f"sys.modules[{library!r}] = None\n"
        "from everloop.errors import MissingExtra\n"
        "from everloop.serving import Layout, load_files\n"
        "try:\n"
        f"    load_files(Layout({flavor!r}, 'm'), {{'m': b''}})\n"
        "except MissingExtra as error:\n"
        "    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"pip install 'everloop[{flavor}]'" in done.stdout
