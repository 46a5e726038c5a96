"""What clients of MLflow's, KServe's and the Open Inference protocols send and get."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from everloop.predictions import log
from everloop.serving import Field, RouteTable, Rule, Variant, write_routes
from everloop.serving.tensors import DATATYPES
from tests.serving.asgi import Got, InProcess
from tests.serving.home import COLOUR, TITLE, go_live, object_array, picky_model, title_model, write_release
from tests.serving.records import route

SIZE, COUNT = Field("size", "number", nullable=True), Field("count", "integer")
PREDICTING = [
    "/endpoints/category/predict",
    "/endpoints/category/invocations",
    "/invocations",
    "/v1/models/category:predict",
    "/v2/models/category/infer",
]


Opening = Callable[..., InProcess]


@pytest.fixture
def in_process() -> Iterator[Opening]:
    """Opens the application over a home; all are closed after the test."""
    with ExitStack() as opened:
        yield lambda *given, **options: opened.enter_context(InProcess(*given, **options))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """One endpoint, whose model fails on colours that it has not seen."""
    home = tmp_path_factory.mktemp("home")
    write_release(home, "rel_control", picky_model(), inputs=(TITLE, COLOUR), version=3)
    go_live(home, ("control", 100))
    with InProcess(home, body_limit_bytes=10_000) as app:
        yield app


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    """A model of two numbers: answers size + 10 count."""
    home = tmp_path_factory.mktemp("numbers")
    rows = [[0.0, 0], [1.0, 0], [0.0, 1], [2.0, 3]]
    model = LinearRegression().fit(object_array(rows), [0, 1, 10, 32])
    write_release(home, "rel_control", model, inputs=(SIZE, COUNT), classes=None)
    go_live(home, ("control", 100))
    with InProcess(home) as app:
        yield app


def tensor(name: str, datatype: str, values: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(values)], "data": values}


def outputs(got: Got) -> dict[str, Any]:
    return {one["name"]: one["data"] for one in got.json()["outputs"]}


def binary(app: InProcess, path: str, inputs: list[dict[str, Any]], content: bytes, **more: Any) -> Got:
    head = msgspec.json.encode({"inputs": inputs, **more})
    return app.post(path, head + content, inference_header_content_length=str(len(head)))


TWO_ROWS: list[tuple[str, Any]] = [
    (
        "/invocations",
        {
            "dataframe_split": {
                "columns": ["title", "colour"],
                "index": [4, 5],
                "data": [["a fridge", "red"], ["a freezer", "white"]],
            }
        },
    ),
    ("/invocations", {"dataframe_split": {"data": [["a fridge", "red"], ["a freezer", "white"]]}}),
    (
        "/endpoints/category/invocations",
        {
            "dataframe_records": [
                {"title": "a fridge", "colour": "red"},
                {"title": "a freezer", "colour": "white"},
            ]
        },
    ),
    ("/invocations", {"inputs": {"title": ["a fridge", "a freezer"], "colour": ["red", "white"]}}),
    ("/invocations", {"inputs": [["a fridge", "red"], ["a freezer", "white"]]}),
    ("/invocations", {"instances": [["a fridge", "red"], ["a freezer", "white"]], "params": {}}),
    ("/v1/models/category:predict", {"instances": [["a fridge", "red"], ["a freezer", "white"]]}),
    (
        "/v1/models/category:predict",
        {"instances": [{"title": "a fridge", "colour": "red"}, {"colour": "white", "title": "a freezer"}]},
    ),
]


@pytest.mark.parametrize(("path", "body"), TWO_ROWS)
def test_rows_come_in_each_form_and_are_answered_in_order(app: InProcess, path: str, body: Any) -> None:
    got = app.post(path, body)
    assert got.status == 200, got.content
    answer = got.json()
    assert answer["predictions"] == ["Fridges", "Freezers"]
    assert [each["version"] for each in answer["everloop"]] == [3, 3]
    found = [log.find(app.folder, each["prediction_id"]) for each in answer["everloop"]]
    assert [one.inputs for one in found if one] == [
        {"title": "a fridge", "colour": "red"},
        {"title": "a freezer", "colour": "white"},
    ]
    assert {one.request for one in found if one} == {got.headers["x-everloop-request"]}
    assert got.headers["x-everloop-version"] == "3"


def test_one_row_is_named_by_its_own_id(app: InProcess) -> None:
    got = app.post(
        "/v1/models/category:predict",
        {"instances": [["a fridge", "red"]]},
        x_everloop_key="listing 7",
        x_everloop_replay="true",
    )
    record = app.record(got)
    assert record.id == got.json()["everloop"][0]["prediction_id"]
    assert (record.key, record.replay, record.request) == ("listing 7", True, None)


@pytest.mark.parametrize(
    "csv",
    [
        b"title,colour\na fridge,red\na freezer,white\n",
        b'\xef\xbb\xbf,colour,title\r\n0,red,a fridge\r\n1,white,"a\nfreezer"\r\n',
    ],
)
def test_a_csv_file_is_read_with_or_without_its_index(app: InProcess, csv: bytes) -> None:
    got = app.post("/invocations", csv, content_type="text/csv; charset=utf-8")
    assert got.json()["predictions"] == ["Fridges", "Freezers"]


def test_csv_values_have_the_types_of_the_signature_and_an_empty_one_is_null(numbers: InProcess) -> None:
    csv = b"size,count\n1.5,2\n,3.0\nabc,x\n"
    got = numbers.post("/invocations", csv, content_type="text/csv")
    fields = [(one["field"], one["problem"]) for one in got.json()["fields"]]
    assert got.status == 422
    assert got.json()["row"] == 2
    assert fields == [
        ("size", "is 'abc'; it must be a number"),
        ("count", "is 'x'; it must be a whole number (of 64 bits)"),
    ]
    stored = log.read(numbers.folder, columns=["inputs"])["inputs"].to_pylist()[-3:-1]
    assert stored == ['{"size":1.5,"count":2}', '{"size":null,"count":3}']


def test_a_gap_in_a_clients_table_is_null_and_infinity_is_nothing(numbers: InProcess) -> None:
    gap = numbers.post("/invocations", b'{"instances": [[NaN, 1.0]]}')
    assert numbers.record(gap).inputs == {"size": None, "count": 1}
    infinite = numbers.post("/invocations", b'{"instances": [[NaN, 1.0], [Infinity, 1.0]]}')
    assert (infinite.status, infinite.json()["error_code"]) == (400, "BAD_REQUEST")


def test_a_time_without_a_zone_is_utc_for_clients_whose_times_have_none(
    tmp_path: Path, in_process: Opening
) -> None:
    write_release(tmp_path, "rel_control", title_model(columns=2), inputs=(TITLE, Field("listed_at", "time")))
    go_live(tmp_path, ("control", 100))
    app = in_process(tmp_path)
    for time in ("2026-09-01T12:00:00", "2026-09-01T12:00:00Z"):
        got = app.post("/invocations", {"instances": [["a fridge", time]]})
        assert app.record(got).inputs["listed_at"] == "2026-09-01T12:00:00Z"


def test_tensors_by_name_are_answered_by_tensors(app: InProcess) -> None:
    body = {
        "id": "mine",
        "inputs": [
            tensor("title", "BYTES", [["a fridge"], ["a freezer"]], [2, 1]),
            tensor("colour", "BYTES", ["red", "white"]),
        ],
    }
    got = app.post("/v2/models/category/infer", body)
    answer, found = got.json(), outputs(got)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "category", "3")
    assert found["output"] == ["Fridges", "Freezers"]
    assert found["top_classes"] == ["Fridges", "Freezers", "Freezers", "Fridges"]
    assert found["version"] == [3, 3]
    record = log.find(app.folder, found["prediction_id"][1])
    assert record is not None
    assert record.inputs == {"title": "a freezer", "colour": "white"}
    assert answer["parameters"]["request"] == record.request == got.headers["x-everloop-request"]


def test_one_tensor_holds_a_column_for_each_input(numbers: InProcess) -> None:
    values = np.array([[1, 2], [3, 0]], dtype="<f4")
    sent = {"name": "input-0", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}}
    got = binary(numbers, "/v2/models/category/versions/1/infer", [sent], values.tobytes())
    assert outputs(got)["output"] == pytest.approx([21.0, 3.0])
    in_json = {"inputs": [tensor("input-0", "FP32", values.flatten().tolist(), [2, 2])]}
    assert outputs(numbers.post("/v2/models/category/infer", in_json))["output"] == outputs(got)["output"]
    found = [log.find(numbers.folder, each) for each in outputs(got)["prediction_id"]]
    assert [one.inputs for one in found if one] == [{"size": 1.0, "count": 2}, {"size": 3.0, "count": 0}]


def test_not_a_number_is_null_in_binary_too(numbers: InProcess) -> None:
    values = np.array([[np.nan, 2]])
    sent = {"name": "x", "datatype": "FP64", "shape": [1, 2], "parameters": {"binary_data_size": 16}}
    got = binary(numbers, "/v2/models/category/infer", [sent], values.tobytes())
    assert numbers.record(got).inputs == {"size": None, "count": 2}


def test_scores_are_left_out_where_there_are_none(numbers: InProcess) -> None:
    got = numbers.post("/v2/models/category/infer", {"inputs": [tensor("x", "INT8", [1, 2], [1, 2])]})
    assert list(outputs(got)) == ["output", "prediction_id", "version"]


@pytest.mark.parametrize(
    ("size", "content", "length", "status"),
    [
        (16, b"", None, 422),
        (16, b"\0" * 17, None, 422),
        (15, b"\0" * 15, None, 422),
        (-1, b"", None, 422),
        (16.0, b"\0" * 16, None, 422),
        (True, b"\0", None, 422),
        (16, b"\0" * 16, "9999", 400),
        (16, b"\0" * 16, "-1", 400),
        (16, b"\0" * 16, "7", 400),
        (16, b"\0" * 16, "9" * 5_000, 400),
        (16, b"\0" * 16, "\u00b2", 400),
    ],
)
def test_lengths_that_lie_are_refused(
    numbers: InProcess, size: Any, content: bytes, length: str | None, status: int
) -> None:
    sent = {"name": "x", "datatype": "FP64", "shape": [1, 2], "parameters": {"binary_data_size": size}}
    head = msgspec.json.encode({"inputs": [sent]})
    got = numbers.post(
        "/v2/models/category/infer", head + content, inference_header_content_length=length or str(len(head))
    )
    assert got.status == status, got.content
    assert got.json()["error"]


def test_what_is_asked_for_comes_in_the_form_that_is_asked_for(app: InProcess) -> None:
    inputs = [tensor("title", "BYTES", ["a fridge"]), tensor("colour", "BYTES", ["red"])]
    wanted = [
        {"name": "output", "parameters": {"binary_data": True}},
        {"name": "top_scores", "parameters": {"binary_data": False}},
    ]
    got = app.post(
        "/v2/models/category/infer",
        {"inputs": inputs, "outputs": wanted, "parameters": {"key": 7, "replay": True, "other": 1}},
    )
    length = int(got.headers["inference-header-content-length"])
    head = Got(200, {}, got.content[:length]).json()
    assert got.headers["content-type"] == "application/octet-stream"
    assert [one["name"] for one in head["outputs"]] == ["output", "top_scores"]
    assert head["outputs"][0]["parameters"]["binary_data_size"] == len(got.content) - length
    assert got.content[length:] == b"\x07\0\0\0Fridges"
    record = app.record(got)
    assert (record.key, record.replay, head["id"]) == ("7", True, record.id)


def test_all_in_binary_is_what_is_given_by_default_and_no_explanation(app: InProcess) -> None:
    """As Triton's client asks where it names no output."""
    inputs = [tensor("title", "BYTES", ["a fridge"]), tensor("colour", "BYTES", ["red"])]
    plain = app.post("/v2/models/category/infer", {"inputs": inputs})
    asked = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    got = app.post("/v2/models/category/infer", asked)
    head = msgspec.json.decode(got.content[: int(got.headers["inference-header-content-length"])])
    assert [one["name"] for one in head["outputs"]] == list(outputs(plain))
    assert all("binary_data_size" in one["parameters"] for one in head["outputs"])


