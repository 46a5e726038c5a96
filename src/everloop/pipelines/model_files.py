"""A model as files in MLflow's layout, which an unmodified `mlflow.pyfunc.load_model` reads too; never a pickle.

The same model gives the same bytes, so that a step that ran again and made nothing new is recognised. skops names
objects by their addresses in memory and dates its files, hence `estimator_bytes`. A test reads the folder with mlflow.
"""

from __future__ import annotations

import io
import json
import platform
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml
from blake3 import blake3

from everloop.errors import Invalid
from everloop.pipelines.values import Model
from everloop.serving import Field, Signature, untrusted_types

MODEL_FILE = "model.skops"
EXAMPLE_FILE = "input_example.json"
_SERVED_EXAMPLE_FILE = "serving_input_example.json"  # the same as a request to MLflow's scoring server
_NEEDED_PACKAGES = ("numpy", "scikit-learn", "scipy", "skops")
_NEEDED_TO_BUILD = ["pip", "setuptools", "wheel"]
_MLFLOW_TYPES = {
    "string": "string",
    "integer": "long",
    "number": "double",
    "boolean": "boolean",
    "time": "datetime",
    "image": "binary",
    "binary": "binary",
}


@dataclass(frozen=True)
class StoredModel:
    """What a model's folder holds: enough to serve it. `load` reads the estimator, as `Model.estimator` says."""

    load: Callable[[], Any]
    signature: Signature
    feature_fields: tuple[Field, ...] = field(default=())
    example: dict[str, Any] | None = None


def write_model(model: Model, folder: Path) -> None:
    """Write the model into an existing folder: MLmodel, model.skops, an example, the environment in the forms that MLflow reads.

    A model with one of everloop's own transformers needs everloop where it is loaded, and its requirements say so.

    Raises
    ------
    Invalid
        skops cannot save the estimator.
    GateFailed
        It holds a type that is not audited, such as a function of the user's own: it could not be served.
    """
    content = estimator_bytes(model.estimator)
    trusted = untrusted_types(content)
    (folder / MODEL_FILE).write_bytes(content)
    needed = _requirements(trusted)
    python = platform.python_version()
    (folder / "requirements.txt").write_text("".join(f"{one}\n" for one in needed))
    environments: dict[str, dict[str, Any]] = {
        "python_env.yaml": {
            "python": python,
            "build_dependencies": _NEEDED_TO_BUILD,
            "dependencies": ["-r requirements.txt"],
        },
        "conda.yaml": {
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": needed}],
            "name": "mlflow-env",
        },
    }
    for name, environment in environments.items():
        (folder / name).write_text(yaml.safe_dump(environment, sort_keys=False))
    if model.example is not None:
        split = {"columns": [*model.example], "data": [[*model.example.values()]]}
        (folder / EXAMPLE_FILE).write_text(json.dumps(split))
        (folder / _SERVED_EXAMPLE_FILE).write_text(json.dumps({"dataframe_split": split}))
    (folder / "MLmodel").write_text(yaml.safe_dump(_mlmodel(model, content, trusted)))


def _requirements(trusted: list[str]) -> list[str]:
    ours = ("everloop",) if any(one.startswith("everloop.") for one in trusted) else ()
    return ["mlflow", *(f"{name}=={metadata.version(name)}" for name in (*_NEEDED_PACKAGES, *ours))]


def read_model(folder: Path) -> StoredModel:
    """Read what `write_model` wrote, the estimator's file included; the estimator is made from it when asked for.

    Raises Invalid when the folder is not such a model.
    """
    try:
        known = yaml.safe_load((folder / "MLmodel").read_text())["metadata"]["everloop"]
        signature = msgspec.convert(known["signature"], Signature)
        feature_fields = msgspec.convert(known["features"], tuple[Field, ...])
        content = (folder / MODEL_FILE).read_bytes()
        example = _read_example(folder / EXAMPLE_FILE)
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError) as error:
        raise Invalid(
            f"{folder} is no model that everloop wrote: {error}. It holds MLmodel and {MODEL_FILE}; write it with a "
            "pipeline step that returns a model."
        ) from error
    return StoredModel(lambda: _estimator(content), signature, feature_fields, example)


