"""ONNX models by onnxruntime, on the processor; also those that scikit-learn's were converted to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from everloop.compiled import NotCompiledError, Plan
from everloop.errors import Invalid, MissingExtra
from everloop.serving import Layout, Loaded, class_names, of_scores

try:
    import onnxruntime
except ImportError as error:
    raise MissingExtra("onnx", needed_for="a model in ONNX form") from error

_DTYPES: dict[str, Any] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def load(layout: Layout, files: Mapping[str, bytes]) -> Loaded:
    """A model of one input of several columns, or of one input a column. Raises Invalid when it is neither.

    Of two outputs the first is the class and the second the probabilities, as converters of classifiers write them.
    """
    path = layout.file or ""
    session = _session(path, files[path])
    feed = _feed(path, session.get_inputs(), [one.name for one in layout.inputs])
    row = np.array([["" if one.type == "string" else 0 for one in layout.inputs]], dtype=object)
    outputs = [one.name for one in session.get_outputs()]
    try:
        first = session.run(outputs, feed(row))
    except Exception as error:
        raise Invalid(
            f"{path} answers no row: {str(error)[:300]}. Log the model with a signature of the columns that it takes."
        ) from error
    label, chances = outputs[0], outputs[-1]
    told = np.asarray(first[0])
    if len(outputs) == 1 and told.dtype.kind in "fiu":
        several = class_names(range(told.shape[1])) if told.ndim == 2 and told.shape[1] > 1 else None
        return of_scores(
            lambda rows: np.asarray(session.run(outputs, feed(rows))[0]), columns=None, classes=several
        )
    if len(outputs) != 2 or not isinstance(
        first[1], list
    ):  # only the converter knew which column is which class
        return Loaded(lambda rows: np.asarray(session.run([label], feed(rows))[0]), is_class=True)
    classes = list(first[1][0])
    return of_scores(
        lambda rows: np.array(
            [[one[name] for name in classes] for one in session.run([chances], feed(rows))[0]]
        ),
        columns=None,
        classes=class_names(classes),
    )


def plan(content: bytes, *, has_probabilities: bool) -> Plan:
    """What answers in the place of a scikit-learn model, by its conversion. Raises NotCompiledError when it cannot be loaded."""
    try:
        session = _session("the conversion", content, threads=1)
    except Invalid as error:
        raise NotCompiledError(str(error)) from error
    outputs = [one.name for one in session.get_outputs()]
    columns = [(one.name, _columns_of(one.name), _DTYPES[one.type]) for one in session.get_inputs()]

    def ask(output: str, rows: NDArray[Any]) -> NDArray[Any]:
        given = {name: rows[:, part].astype(dtype) for name, part, dtype in columns}
        return np.asarray(session.run([output], given)[0])

    def predict(rows: NDArray[Any]) -> NDArray[Any]:
        found = ask(outputs[0], rows)
        return found.reshape(len(rows)).astype(np.float64) if found.dtype.kind == "f" else found

    if not has_probabilities:
        return Plan(predict)
    return Plan(predict, lambda rows: ask(outputs[1], rows).astype(np.float64))


TABLE = "table"


def _columns_of(name: str) -> slice:
    """All columns for the input of this name, else the one whose number is behind its letter."""
    if name == TABLE:
        return slice(None)
    place = int(name[1:])
    return slice(place, place + 1)


def _session(path: str, content: bytes, *, threads: int = 0) -> Any:
    """A session with so many threads; 0: as many as the library finds good."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # other models share the processor
    with tempfile.TemporaryDirectory() as nothing:
        # tensors that a model keeps in files beside it would be read from wherever the model says
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", nothing)
        try:
            return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise Invalid(
                f"{path} cannot be loaded by onnxruntime: {str(error)[:300]}. Log the model as one whole .onnx file."
            ) from error


def _feed(
    path: str, inputs: list[Any], columns: list[str]
) -> Callable[[NDArray[Any]], dict[str, NDArray[Any]]]:
    """From rows to what the session takes."""
    kinds = [_DTYPES.get(one.type) for one in inputs]
    if None in kinds or not (len(inputs) == 1 or {one.name for one in inputs} == set(columns)):
        told = ", ".join(f"{one.name} ({one.type})" for one in inputs)
        raise Invalid(
            f"{path} takes {told}; served is a model of one input, or of one for each column of its signature. Convert it so."
        )
    if len(inputs) == 1 and len(columns) > 1:
        return lambda rows: {inputs[0].name: rows.astype(kinds[0])}
    places = [columns.index(one.name) if len(inputs) > 1 else 0 for one in inputs]
    ranks = [len(one.shape) for one in inputs]

    def feed(rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {
            one.name: rows[:, [place]].astype(kind).reshape((-1, 1)[:rank])
            for one, place, kind, rank in zip(inputs, places, kinds, ranks, strict=True)
        }

    return feed