def test_bytes_behind_the_json_without_its_length_are_told_of(numbers: InProcess) -> None:
    head = msgspec.json.encode({"inputs": [tensor("x", "FP64", [1, 2], [])]})
    got = numbers.post(
        "/v2/models/category/infer", head + b"\0" * 16, content_type="application/octet-stream"
    )
    assert (got.status, "Inference-Header-Content-Length" in got.json()["error"]) == (400, True)


def test_bytes_of_an_image_go_to_the_model_as_bytes_and_to_the_log_as_a_digest(
    tmp_path: Path, in_process: Opening
) -> None:
    write_release(tmp_path, "rel_control", title_model(columns=2), inputs=(TITLE, Field("photo", "binary")))
    go_live(tmp_path, ("control", 100))
    app = in_process(tmp_path)
    photo = bytes(range(256))
    inputs = [
        tensor("title", "BYTES", ["a fridge"]),
        {
            "name": "photo",
            "datatype": "BYTES",
            "shape": [1],
            "parameters": {"binary_data_size": len(photo) + 4},
        },
    ]
    got = binary(app, "/v2/models/category/infer", inputs, len(photo).to_bytes(4, "little") + photo)
    in_text = app.post(
        "/v1/models/category:predict",
        {"instances": [{"title": "a fridge", "photo": base64.b64encode(photo).decode()}]},
    )
    assert app.record(got).inputs["photo"] == app.record(in_text).inputs["photo"]
    assert str(app.record(got).inputs["photo"]).startswith("blake3:")


