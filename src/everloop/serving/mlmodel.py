"""What an `MLmodel` file says: which library's model it is, in which file, and what it takes.

The file comes from whoever logged the model, so it is read as an enemy's: its size and its columns are bounded, YAML aliases
are refused (a few lines of them can stand for gigabytes), a path counts only if it is one of the version's own files, and
no module that it names is ever imported.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml

from everloop.errors import Invalid
from everloop.serving.records import Field, FieldType, Signature

NAME = "MLmodel"
FUNCTION_FLAVOR = "everloop_function"
MOST_BYTES = 256 * 1024
MOST_COLUMNS = 2_000
_MOST_EXAMPLE_ROWS, _MOST_EXAMPLE_BYTES = 20, 16 << 20
_DEEPEST = 50
Flavor = Literal["sklearn", "xgboost", "lightgbm", "onnx", "pyfunc", "function", "other"]

_TYPES: dict[str, FieldType] = {
    "boolean": "boolean",
    "integer": "integer",
    "long": "integer",
    "float": "number",
    "double": "number",
    "string": "string",
    "binary": "binary",
    "datetime": "time",
}
_NO_INPUTS = "the model was logged without a signature of its inputs"
_KINDS: dict[str, FieldType] = {"b": "boolean", "i": "integer", "u": "integer", "f": "number", "s": "string"}


class FunctionSource(msgspec.Struct, frozen=True):
    """A function or class of the user's own, as its process loads it: from the module in the folder `code`, by its name there.

    A class is made with `arguments` and its `predict` is asked, a function gets them with each call; `files` are arguments that are
    files of the model's folder. `takes` says whether it is given all rows as a list, or one row's values by name.
    """

    module: str
    name: str
    takes: Literal["rows", "row"] = "rows"
    arguments: dict[str, Any] = {}
    files: dict[str, str] = {}


@dataclass(frozen=True)
class Layout:
    """A model's folder as its MLmodel describes it.

    `file` is the model's own file, None for `pyfunc` and `other`. `model_class` is the class that was saved, as far as told.
    `inputs` are the columns, in order; when they cannot be served row by row, they are empty and `problem` says why.
    `has_text_output`: whether the answers are texts, None when the file does not say. `ours` is what everloop wrote itself.
    `example` is the file of the input example. `is_pyfunc`: MLflow can load it, running what code it brings. `function` is a function of the user's own.
    """

    flavor: Flavor
    file: str | None = None
    model_class: str = ""
    inputs: tuple[Field, ...] = ()
    problem: str | None = None
    has_text_output: bool | None = None
    ours: Signature | None = None
    example: str | None = None
    is_pyfunc: bool = False
    function: FunctionSource | None = None

    @property
    def is_tried(self) -> bool:
        """Whether it is asked before it is relied on: an mlflow client wrote it, or it is code of the user's own."""
        return self.function is not None or (self.is_pyfunc and self.ours is None)

    def signature(self, classes: tuple[str, ...] | None, *, is_class: bool) -> Signature:
        """The signature of the model, once its classes are known. Raises Invalid when its inputs cannot be served."""
        if self.ours is not None:
            return self.ours
        if self.problem is not None:
            raise Invalid(
                f"{self.problem}; a served model takes named columns of one value a row. Log it with a signature of columns: "
                "mlflow.models.infer_signature(a_data_frame, predictions)."
            )
        return Signature(self.inputs, "class" if is_class else "number", classes)


def layout_of(files: Collection[str], read: Callable[[str], bytes]) -> Layout:
    """The layout of a version from its paths; `read` gives a file's content.

    Without MLmodel, or with one that names no flavor, it is scikit-learn's if there is exactly one .skops file.

    Raises Invalid when the MLmodel file cannot be.
    """
    described = _parsed(read(NAME)) if NAME in files else {}
    flavors = described.get("flavors")
    if not isinstance(flavors, dict) or not flavors:
        models = [path for path in files if path.endswith(".skops")]
        is_one = len(models) == 1
        return Layout(
            "sklearn" if is_one else "other",
            models[0] if is_one else None,
            problem=_NO_INPUTS,
            ours=_ours(described),
        )
    function = _function(flavors.get(FUNCTION_FLAVOR))
    flavor, file, model_class = _flavor(flavors, files)
    if function is not None:
        flavor, file = "function", None
    inputs, problem = _inputs(described)
    example = described.get("saved_input_example_info")
    path = example.get("artifact_path") if isinstance(example, dict) else None
    return Layout(
        flavor,
        file,
        model_class,
        inputs,
        problem,
        has_text_output=_has_text_output(described),
        ours=_ours(described),
        example=path if isinstance(path, str) and path in files else None,
        is_pyfunc="python_function" in flavors,
        function=function,
    )


def example_rows(signature: Signature, content: bytes) -> list[dict[str, Any]]:
    """The first rows of an input example in the forms that MLflow writes; none if it has another."""
    try:
        told = msgspec.json.decode(content) if len(content) <= _MOST_EXAMPLE_BYTES else None
    except msgspec.DecodeError:
        return []
    if not isinstance(told, dict):
        return []
    columns = told.get("columns", [one.name for one in signature.inputs])
    rows = told.get("data", told.get("inputs"))
    if not isinstance(columns, list) or not isinstance(rows, list):
        return []
    return [
        dict(zip(columns, row, strict=True))
        for row in rows[:_MOST_EXAMPLE_ROWS]
        if isinstance(row, list) and len(row) == len(columns)
    ]


