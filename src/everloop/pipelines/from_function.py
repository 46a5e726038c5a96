"""A Python function or class with a signature as a model: its source, what it takes and gives, in a model's folder.

The code is kept as text, so that whoever is asked to trust it can read what will run. It runs in a process of its own, and only
once somebody trusts it.
"""

from __future__ import annotations

import inspect
import json
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml

from everloop import registry
from everloop.errors import Invalid
from everloop.pipelines.cells import module_of_cells
from everloop.pipelines.parameters import Between
from everloop.pipelines.project import is_installed, project_of
from everloop.registry import ModelVersion
from everloop.serving import FUNCTION_FLAVOR, Field, FieldType, FunctionSource, Signature
from everloop.workspace import Workspace

_EXAMPLE_FILE = "input_example.json"
_CELLS = "cells"  # the module of what was written in a notebook
_TYPES: dict[Any, FieldType] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    datetime: "time",
    bytes: "binary",
}
_TYPES.update({name: name for name in typing.get_args(FieldType)})


@dataclass(frozen=True)
class FunctionModel:
    """What a function takes and gives, and the files of its model's folder."""

    signature: Signature
    files: Mapping[str, bytes]

    def save(self, folder: Path) -> None:
        """Write the folder, which `everloop models register` takes."""
        for path, content in self.files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def register(self, ws: Workspace, name: str) -> ModelVersion:
        """Register it as the next version of a model. It is served once it passed its gates and somebody trusts it."""
        digests = {path: ws.blobs.put(content) for path, content in self.files.items()}
        return registry.register(ws, name, run=None, files=digests, signature=None, metrics={})


def function_model(
    predict: Callable[..., Any],
    *,
    inputs: Mapping[str, Any] | None = None,
    output: Any = None,
    arguments: Mapping[str, Any] | None = None,
    code: Sequence[Path | str] = (),
    example: Mapping[str, Any] | None = None,
) -> FunctionModel:
    """Make a model of a function, or of a class with `predict(rows)`.

    The module that it is written in is kept, with all that it imports of the same project; of a notebook, what it reaches there.

    Parameters
    ----------
    predict
        With `inputs` it is given a list of rows, each a dictionary, and returns one answer a row. A function without `inputs` is
        called for each row, and its annotated parameters are the inputs.
    inputs
        By name the type: str, int, float, bool, datetime, bytes, "image"; `X | None` where null may come, `Literal[...]`
        for what is allowed, `el.between(0.0, 10.0)` for limits, or a `serving.Field`.
    output
        float for numbers, the classes as a list, or str where they are not known. Without it the annotation of what is returned.
    arguments
        What the class is made with, or the function is given with each call: JSON, or a `Path`, whose file is kept.
    code
        Further files and folders that it imports.
    example
        A row that it must answer before it is released.

    Raises
    ------
    Invalid
        It has no annotations and no `inputs`, or an input of a type that no request can carry; its source cannot be read; or
        it is a lambda, or defined inside of another function.
    """
    arguments = arguments or {}
    qualified = getattr(predict, "__qualname__", type(predict).__name__)
    if not inspect.isfunction(predict) and not inspect.isclass(predict):
        raise Invalid(
            f"{qualified} is an object; a model is made of a function or a class, whose source can be kept. Give its class, and what it "
            "is made with as arguments=."
        )
    if "<" in qualified:
        raise Invalid(
            f"{qualified} is a lambda or inside of a function, where its process could not find it. Define it by itself."
        )
    is_class = inspect.isclass(predict)
    if is_class and not callable(getattr(predict, "predict", None)):
        raise Invalid(
            f"the class {qualified} has no predict; a model's class has predict(self, rows). Define it."
        )
    hints = _hints(getattr(predict, "predict", predict))
    takes: Literal["rows", "row"] = "row" if inputs is None else "rows"
    if inputs is None:
        inputs = _parameters(predict, qualified, hints, but_for=arguments)
    kinds, classes = _output(hints.get("return") if output is None else output, qualified)
    signature = Signature(tuple(_field(name, kind) for name, kind in inputs.items()), kinds, classes)
    module, sources = _sources(predict)
    files = {f"code/{place}": content for place, content in {**sources, **_further(code)}.items()}
    kept = {name: Path(value) for name, value in arguments.items() if isinstance(value, Path)}
    files |= {f"files/{name}/{path.name}": path.read_bytes() for name, path in kept.items()}
    source = FunctionSource(
        module,
        qualified,
        takes,
        _plain({name: value for name, value in arguments.items() if name not in kept}),
        {name: f"files/{name}/{path.name}" for name, path in kept.items()},
    )
    if example is not None:
        split = {"columns": [*example], "data": [[*example.values()]]}
        files[_EXAMPLE_FILE] = msgspec.json.encode(split)
    files["MLmodel"] = _described(source, signature, has_example=example is not None)
    return FunctionModel(signature, files)


def _hints(function: Any) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001  (annotations are expressions: evaluating them may raise anything)
        return {}