def test_a_model_is_described_before_it_is_asked(app: InProcess, numbers: InProcess) -> None:
    found = app.get("/v2/models/category").json()
    assert (found["name"], found["versions"], found["platform"]) == ("category", ["3"], "everloop_sklearn")
    assert found["inputs"] == [
        {"name": "title", "datatype": "BYTES", "shape": [-1]},
        {"name": "colour", "datatype": "BYTES", "shape": [-1]},
    ]
    assert found["outputs"][4] == {"name": "top_scores", "datatype": "FP64", "shape": [-1, 2]}
    assert [one["name"] for one in numbers.get("/v2/models/category").json()["outputs"]] == [
        "output",
        "prediction_id",
        "version",
    ]
    assert app.get("/v2/models/category/versions/3").json() == found


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True, "epoch": 1, "workers": 1}),
        ("/v2/models", {"models": ["category"]}),
        ("/v2/models/category/ready", {"name": "category", "ready": True}),
        ("/v2/models/category/versions/3/ready", {"name": "category", "ready": True}),
        ("/v1/models", {"models": ["category"]}),
        ("/v1/models/category", {"name": "category", "ready": True}),
        ("/ping", {"live": True}),
    ],
)
def test_probes_are_answered_as_each_protocol_asks(app: InProcess, path: str, answer: Any) -> None:
    got = app.get(path)
    assert (got.status, got.json()) == (200, answer)


