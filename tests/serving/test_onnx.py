"""A model without a compiled plan is answered by its conversion to ONNX, where that gives the model's answers and is quicker."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from everloop.serving import Field, Manifest, Predictor
from tests.serving.home import go_live, object_array, title_model
from tests.serving.server import Server
from tests.serving.test_exact import load, released

SIZE, COLOUR = Field("size", "number", nullable=True), Field("colour", "string")
rng = np.random.default_rng(2)
ROWS: list[list[Any]] = [[float(rng.normal()), str(rng.choice(["red", "white", "blue"]))] for _ in range(200)]
X = object_array(ROWS)
Y = np.array(["warm" if size > 0 and colour == "red" else "cold" for size, colour in ROWS])


def columns() -> ColumnTransformer:
    colour = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    size = make_pipeline(SimpleImputer(), StandardScaler())
    return ColumnTransformer([("size", size, [0]), ("colour", colour, [1])])


def converted(
    home: Path, model: Any, rows: list[list[Any]] = ROWS, **given: Any
) -> tuple[Manifest, Predictor]:
    manifest = released(home, model, rows, **{"inputs": (SIZE, COLOUR), "classes": ("cold", "warm"), **given})
    return manifest, load(home, manifest)


@pytest.mark.parametrize(
    "model",
    [
        SVC(),
        GaussianNB(),
        CalibratedClassifierCV(LogisticRegression()),
        BaggingClassifier(random_state=0),
        make_pipeline(PCA(2), LogisticRegression()),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_model_without_a_plan_is_answered_by_its_conversion(tmp_path: Path, model: Any) -> None:
    manifest, predictor = converted(tmp_path, make_pipeline(columns(), model).fit(X, Y))
    assert manifest.compiled is not None
    assert predictor.path == "onnx"
    assert manifest.compiled.in_words.startswith(
        "answered by its conversion to ONNX: the same on 456 rows, 200 of them"
    )
    assert manifest.compiled.difference < 1e-5
    original = load(tmp_path, manifest, is_compiled=False)
    rows = [*ROWS[:20], [None, "red"], [0.5, "never seen"]]
    for answer, expected in zip(predictor.answer(rows), original.answer(rows), strict=True):
        assert isinstance(answer, tuple)
        assert isinstance(expected, tuple)
        assert answer[0] == expected[0]
        assert answer[1] == pytest.approx(expected[1], abs=1e-5)


def test_numbers_are_converted_too(tmp_path: Path) -> None:
    model = make_pipeline(columns(), KNeighborsRegressor()).fit(X, np.arange(200.0))
    _, predictor = converted(tmp_path, model, classes=None)
    assert predictor.path == "onnx"
    assert predictor.answer([ROWS[0]])[0][0] == pytest.approx(model.predict(X[:1])[0])  # type: ignore[index]


def test_numbers_that_single_precision_cannot_tell_apart_leave_the_model_to_answer(tmp_path: Path) -> None:
    rows = [[1e9 + number, "red"] for number in range(100)]  # in single precision neighbours are 64 apart
    labels = ["warm" if number % 2 else "cold" for number in range(100)]
    model = make_pipeline(columns(), KNeighborsClassifier(1)).fit(object_array(rows), labels)
    manifest, predictor = converted(tmp_path, model, rows)
    assert predictor.path.startswith(
        "original: KNeighborsClassifier is no model that is compiled; its conversion to ONNX "
    )
    assert "answer than the model" in predictor.path
    assert manifest.compiled is not None
    assert not manifest.compiled.onnx


def test_texts_that_are_split_otherwise_leave_the_model_to_answer(tmp_path: Path) -> None:
    words = ColumnTransformer([("title", TfidfVectorizer(), 0)])
    titles = [["cool fridge"], ["chest freezer"]] * 10
    model = make_pipeline(words, CalibratedClassifierCV(LogisticRegression()))
    model.fit(object_array(titles), ["f", "z"] * 10)
    inputs = (Field("title", "string"),)
    _, predictor = converted(tmp_path, model, titles, inputs=inputs, classes=("f", "z"))
    # a letter with an accent ends a word there, so that fridge\u00e9 has a fridge in it
    assert re.search(
        "; its conversion to ONNX (differs from|gives another answer than) the model in row ", predictor.path
    )


@pytest.mark.parametrize(
    ("model", "inputs", "reason"),
    [
        (
            VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
            (SIZE, COLOUR),
            "flatten_transform",
        ),
        (GaussianNB(), (SIZE, Field("at", "time")), "at is of type time, which is not converted"),
    ],
    ids=["not converted", "another type"],
)
def test_what_is_not_converted_says_why(
    tmp_path: Path, model: Any, inputs: tuple[Field, ...], reason: str
) -> None:
    _, predictor = converted(tmp_path, make_pipeline(columns(), model).fit(X, Y), [], inputs=inputs)
    assert "; not converted to ONNX: " in predictor.path
    assert reason in predictor.path


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"another")])
def test_a_conversion_that_is_gone_or_changed_leaves_the_model_to_answer(
    tmp_path: Path, damage: Callable[[Path], Any]
) -> None:
    manifest, _ = converted(tmp_path, make_pipeline(columns(), GaussianNB()).fit(X, Y))
    assert manifest.compiled is not None
    digest = manifest.compiled.onnx
    damage(tmp_path / "blobs" / digest[:2] / digest[2:])
    predictor = load(tmp_path, manifest)
    assert predictor.path.startswith("original: comparing its plan raised ")
    assert isinstance(predictor.answer([ROWS[0]])[0], tuple)


def test_a_compiled_plan_comes_first(tmp_path: Path) -> None:
    manifest = released(tmp_path, title_model())
    assert manifest.compiled is not None
    assert not manifest.compiled.onnx


def test_without_the_library_the_reason_names_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['skl2onnx'] = None\n"
        "from tests.serving.test_onnx import *\n"
        "import tempfile\n"
        "model = make_pipeline(columns(), GaussianNB()).fit(X, Y)\n"
        "print(converted(Path(tempfile.mkdtemp()), model, [])[1].path)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'everloop[onnx]'" in done.stdout


def test_a_serving_process_says_that_it_answers_by_onnx(tmp_path: Path, serve: Callable[..., Server]) -> None:
    converted(tmp_path, make_pipeline(columns(), GaussianNB()).fit(X, Y))
    go_live(tmp_path, ("1", 100))
    server = serve(tmp_path)
    got = server.client.post("/endpoints/category/predict", json={"inputs": {"size": 1.5, "colour": "red"}})
    assert got.json()["output"] == "warm"
    assert server.worker().paths == {"rel_1": "onnx"}