def _parameters(
    predict: Callable[..., Any], qualified: str, hints: Mapping[str, Any], *, but_for: Mapping[str, Any]
) -> dict[str, Any]:
    if inspect.isclass(predict):
        raise Invalid(
            f"the class {qualified} is given without inputs=; its predict takes rows, whose columns nobody knows. Name them, such as "
            'inputs={"size": float}.'
        )
    names = [name for name in inspect.signature(predict).parameters if name not in but_for]
    missing = [name for name in names if name not in hints]
    if missing or not names:
        raise Invalid(
            f"{qualified} does not say what it takes: {', '.join(missing) or 'no parameter'} has no annotation. Annotate each parameter, or name the "
            'columns of rows with inputs={"size": float}.'
        )
    return {name: hints[name] for name in names}


def _field(name: str, kind: Any) -> Field:
    """What an annotation says of an input. Raises Invalid."""
    if isinstance(kind, Field):
        return msgspec.structs.replace(kind, name=name)
    if isinstance(kind, Between):
        limited = _field(name, int if kind.is_whole else float)
        return msgspec.structs.replace(limited, minimum=float(kind.low), maximum=float(kind.high))
    if isinstance(kind, str | type) and kind in _TYPES:
        return Field(name, _TYPES[kind])
    found = _composed(name, typing.get_origin(kind), typing.get_args(kind))
    if found is not None:
        return found
    raise Invalid(
        f"input {name!r} is a {kind}, which no request can carry: an input is str, int, float, bool, datetime, bytes or "
        '"image", one of these or None, or a Literal of one of them. Change it.'
    )


def _composed(name: str, origin: Any, inner: tuple[Any, ...]) -> Field | None:
    if origin is Annotated:
        limits = [one for one in inner[1:] if isinstance(one, Between)]
        found = _field(name, inner[0])
        for one in limits:
            found = msgspec.structs.replace(found, minimum=float(one.low), maximum=float(one.high))
        return found
    if origin in (typing.Union, types.UnionType):
        some = [one for one in inner if one is not type(None)]
        return msgspec.structs.replace(_field(name, some[0]), nullable=True) if len(some) == 1 else None
    kinds = {type(one) for one in inner} if origin is Literal else set()
    return (
        Field(name, _TYPES[kinds.pop()], allowed=inner)
        if len(kinds) == 1 and kinds <= _TYPES.keys()
        else None
    )


def _output(kind: Any, qualified: str) -> tuple[Literal["class", "number"], tuple[str, ...] | None]:
    if kind in (float, int, "number"):
        return "number", None
    if kind in (str, "class"):
        return "class", None
    classes = typing.get_args(kind) if typing.get_origin(kind) is Literal else kind
    if isinstance(classes, list | tuple) and classes and all(isinstance(one, str) for one in classes):
        return "class", tuple(classes)
    raise Invalid(
        f"{qualified} does not say what it gives: {kind!r} is neither float, nor str, nor a list of classes. Annotate it, or "
        'name it with output=float or output=["yes", "no"].'
    )


def _sources(predict: Any) -> tuple[str, dict[str, bytes]]:
    """The module's name in its process, and by their places the files that are kept for it."""
    name, module = predict.__module__, inspect.getmodule(predict)
    file = getattr(module, "__file__", None)
    if file is None or not Path(file).is_file():
        text, modules = module_of_cells(predict)
        kept = {f"{_CELLS}.py": text.encode()}
        for one in sorted(modules):
            kept |= _of_module(one, getattr(sys.modules.get(one), "__file__", None))
        return _CELLS, kept
    name = Path(file).stem if name == "__main__" else name
    return name, _of_module(name, file)


def _of_module(name: str, file: str | None) -> dict[str, bytes]:
    """A module of the user's project and all that it imports there; nothing of one that the environment has."""
    if file is None or not file.endswith(".py") or is_installed(Path(file)):
        return {}
    project = project_of(name, file)
    found: dict[str, bytes] = {}
    for one in project.reached_from(name):
        relative = Path(*one.name.split("."))
        is_package = Path(one.place).name == "__init__.py"
        place = relative / "__init__.py" if is_package else relative.with_suffix(".py")
        found[place.as_posix()] = project.content(one.place)
    return found


def _further(code: Sequence[Path | str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in map(Path, code):
        if not one.exists():
            raise Invalid(f"{one} is not there; code= names files and folders to keep. Correct the path.")
        for path in [one] if one.is_file() else sorted(one.rglob("*.py")):
            found[path.relative_to(one.parent).as_posix()] = path.read_bytes()
    return found


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(json.dumps(arguments))
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"the arguments cannot be kept as JSON: {error}. Give plain values, and files as Path."
        ) from error
    return told


def _described(source: FunctionSource, signature: Signature, *, has_example: bool) -> bytes:
    example = {"artifact_path": _EXAMPLE_FILE, "pandas_orient": "split", "type": "dataframe"}
    content = {
        "flavors": {FUNCTION_FLAVOR: msgspec.to_builtins(source)},
        "metadata": {"everloop": {"signature": msgspec.to_builtins(signature), "features": []}},
        **({"saved_input_example_info": example} if has_example else {}),
    }
    return yaml.safe_dump(content).encode()