def test_servers_say_what_they_speak(app: InProcess) -> None:
    assert app.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert app.get("/version").content == b"3.17.2"


GOOD = [tensor("title", "BYTES", ["a fridge"]), tensor("colour", "BYTES", ["red"])]
BOTH = {**GOOD[0], "parameters": {"binary_data_size": 0}}
CLASSIFIED = {"name": "output", "parameters": {"classification": 2}}
BAD: list[tuple[str, Any, int]] = [
    ("/invocations", b"{", 400),
    ("/invocations", {}, 422),
    ("/invocations", {"inputs": [["a fridge", "red"]], "instances": [["a fridge", "red"]]}, 422),
    ("/invocations", {"inputs": []}, 422),
    ("/invocations", {"inputs": [[1]] * 1_001}, 422),
    ("/invocations", {"inputs": [["a fridge"]]}, 422),
    ("/invocations", {"inputs": {"title": ["a", "b"], "colour": ["red"]}}, 422),
    ("/invocations", {"inputs": [["a fridge", "red"]], "params": {"temperature": 1}}, 422),
    ("/invocations", {"dataframe_split": {"columns": ["title", "title"], "data": [["a", "b"]]}}, 422),
    ("/invocations", {"dataframe_split": {"columns": ["title"], "data": [["a", "b"]]}}, 422),
    ("/invocations", {"inputs": [["a fridge", 12345678901234567890123]]}, 422),
    ("/v1/models/category:predict", {"instances": [["a fridge", "green"]]}, 500),
    ("/v1/models/category:predict", b'{"instances": [' + b"[" * 5_000, 400),
    ("/v1/models/other:predict", {"instances": []}, 404),
    ("/v2/models/category/infer", {"inputs": []}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "BYTES", ["a"])]}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "BYTES", ["a", "b"], [3])]}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "BYTES", [], [])]}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "BYTES", ["a"], [1] * 9)]}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "TEXT", ["a"])]}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "INT8", [128])]}, 422),
    ("/v2/models/category/infer", {"inputs": [tensor("title", "INT8", [True])]}, 422),
    ("/v2/models/category/infer", {"inputs": [{"name": "title", "datatype": "BYTES", "shape": [1]}]}, 422),
    ("/v2/models/category/infer", {"inputs": [BOTH, GOOD[1]]}, 422),
    ("/v2/models/category/infer", {"inputs": GOOD, "outputs": [{"name": "other"}]}, 422),
    ("/v2/models/category/infer", {"inputs": GOOD, "outputs": [CLASSIFIED]}, 422),
    ("/v2/models/category/infer", {"inputs": GOOD, "parameters": {"binary_data_output": 1}}, 422),
    ("/v2/models/category/infer", {"inputs": GOOD, "parameters": {"key": 1.5}}, 422),
    ("/v2/models/category/infer", {"inputs": [*GOOD, GOOD[0]]}, 422),
    ("/v2/models/category/infer", {"inputs": [GOOD[0], tensor("colour", "BYTES", ["red", "red"])]}, 422),
    ("/v2/models/category/versions/2/infer", {"inputs": []}, 404),
]