def _read_example(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    split = json.loads(path.read_text())
    return dict(zip(split["columns"], split["data"][0], strict=True))


def _estimator(content: bytes) -> Any:
    import skops.io  # brings scikit-learn, which takes seconds

    return skops.io.loads(content, trusted=untrusted_types(content))


def estimator_bytes(estimator: Any) -> bytes:
    """The estimator as a skops file; equal estimators give equal bytes, in this process or another.

    Raises Invalid when skops cannot save it.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        written = skops.io.dumps(estimator)
    except (UnsupportedTypeException, TypeError, AttributeError) as error:
        raise Invalid(
            f"the estimator {type(estimator).__name__} cannot be saved: {error}. everloop keeps models without pickle: "
            "use scikit-learn's own estimators."
        ) from error
    return _canonical(written)


def _canonical(written: bytes) -> bytes:
    """The same skops file with nothing in it that is by chance.

    What is: names of array files and numbers of nodes (addresses in memory, or random), the order of sets (the hash
    seed), unused bytes between an array's fields, and the files' dates. Files get the name of their content, nodes a
    number in the order in which they are met. A mutable object that occurs twice keeps one number, since skops makes
    it one object again; texts, numbers, types and tuples each get their own: whether equal ones were one object is
    chance as well.
    """
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(found.pop("schema.json"))
    contents = {
        name: _without_padding(content) if name.endswith(".npy") else content
        for name, content in found.items()
    }
    names = {
        name: f"{blake3(content).hexdigest(length=16)}.{name.rpartition('.')[2]}"
        for name, content in contents.items()
    }
    schema = _numbered(_settled(schema, names), {})
    files = {names[name]: content for name, content in contents.items()}
    files["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    # not compressed: zlib's output differs between its versions
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.create_system = 3  # else Windows writes another byte
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def _without_padding(content: bytes) -> bytes:
    """An array's file with zeros between the fields of its rows: a tree's nodes have seven such bytes each."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


_WITHOUT_IDENTITY = frozenset({"JsonNode", "TypeNode", "FunctionNode", "TupleNode", "BytesNode", "SliceNode"})


def _settled(state: Any, names: dict[str, str]) -> Any:
    """The schema with files under their new names and sets in the order of their content."""
    if isinstance(state, list):
        return [_settled(item, names) for item in state]
    if not isinstance(state, dict):
        return state
    settled = {key: _settled(value, names) for key, value in state.items()}
    if isinstance(state.get("file"), str) and _is_node(state):
        settled["file"] = names[state["file"]]
    if state.get("__module__") == "sklearn.feature_extraction.text" and state["__loader__"] == "ObjectNode":
        _forget_address(settled["content"])
    if state.get("__loader__") == "SetNode":
        settled["content"].sort(key=lambda item: json.dumps(_without_numbers(item)))
    return settled


def _forget_address(attributes: dict[str, Any]) -> None:
    """Drop by which address a vectorizer remembers that its stop words were checked: it checks them again, once."""
    if attributes["content"].pop("_stop_words_id", None) is not None:
        attributes["key_types"]["content"].pop()  # one type for each attribute, and all are texts


def _without_numbers(state: Any) -> Any:
    if isinstance(state, list):
        return [_without_numbers(item) for item in state]
    if not isinstance(state, dict):
        return state
    return {
        key: _without_numbers(value) for key, value in state.items() if key != "__id__" or not _is_node(state)
    }


def _numbered(state: Any, known: dict[int, int]) -> Any:
    """The schema with each node numbered in the order of its first meeting; `known` maps old numbers to new."""
    if isinstance(state, list):
        return [_numbered(item, known) for item in state]
    if not isinstance(state, dict):
        return state
    if not _is_node(state) or "__id__" not in state:
        return {key: _numbered(value, known) for key, value in state.items()}
    old = state["__id__"]
    if state["__loader__"] in _WITHOUT_IDENTITY:
        old = -len(known)  # no address in memory is negative or zero
    number = known.setdefault(old, len(known) + 1)
    return {key: number if key == "__id__" else _numbered(value, known) for key, value in state.items()}


def _is_node(state: dict[str, Any]) -> bool:
    """Whether this is skops' own dictionary, and not one of the estimator whose keys may have the same names."""
    return isinstance(state.get("__loader__"), str)


def _mlmodel(model: Model, content: bytes, trusted: list[str]) -> dict[str, Any]:
    signature = msgspec.to_builtins(model.signature)
    features = msgspec.to_builtins(model.feature_fields)
    identity = blake3(content + json.dumps([signature, features], sort_keys=True).encode())
    example = {
        "artifact_path": EXAMPLE_FILE,
        "pandas_orient": "split",
        "serving_input_path": _SERVED_EXAMPLE_FILE,
        "type": "dataframe",
    }
    return {
        "flavors": {
            "python_function": {
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "loader_module": "mlflow.sklearn",
                "model_path": MODEL_FILE,
                "predict_fn": "predict",
                "python_version": platform.python_version(),
            },
            "sklearn": {
                "code": None,
                "pickled_model": MODEL_FILE,  # MLflow's name for it, whatever the format
                "serialization_format": "skops",
                "skops_trusted_types": trusted or None,
                "sklearn_version": metadata.version("scikit-learn"),
            },
        },
        "metadata": {"everloop": {"signature": signature, "features": features}},
        "model_uuid": identity.hexdigest(length=16),
        **({} if model.example is None else {"saved_input_example_info": example}),
        "signature": {
            "inputs": json.dumps(
                [_mlflow_column(one) for one in (*model.signature.inputs, *model.feature_fields)]
            ),
            "outputs": json.dumps([_mlflow_output(model.signature)]),
            "params": None,
        },
    }


def _mlflow_column(column: Field) -> dict[str, Any]:
    # pandas turns whole numbers with gaps into floats, which MLflow would refuse for a "long"
    has_gaps = column.type == "integer" and column.nullable
    kind = "double" if has_gaps else _MLFLOW_TYPES[column.type]
    return {"type": kind, "name": column.name, "required": not column.nullable}


def _mlflow_output(signature: Signature) -> dict[str, Any]:
    dtype = "object" if signature.output == "class" else "float64"
    return {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1]}}
