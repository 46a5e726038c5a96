"""Explanations over HTTP, in each protocol; the numbers themselves are tested in tests/explaining."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from everloop.explaining import Explanation
from everloop.serving import Field, Predictor
from everloop.serving.explain import Explainer
from everloop.storage import FileBlobs
from tests.serving.asgi import InProcess
from tests.serving.home import COLOUR, go_live, object_array, title_model, write_release
from tests.serving.server import Server

ASKED = {"inputs": {"title": "a cool fridge"}, "explain": True}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("home")
    write_release(home, "rel_control", title_model())
    go_live(home, ("control", 100))
    with InProcess(home) as app:
        yield app


def the_explanation(found: Any) -> None:
    """Of the answer Fridges to "a cool fridge"."""
    assert (found["method"], found["of"], found["class"]) == ("linear", "log-odds", "Fridges")
    (title,) = found["contributions"]
    assert title["input"] == "title"
    assert [one["part"] for one in title["parts"]] == ["fridge", "cool"]
    assert found["base"] + title["contribution"] == pytest.approx(found["score"], abs=1e-12)


def test_a_request_that_asks_is_told_why_and_logged_as_always(app: InProcess) -> None:
    got = app.post("/endpoints/category/predict", ASKED)
    the_explanation(got.json()["explanation"])
    record = app.record(got)
    assert (record.status, record.output, record.inputs) == ("ok", "Fridges", ASKED["inputs"])


def test_who_does_not_ask_is_not_told(app: InProcess) -> None:
    got = app.post("/endpoints/category/predict", {"inputs": ASKED["inputs"]}).json()
    assert "explanation" not in got


def test_each_instance_is_explained_that_asks(app: InProcess) -> None:
    instances = [ASKED, {"inputs": {"title": "a freezer"}}, {"inputs": {"title": 3}, "explain": True}]
    first, second, third = app.post("/endpoints/category/predict", {"instances": instances}).json()[
        "predictions"
    ]
    the_explanation(first["explanation"])
    assert "explanation" not in second
    assert third["error"]["code"] == "invalid"


@pytest.mark.parametrize("path", ["/endpoints/category/predict", "/v1/models/category:explain"])
def test_too_many_rows_to_explain_are_refused(app: InProcess, path: str) -> None:
    got = app.post(path, {"instances": [ASKED if "predict" in path else "a"] * 101})
    assert got.status == 422
    assert "101 rows are to be explained; the most of one request is 100" in got.content.decode()


def test_kserves_explain_gives_predictions_and_explanations(app: InProcess) -> None:
    got = app.post("/v1/models/category:explain", {"instances": ["a cool fridge", "a freezer"]}).json()
    assert got["predictions"] == ["Fridges", "Freezers"]
    the_explanation(got["explanations"][0])
    assert got["explanations"][1]["class"] == "Freezers"


def test_mlflows_params_ask_for_explanations(app: InProcess) -> None:
    body = {"dataframe_records": [ASKED["inputs"]], "params": {"explain": True}}
    got = app.post("/invocations", body).json()
    the_explanation(got["everloop"][0]["explanation"])


@pytest.mark.parametrize(
    "asking", [{"parameters": {"explain": True}}, {"outputs": [{"name": "output"}, {"name": "explanation"}]}]
)
def test_a_tensor_holds_explanations_as_json(app: InProcess, asking: dict[str, Any]) -> None:
    title = {"name": "title", "datatype": "BYTES", "shape": [1], "data": ["a cool fridge"]}
    got = app.post("/v2/models/category/infer", {"inputs": [title], **asking}).json()
    (text,) = next(one["data"] for one in got["outputs"] if one["name"] == "explanation")
    the_explanation(msgspec.json.decode(text))


def test_a_header_asks_where_a_body_has_no_room(app: InProcess) -> None:
    got = app.post(
        "/invocations", b"title\na cool fridge\n", content_type="text/csv", x_everloop_explain="true"
    )
    the_explanation(got.json()["everloop"][0]["explanation"])


def test_a_model_that_cannot_be_taken_apart_is_compared_with_a_usual_row(tmp_path: Path) -> None:
    rows = [[float(size), float(price)] for size in range(4) for price in range(4)]
    model = KNeighborsClassifier(1).fit(
        object_array(rows), ["big" if size > 1 else "small" for size, _ in rows]
    )
    inputs = (Field("size", "number"), Field("price", "number"))
    write_release(tmp_path, "rel_control", model, inputs=inputs, classes=("big", "small"))
    go_live(tmp_path, ("control", 100))
    with InProcess(tmp_path) as app:
        asked = {"inputs": {"size": 3, "price": 2}, "explain": True}
        found = app.post("/endpoints/category/predict", asked).json()["explanation"]
    assert (found["method"], found["of"], found["class"]) == ("shapley", "probability", "big")
    assert found["compared_with"] == {"size": 0.0, "price": 0.0}
    assert [(one["input"], one["contribution"]) for one in found["contributions"]] == [
        ("size", 1.0),
        ("price", 0.0),
    ]


def test_somebodys_example_is_compared_with_and_not_told(tmp_path: Path) -> None:
    model = KNeighborsClassifier(1).fit(object_array([[0.0], [9.0]]), ["low", "high"])
    manifest = write_release(
        tmp_path, "rel_1", model, inputs=(Field("age", "number"),), classes=("high", "low")
    )
    loaded = Predictor.load(manifest, FileBlobs(tmp_path / "blobs"))
    for is_told, told in ((True, {"age": 1.0}), (False, None)):
        predictor = dataclasses.replace(loaded, example={"age": 1.0}, is_example_told=is_told)
        (found,) = Explainer(predictor).explain([([8.0], "high")])
        assert isinstance(found, Explanation)
        assert (found.base, found.score, found.compared_with) == (0.0, 1.0, told)


def test_an_explanation_that_fails_leaves_the_prediction(tmp_path: Path) -> None:
    colours = object_array([["red"], ["white"]] * 5)
    model = make_pipeline(OneHotEncoder(sparse_output=False), KNeighborsClassifier(1)).fit(
        colours, ["warm", "cold"] * 5
    )
    write_release(tmp_path, "rel_control", model, inputs=(COLOUR,), classes=("cold", "warm"))
    go_live(tmp_path, ("control", 100))
    with InProcess(tmp_path) as app:
        got = app.post("/endpoints/category/predict", {"inputs": {"colour": "red"}, "explain": True})
    assert (got.status, got.json()["output"]) == (200, "warm")
    # the usual row that is made up for want of an example has a colour that the encoder refuses
    assert "unknown categories" in got.json()["explanation"]["problem"]


def test_others_are_answered_while_a_slow_explanation_runs(
    tmp_path: Path, serve: Callable[..., Server]
) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3_000, 40))
    model = KNeighborsClassifier().fit(rows, np.where(rows[:, 0] > 0, "yes", "no"))
    inputs = tuple(Field(f"x{number}", "number") for number in range(40))
    write_release(tmp_path, "rel_control", model, inputs=inputs, classes=("no", "yes"))
    go_live(tmp_path, ("control", 100))
    server = serve(tmp_path)
    row = {f"x{number}": float(number) for number in range(40)}
    with ThreadPoolExecutor(1) as others:
        asking = [{"inputs": row, "explain": True}] * 20
        slow = others.submit(server.client.post, "/endpoints/category/predict", json={"instances": asking})
        answered = 0
        while not slow.done():
            assert server.client.post("/endpoints/category/predict", json={"inputs": row}).status_code == 200
            answered += not slow.done()
    explained = slow.result().json()["predictions"]
    assert all(one["explanation"]["method"] == "sampled shapley" for one in explained)
    assert answered >= 3