@pytest.mark.parametrize(("path", "body", "status"), BAD)
def test_what_cannot_be_answered_is_refused_in_the_protocols_form(
    app: InProcess, path: str, body: Any, status: int
) -> None:
    got = app.post(path, body)
    error = got.json()
    assert got.status == status, error
    message = error["message"] if "invocations" in path else error["error"]
    assert message.endswith(".")
    if "invocations" in path:
        assert error["error_code"] == {400: "BAD_REQUEST", 422: "INVALID_PARAMETER_VALUE"}[status]
    if status != 404:
        assert app.record(got).status == ("failed" if status == 500 else "refused")


@pytest.mark.parametrize("path", PREDICTING)
def test_methods_lengths_and_codings_are_checked_everywhere(app: InProcess, path: str) -> None:
    assert app.get(path).status == 405
    assert app.post(path, b" " * 10_001).status == 413
    assert app.post(path, b"{}", content_encoding="gzip").status == 415
    assert app.post(path, b"{}", origin="https://evil.example.org").status == 403


@pytest.mark.parametrize("kind", ["application/vnd.apache.parquet", "text/csv; charset=latin-1", "x"])
def test_other_content_types_are_refused_by_name(app: InProcess, kind: str) -> None:
    got = app.post("/invocations", b"", content_type=kind)
    assert got.status == 415
    assert "taken" in got.json()["message"]


