"""A Python function or class as a model: kept as source, trusted, and served from a process of its own."""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import numpy as np
import pytest

import everloop as el
from everloop import registry, serving
from everloop.errors import GateFailed, Invalid
from everloop.pipelines import FunctionModel, function_model
from everloop.serving import Field, Predictor
from everloop.workspace import Workspace, open_workspace
from tests.conftest import START
from tests.registry.versions import check

PRICES = """
from typing import Literal

from rates import RATE


def worth(size: float, kind: Literal["flat", "house"], rooms: int | None) -> float:
    return size * RATE * (2 if kind == "house" else 1) + (rooms or 0)


class Steps:
    def __init__(self, step, names):
        self.step, self.names = step, names.read_text().split()

    def predict(self, rows):
        return [self.names[int(row["size"] // self.step)] for row in rows]


def outer():
    def inner(size: float) -> float:
        return size

    return inner
"""
ROW = {"size": 2.0, "kind": "house", "rooms": None}


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A user's own module, which imports another of the same folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "rates.py").write_text("RATE = 10\n")
    (folder / "prices.py").write_text(PRICES)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("prices")
    for name in ("prices", "rates"):
        sys.modules.pop(name, None)


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path / "home", simulation_from=START, actor="tester") as opened:
        yield opened


def answers(ws: Workspace, model: FunctionModel, *rows: list[Any]) -> list[str | float]:
    """What a released version answers, on its whole way: registered, gated, trusted, released, loaded."""
    version = model.register(ws, "category")
    check(ws, version)
    registry.trust(ws, version.ref, reason="I wrote it")
    release = registry.release(ws, version.ref)
    manifest = serving.verified_manifest(ws.home / "serving", release.id)
    assert (manifest.flavor, manifest.signature) == ("function", model.signature)
    asked = np.empty((len(rows), len(rows[0])), dtype=object)
    asked[:] = rows
    with closing(Predictor.load(manifest, ws.blobs, hidden=ws.home.absolute())) as predictor:
        return predictor.predict(asked)[0]


def test_a_functions_own_annotations_are_its_signature_and_it_answers_from_its_own_process(
    ws: Workspace, prices: Any
) -> None:
    model = function_model(prices.worth, example=ROW)
    assert model.signature.inputs == (
        Field("size", "number"),
        Field("kind", "string", allowed=("flat", "house")),
        Field("rooms", "integer", nullable=True),
    )
    assert (model.signature.output, model.signature.classes) == ("number", None)
    assert set(model.files) == {"MLmodel", "code/prices.py", "code/rates.py", "input_example.json"}
    assert answers(ws, model, [2.0, "house", None], [1.0, "flat", 3]) == [40.0, 13.0]


def test_a_class_is_made_with_its_arguments_and_files(ws: Workspace, prices: Any, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("small large")
    model = function_model(
        prices.Steps,
        inputs={"size": Annotated[float, el.between(0.0, 19.0)]},
        output=["small", "large"],
        arguments={"step": 10, "names": names},
    )
    assert model.signature.inputs == (Field("size", "number", minimum=0.0, maximum=19.0),)
    assert answers(ws, model, [3.0], [12.0]) == ["small", "large"]


def test_nobodys_code_runs_before_somebody_trusts_it(ws: Workspace, prices: Any) -> None:
    version = function_model(prices.worth, example=ROW).register(ws, "category")
    check(ws, version)
    with pytest.raises(
        GateFailed, match=r"brings code of its own \(a function\).*everloop models trust category@1"
    ):
        registry.release(ws, version.ref)


def test_a_function_that_does_not_answer_its_example_is_not_released(ws: Workspace, prices: Any) -> None:
    version = function_model(prices.Steps, inputs={"size": float}, output=str).register(ws, "category")
    check(ws, version)
    registry.trust(ws, version.ref, reason="I wrote it")
    with pytest.raises(Invalid, match="missing 2 required positional arguments"):
        registry.release(ws, version.ref)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Runs a cell as a kernel does."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)

    def run(text: str) -> dict[str, Any]:
        name = f"<ipython-input-{len(linecache.cache)}>"
        monkeypatch.setitem(linecache.cache, name, (len(text), None, text.splitlines(keepends=True), name))
        exec(compile(text, name, "exec"), vars(main))  # noqa: S102  (it is what a kernel does)
        return vars(main)

    return run


def test_a_model_that_answers_its_example_with_no_number_is_not_released(ws: Workspace, prices: Any) -> None:
    example = {**ROW, "size": 1e308}  # times the rate it is infinite
    version = function_model(prices.worth, example=example).register(ws, "category")
    check(ws, version)
    registry.trust(ws, version.ref, reason="I wrote it")
    with pytest.raises(
        Invalid, match="does not answer its own input example: ValueError: the model returned inf"
    ):
        registry.release(ws, version.ref)


def test_a_function_of_a_notebook_is_kept_with_what_it_reaches_there_and_nothing_else(
    ws: Workspace, notebook: Callable[[str], dict[str, Any]]
) -> None:
    notebook("import math as m\nfrom datetime import timedelta\nprint('not kept')")
    notebook("RATE = {'a': 3.0}\ntable = object()")
    notebook("def doubled(x, by=RATE):\n    return 2 * m.floor(x) * by['a']")
    cells = notebook("def ask(x: float) -> float:\n    return doubled(x) + timedelta(1).days")
    model = function_model(cells["ask"])
    assert b"print" not in model.files["code/cells.py"]
    assert answers(ws, model, [2.5]) == [13.0]


def test_a_notebooks_value_that_no_text_stands_for_is_refused(
    notebook: Callable[[str], dict[str, Any]],
) -> None:
    cells = notebook("table = object()\ndef ask(x: float) -> float:\n    return table")
    with pytest.raises(Invalid, match="uses the notebook's variable table, a object"):
        function_model(cells["ask"])


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (int, Field("x", "integer")),
        (datetime, Field("x", "time")),
        (bool | None, Field("x", "boolean", nullable=True)),
        (el.between(1, 9), Field("x", "integer", minimum=1.0, maximum=9.0)),
        (Literal[1, 2], Field("x", "integer", allowed=(1, 2))),
        ("image", Field("x", "image")),
        (Field("other", "string", nullable=True), Field("x", "string", nullable=True)),
    ],
)
def test_each_type_becomes_a_field(prices: Any, kind: Any, field: Field) -> None:
    made = function_model(prices.Steps, inputs={"x": kind}, output=float)
    assert made.signature.inputs == (field,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: function_model(lambda size: size), "is a lambda or inside of a function"),
        (lambda p: function_model(p.outer()), "inside of a function"),
        (lambda p: function_model(p.outer), "no parameter has no annotation"),
        (lambda p: function_model(p.Steps), "is given without inputs="),
        (lambda p: function_model(p.Steps(1, Path(__file__))), "is an object"),
        (lambda p: function_model(p.Steps, inputs={"x": list}, output=float), "which no request can carry"),
        (lambda p: function_model(p.Steps, inputs={"x": float}), "does not say what it gives"),
        (lambda p: function_model(p.worth, arguments={"rooms": {1}}), "cannot be kept as JSON"),
        (lambda p: function_model(p.worth, code=["nowhere.py"]), "nowhere.py is not there"),
        (lambda p: function_model(ModuleType), "has no predict"),
    ],
)
def test_what_cannot_be_a_model_says_why(prices: Any, make: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        make(prices)