def _flavor(flavors: dict[Any, Any], files: Collection[str]) -> tuple[Flavor, str | None, str]:
    """The first form that can be loaded without running code of the model's own; else `pyfunc`."""
    for name, key, endings in _FORMS:
        found = flavors.get(name)
        if not isinstance(found, dict):
            continue
        path = found.get(key)
        if isinstance(path, str) and path in files and path.endswith(endings):
            model_class = found.get("model_class")
            return name, path, model_class if isinstance(model_class, str) else ""
    return ("pyfunc" if "python_function" in flavors else "other"), None, ""


def _function(described: object) -> FunctionSource | None:
    if described is None:
        return None
    try:
        return msgspec.convert(described, FunctionSource)
    except msgspec.ValidationError as error:
        raise Invalid(
            f"the MLmodel file describes its function otherwise than everloop does: {error}. Make it with el.function_model."
        ) from error


_FORMS: tuple[tuple[Flavor, str, tuple[str, ...]], ...] = (
    ("sklearn", "pickled_model", (".skops",)),
    ("xgboost", "data", (".ubj", ".json")),
    ("lightgbm", "data", (".lgb", ".txt", ".skops")),
    ("onnx", "data", (".onnx",)),
)


class _PlainLoader(yaml.SafeLoader):
    """YAML's plain types without aliases, nested as far as MLflow does and no further: PyYAML's time grows with the square."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses an alias (*name), which MLflow never writes")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: type[yaml.Token]) -> None:
        if self.flow_level >= _DEEPEST:
            raise yaml.YAMLError(f"it is nested over {_DEEPEST} deep")
        super().fetch_flow_collection_start(token)


def _parsed(content: bytes) -> dict[Any, Any]:
    if len(content) > MOST_BYTES:
        raise Invalid(
            f"the MLmodel file has {len(content):,} bytes; the most is {MOST_BYTES:,}. Log the model again without what is not "
            "its own description."
        )
    try:
        described = yaml.load(content, _PlainLoader)  # noqa: S506  (a SafeLoader that takes less)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(
            f"the MLmodel file cannot be read: {type(error).__name__}: {str(error)[:300]}. Log the model again."
        ) from error
    return described if isinstance(described, dict) else {}


def _ours(described: dict[Any, Any]) -> Signature | None:
    metadata = described.get("metadata")
    known = metadata.get("everloop") if isinstance(metadata, dict) else None
    try:
        return msgspec.convert(known["signature"], Signature) if isinstance(known, dict) else None
    except (KeyError, msgspec.ValidationError):
        return None


def _inputs(described: dict[Any, Any]) -> tuple[tuple[Field, ...], str | None]:
    specs = _specs(described, "inputs")
    if not specs:
        return (), _NO_INPUTS
    fields: list[Field] = []
    for spec in specs:
        found = _tensor_fields(spec, alone=len(specs) == 1) if spec.get("type") == "tensor" else _field(spec)
        if isinstance(found, str):
            return (), found
        fields += found
    if len(fields) > MOST_COLUMNS:
        return (), f"the signature has {len(fields):,} inputs, over {MOST_COLUMNS:,}"
    names = [one.name for one in fields]
    if len(set(names)) < len(names):
        return (), "the signature has two inputs of one name"
    return tuple(fields), None


def _field(spec: dict[str, Any]) -> list[Field] | str:
    name, kind = spec.get("name"), spec.get("type")
    if not isinstance(name, str) or not name:
        return "the signature has an input without a name"
    if not isinstance(kind, str) or kind not in _TYPES:
        return f"the signature's input {name!r} is of type {str(kind)[:40]!r}"
    return [Field(name, _TYPES[kind], nullable=spec.get("required") is False)]


def _tensor_fields(spec: dict[str, Any], *, alone: bool) -> list[Field] | str:
    """A named tensor of one value a row is a column; a single one of k values a row is k numbers, x0 to x(k-1)."""
    tensor = spec.get("tensor-spec")
    dtype, shape = (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
    kind = _KINDS.get(_letter(dtype))
    if kind is None or not isinstance(shape, list) or not all(type(one) is int for one in shape):
        return f"the signature's tensor is of type {str(dtype)[:40]!r}"
    name = spec.get("name")
    if isinstance(name, str) and shape in ([-1], [-1, 1]):
        return [Field(name, kind)]
    if alone and len(shape) == 2 and shape[0] == -1 and 0 < shape[1] <= MOST_COLUMNS:
        return [Field(f"x{number}", kind) for number in range(shape[1])]
    return f"the signature's tensor has the shape {str(shape)[:60]}"


def _has_text_output(described: dict[Any, Any]) -> bool | None:
    specs = _specs(described, "outputs")
    if len(specs) != 1:
        return None
    tensor = specs[0].get("tensor-spec")
    if isinstance(tensor, dict):
        return _letter(tensor.get("dtype")) in ("s", "o")
    return specs[0].get("type") == "string"


def _letter(dtype: object) -> str:
    return dtype[0].lower() if isinstance(dtype, str) and dtype else ""


def _specs(described: dict[Any, Any], which: str) -> list[dict[str, Any]]:
    """The columns or tensors of a signature, which MLflow keeps as JSON in a YAML text."""
    signature = described.get("signature")
    text = signature.get(which) if isinstance(signature, dict) else None
    try:
        found = msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.DecodeError, RecursionError):
        return []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