def test_a_row_without_a_prediction_leaves_all_unanswered_where_rows_have_no_errors_of_their_own(
    app: InProcess,
) -> None:
    got = app.post("/v1/models/category:predict", {"instances": [["a", "red"], ["b", "green"], ["c", 3]]})
    assert (got.status, got.json()["row"]) == (422, 2)
    assert got.json()["fields"] == [{"field": "colour", "problem": "is 3; it must be a text"}]
    assert "2 of 3 rows have no prediction" in got.json()["error"]
    table = log.read(app.folder, columns=["status", "request"]).to_pylist()
    assert got.json()["request"] == got.headers["x-everloop-request"]
    statuses = [one["status"] for one in table if one["request"] == got.json()["request"]]
    assert statuses == ["ok", "failed", "refused"]


def test_a_full_queue_says_when_to_try_again(tmp_path: Path, in_process: Opening) -> None:
    write_release(tmp_path, "rel_control", title_model())
    go_live(tmp_path, ("control", 100))
    app = in_process(tmp_path, queue_limit=0)
    got = app.post("/v2/models/category/infer", {"inputs": [tensor("title", "BYTES", ["a"])]})
    assert (got.status, got.headers["retry-after"], got.json()["code"]) == (503, "1", "overloaded")


def test_invocations_without_a_name_are_refused_where_several_could_be_meant(
    tmp_path: Path, in_process: Opening
) -> None:
    app = in_process(tmp_path)
    assert app.post("/invocations", {"inputs": [["a"]]}).status == 503
    write_release(tmp_path, "rel_control", title_model())
    one = route(("control", 100))
    endpoints = {"category": one, "kind": msgspec.structs.replace(one, endpoint="kind")}
    write_routes(tmp_path / "serving", RouteTable(1, endpoints))
    app.reload()
    got = app.post("/invocations", {"inputs": [["a"]]})
    assert got.status == 404
    assert "category, kind" in got.json()["message"]


TITLES = {"inputs": [{"name": "title", "datatype": "BYTES", "shape": [1], "data": ["a fridge"]}]}


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/endpoints/category/predict", {"inputs": {"title": "a fridge"}, "version": 2}, {}),
        ("/v2/models/category/versions/2/infer", TITLES, {}),
        ("/v2/models/category/infer", {**TITLES, "parameters": {"version": 2}}, {}),
        ("/v2/models/category/infer", TITLES, {"x_everloop_version": "2"}),
        ("/v1/models/category:predict", {"instances": ["a fridge"]}, {"x_everloop_version": "2"}),
        ("/endpoints/category/invocations", {"inputs": ["a fridge"], "params": {"version": 2}}, {}),
    ],
)
@pytest.mark.parametrize("variants", [(("control", 90), ("canary", 10)), (("control", 100), ("canary", 0))])
def test_a_request_may_name_any_version_that_is_loaded(
    home: Path, in_process: Opening, variants: Any, path: str, body: Any, headers: dict[str, str]
) -> None:
    warm = [Variant(name, f"rel_{name}", weight) for name, weight in variants if not weight]
    go_live(home, *(one for one in variants if one[1]), shadow=tuple(warm))
    app = in_process(home)
    for _ in range(8):
        record = app.record(app.post(path, body, **headers))
        assert (record.version, record.variant, record.assigned) == (2, "canary", "pinned")


def test_a_version_that_is_not_loaded_is_refused_with_what_is_there(home: Path, in_process: Opening) -> None:
    go_live(home, ("control", 90), ("canary", 10))
    app = in_process(home)
    got = app.post("/v2/models/category/versions/7/infer", TITLES)
    assert got.status == 404
    assert "there is 1, 2" in got.json()["error"]
    assert app.record(got).status == "refused"
    asked = {"instances": [{"inputs": {"title": "a"}}, {"inputs": {"title": "a"}, "version": 7}]}
    assert app.post("/endpoints/category/predict", asked).status == 404
    both = app.post("/v2/models/category/versions/1/infer", {**TITLES, "parameters": {"version": 2}})
    assert (both.status, "Name one" in both.json()["error"]) == (422, True)
    assert app.get("/v2/models/category").json()["versions"] == ["1", "2"]


