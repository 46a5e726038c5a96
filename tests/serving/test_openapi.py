"""What an endpoint says of itself in OpenAPI is what it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from everloop.serving import Field, FieldType
from tests.serving.asgi import InProcess
from tests.serving.home import CLASSES, TITLE, go_live, title_model, write_release

TYPES: tuple[FieldType, ...] = ("string", "integer", "number", "boolean", "time", "image", "binary")
INPUTS = (
    TITLE,
    Field("colour", "string", nullable=True, allowed=("red", "white")),
    Field("stars", "integer", minimum=1, maximum=5),
    Field("price", "number", minimum=0.5),
    *(Field(f"any_{kind}", kind) for kind in TYPES),
    *(Field(f"maybe_{kind}", kind, nullable=True) for kind in TYPES),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    home = tmp_path_factory.mktemp("home")
    write_release(home, "rel_control", title_model(columns=len(INPUTS)), inputs=INPUTS, version=7)
    go_live(home, ("control", 100))
    with InProcess(home) as app:
        yield app


@pytest.fixture
def described(app: InProcess) -> Any:
    return app.get("/endpoints/category/openapi.json").json()


def schema(described: Any, name: str) -> Any:
    return described["components"]["schemas"][name]


def test_it_names_the_version_that_answers(described: Any) -> None:
    assert (described["openapi"], described["info"]["version"]) == ("3.1.0", "7")
    assert list(described["paths"]) == [
        "/endpoints/category/predict",
        "/endpoints/category/invocations",
        "/invocations",
        "/v1/models/category:predict",
        "/v1/models/category:explain",
        "/v2/models/category/infer",
        "/v2/models/category",
        "/v2/models/category/ready",
    ]


@pytest.mark.parametrize("path", ["/invocations", "/v1/models/category:predict", "/v2/models/category/infer"])
def test_the_example_of_each_protocol_is_answered(app: InProcess, described: Any, path: str) -> None:
    (body,) = described["paths"][path]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ].values()
    assert app.post(path, body["value"]).status == 200


def test_each_input_has_its_type_its_limits_and_what_it_allows(described: Any) -> None:
    fields = schema(described, "Inputs")["properties"]
    assert fields["title"] == {"type": "string"}
    assert fields["colour"] == {"type": ["string", "null"], "enum": ["red", "white", None]}
    assert fields["stars"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert fields["price"] == {"type": "number", "minimum": 0.5}
    assert fields["maybe_time"] == {"type": ["string", "null"], "format": "date-time"}
    assert fields["any_binary"]["contentEncoding"] == "base64"


def test_what_may_be_left_out_may_be_left_out(app: InProcess, described: Any) -> None:
    inputs = example(described)
    needed = schema(described, "Inputs")["required"]
    assert needed == [field.name for field in INPUTS if not field.nullable]
    assert ask(app, {name: inputs[name] for name in needed}).status == 200
    for name in needed:
        found = ask(app, {other: value for other, value in inputs.items() if other != name})
        assert [field["field"] for field in found.json()["error"]["fields"]] == [name]


def test_the_examples_are_answered_as_the_document_says(app: InProcess, described: Any) -> None:
    post = described["paths"]["/endpoints/category/predict"]["post"]
    examples = post["requestBody"]["content"]["application/json"]["examples"]
    one = app.post("/endpoints/category/predict", examples["one"]["value"])
    several = app.post("/endpoints/category/predict", examples["several"]["value"])
    prediction = schema(described, "Prediction")
    assert prediction["properties"]["output"] == {"type": "string", "enum": list(CLASSES)}
    for answer in (one.json(), *several.json()["predictions"]):
        assert sorted(answer) == sorted(prediction["required"])


def test_each_error_is_in_the_document_in_its_form(app: InProcess, described: Any) -> None:
    responses = described["paths"]["/endpoints/category/predict"]["post"]["responses"]
    error = schema(described, "Error")["properties"]["error"]
    bodies: tuple[Any, ...] = (b"{", b"[]", {"inputs": {}})
    for body in bodies:
        got = app.post("/endpoints/category/predict", body)
        assert str(got.status) in responses
        assert set(got.json()["error"]) <= set(error["properties"])
        assert set(error["required"]) <= set(got.json()["error"])


def test_every_reference_leads_somewhere(described: Any) -> None:
    found = set(references(described))
    assert found == {f"#/components/schemas/{name}" for name in described["components"]["schemas"]}


def example(described: Any) -> Any:
    return schema(described, "Question")["examples"][0]["inputs"]


def ask(app: InProcess, inputs: Any) -> Any:
    return app.post("/endpoints/category/predict", {"inputs": inputs})


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from references(inner)
