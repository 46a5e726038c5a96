"""Models that answer too few rows, too many, nothing, or what is no number or class of theirs: served for real, asked in each protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from everloop.errors import Invalid
from everloop.serving import Field, Predictor, Signature
from everloop.serving.held import WrongAnswerError, WrongShapeError, held_classes, held_numbers, held_shares
from everloop.storage import FileBlobs
from tests.serving.asgi import Got, InProcess
from tests.serving.home import go_live, write_function

# answers each row by its `say`; the batch as a whole by the first row that speaks of it
ODD = """
NAN = float("nan")
ANSWERS = {"nan": NAN, "inf": float("inf"), "none": None, "text": "a text", "dict": {}, "list": [1, 2], "unknown": "Ovens"}


def predict(rows):
    said = [row["say"] for row in rows]
    if "raise" in said:
        raise RuntimeError("no idea")
    if "one value" in said:
        return 1.0
    answers = [ANSWERS.get(one, GOOD) for one in said]
    if "few" in said:
        return answers[1:]
    return answers * 2 if "many" in said else answers
"""
SAY = (Field("say", "string"),)
NUMBER, CLASS = Signature(SAY, "number"), Signature(SAY, "class", ("Freezers", "Fridges"))
BOTH = ["few", "many", "one value", "none", "nan", "inf", "dict", "list", "raise"]


@pytest.fixture(scope="module", params=["number", "class"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("home")
    is_number = request.param == "number"
    good = "GOOD = 2.5" if is_number else "GOOD = 'Fridges'"
    write_function(home, "rel_control", good + ODD, NUMBER if is_number else CLASS)
    go_live(home, ("control", 100))
    with InProcess(home) as app:
        assert ask(app, "own", "well").status == 200
        yield app


def ask(app: InProcess, protocol: str, *say: str) -> Got:
    if protocol == "own":
        return app.post("/endpoints/category/predict", {"inputs": {"say": say[0]}})
    if protocol == "mlflow":
        return app.post("/invocations", {"inputs": {"say": list(say)}})
    if protocol == "kserve":
        return app.post("/v1/models/category:predict", {"instances": list(say)})
    tensor = {"name": "say", "datatype": "BYTES", "shape": [len(say)], "data": list(say)}
    return app.post("/v2/models/category/infer", {"inputs": [tensor]})


@pytest.mark.parametrize("say", BOTH)
def test_a_wrong_answer_is_a_failure_with_its_reason_in_the_log(app: InProcess, say: str) -> None:
    got = ask(app, "own", say)
    assert (got.status, got.json()["error"]["code"]) == (500, "model_failed")
    record = app.record(got)
    assert (record.status, record.output, record.scores) == ("failed", None, {})
    assert record.error is not None
    assert record.error.startswith("model_failed: ")
    assert {"raise": "no idea", "nan": "nan", "inf": "inf"}.get(say, "answer") in record.error


def test_a_text_is_no_number_and_an_unknown_class_is_none(app: InProcess) -> None:
    is_number = isinstance(ask(app, "own", "well").json()["output"], float)
    got = ask(app, "own", "text" if is_number else "unknown")
    assert got.status == 500
    assert ("its signature says a number" if is_number else "none of its 2 classes") in str(
        app.record(got).error
    )


@pytest.mark.parametrize("protocol", ["mlflow", "kserve", "open inference"])
@pytest.mark.parametrize("say", ["few", "nan", "none"])
def test_no_protocol_answers_it(app: InProcess, protocol: str, say: str) -> None:
    got = ask(app, protocol, "well", say)
    assert got.status == 500
    assert b"1 of 2 rows have no prediction" in got.content
    assert b"NaN" not in got.content


def test_the_rows_beside_a_wrong_one_get_their_own_answers(app: InProcess) -> None:
    instances = [{"inputs": {"say": say}} for say in ("well", "few", "well", "nan", "raise", "well")]
    got = app.post("/endpoints/category/predict", {"instances": instances}).json()["predictions"]
    assert ["error" in one for one in got] == [False, True, False, True, True, False]
    assert got[0]["output"] == got[2]["output"] == got[5]["output"]


def test_a_model_that_never_gives_one_answer_a_row_is_not_loaded(tmp_path: Path) -> None:
    code = "def predict(rows):\n    return [0.5] * (len(rows) + 1)\n"
    manifest = write_function(tmp_path, "rel_1", code, NUMBER)
    with pytest.raises(Invalid, match="answered 1 rows with 2 values"):
        Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))


@pytest.mark.parametrize(
    ("shares", "error"),
    [
        ([[0.5, 0.5], [np.nan, 0.5]], WrongAnswerError),
        ([[0.5, 0.5], [0.7, 0.7]], WrongAnswerError),
        ([[0.5, 0.5], [1.5, -0.5]], WrongAnswerError),
        ([[0.5, 0.5]], WrongShapeError),
        ([[0.2, 0.3, 0.5]] * 2, WrongShapeError),
        ([0.5, 0.5], WrongShapeError),
    ],
)
def test_probabilities_are_shares_of_one_for_each_class_and_row(shares: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        held_shares(np.array(shares), 2, 2)


def test_what_is_right_is_told_as_before() -> None:
    assert held_numbers(np.array([[1], [2]]), 2) == [1.0, 2.0]
    assert held_numbers(np.array([True, 2.5], dtype=object), 2) == [1.0, 2.5]
    assert held_classes(np.array([1, 2]), 2, {"1", "2"}) == ["1", "2"]
    np.testing.assert_array_equal(held_shares([[0.25, 0.75]], 1, 2), [[0.25, 0.75]])