def test_what_a_request_or_a_rule_placed_is_not_mirrored(home: Path, in_process: Opening) -> None:
    mirrored = (Variant("shadow", "rel_canary", 100),)
    rule = Rule("staff", Variant("shadow", "rel_canary", 0), header="x-staff", values=("yes",))
    go_live(home, ("control", 100), shadow=mirrored, rules=(rule,))
    with InProcess(home) as app:
        path, asked = "/endpoints/category/predict", {"inputs": {"title": "a fridge"}}
        app.post(path, {**asked, "version": 1})
        app.post(path, asked, x_staff="yes")
        app.post(path, asked, x_staff="no")
    found = log.read(app.folder, columns=["assigned", "shadow_of", "version"]).to_pylist()
    assert sorted((one["assigned"], one["version"], one["shadow_of"] is None) for one in found) == [
        ("pinned", 1, True),
        ("rule:staff", 2, True),
        ("shadow", 2, False),
        ("weights", 1, True),
    ]


def test_all_rows_of_a_request_go_to_one_variant(home: Path, in_process: Opening) -> None:
    go_live(home, ("control", 50), ("canary", 50))
    app = in_process(home)
    for _ in range(8):
        got = app.post("/invocations", {"inputs": [["a fridge"]] * 5})
        assert len({each["version"] for each in got.json()["everloop"]}) == 1


BODIES = st.one_of(
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "inputs",
                        "instances",
                        "dataframe_split",
                        "data",
                        "columns",
                        "name",
                        "shape",
                        "datatype",
                        "id",
                        "parameters",
                        "outputs",
                        "title",
                        "colour",
                        "binary_data_size",
                        "params",
                        "key",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(PREDICTING),
    body=BODIES,
    length=st.none() | st.text(st.characters(max_codepoint=255), max_size=4),
    csv=st.booleans(),
)
def test_no_body_is_a_fault_of_ours(
    app: InProcess, path: str, body: Any, length: str | None, csv: bool
) -> None:
    headers = {"content_type": "text/csv"} if csv else {}
    if length is not None:
        headers["inference_header_content_length"] = length
    got = app.post(path, body, **headers)
    assert 400 <= got.status < 500
    assert got.json()


TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["title", "colour", "input-0"]),
        "datatype": st.sampled_from([*DATATYPES, "FP8"]),
        "shape": st.lists(st.integers(0, 3) | st.integers(), max_size=3),
    },
    optional={
        "data": st.lists(st.none() | st.booleans() | st.integers() | st.text(max_size=3), max_size=4),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 30) | st.floats()}),
    },
)
OUTPUTS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["output", "top_scores", "other"])},
        optional={"parameters": st.dictionaries(st.just("binary_data"), st.booleans() | st.integers())},
    ),
    max_size=2,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=st.lists(TENSORS, max_size=3), content=st.binary(max_size=40), outputs=OUTPUTS)
def test_no_tensor_is_a_fault_of_ours(
    app: InProcess, inputs: list[dict[str, Any]], content: bytes, outputs: list[dict[str, Any]]
) -> None:
    got = binary(app, "/v2/models/category/infer", inputs, content, outputs=outputs)
    assert got.status in (200, 400, 422) or got.json()["code"] == "model_failed"


AT = datetime(2026, 10, 1, 12, tzinfo=UTC)


def test_the_time_is_not_the_clients_to_choose(app: InProcess) -> None:
    got = app.post("/v1/models/category:predict", {"instances": [["a", "red"]]}, x_everloop_at=AT.isoformat())
    assert (got.status, got.json()["fields"][0]["field"]) == (422, "at")
