"""A model in memory, whichever library made it; and how it comes there from a version's files.

scikit-learn's are read here. Other libraries are optional: an adapter offers to load them as an entry point of the group
`everloop.models`, by the name of the flavor, and is a function of (layout, files by path) that gives a `Loaded`.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from everloop.errors import GateFailed, Invalid
from everloop.serving.mlmodel import Layout
from everloop.serving.records import Field
from everloop.serving.trusted import AUDITED_TYPES, PREDICTS_THE_MOST_PROBABLE

GROUP = "everloop.models"
_MOST_UNPACKED_BYTES = 4 << 30
_MOST_SCHEMA_BYTES = 256 << 20
_MOST_TIMES = 100  # what deflate makes of a real model's arrays and texts is below 20

Rows = NDArray[Any]


def _nothing() -> None:
    """For a model that holds nothing but memory."""


@dataclass(frozen=True)
class Loaded:
    """A model that answers rows.

    `predict` takes (n_rows, n_columns) object and gives (n_rows,) of classes or numbers; `probabilities` gives
    (n_rows, n_classes), None where there are none. `classes` are told as texts, in the model's order; None when it gives
    numbers, or texts of which it does not know all. `columns` is how many it takes, as far as it knows. When it
    `takes_most_probable`, one call answers both. `estimator` is scikit-learn's own object, None for other libraries; it
    `takes_numbers` where it was trained on a table of them. `contributions` are a library's own explanation, (n_rows, n_classes or 1,
    n_columns + 1) of raw scores, the base last. `close` ends what it holds besides memory.
    """

    predict: Callable[[Rows], Rows]
    probabilities: Callable[[Rows], Rows] | None = None
    classes: tuple[str, ...] | None = None
    columns: int | None = None
    takes_most_probable: bool = False
    is_class: bool = False
    estimator: Any = None
    contributions: Callable[[Rows], Rows] | None = None
    takes_numbers: bool = False
    close: Callable[[], None] = _nothing


def load_files(layout: Layout, files: Mapping[str, bytes]) -> Loaded:
    """The model of a version's files, in this process; none of its own code runs.

    Raises
    ------
    GateFailed
        It holds types that are not audited.
    Invalid
        It cannot be read.
    MissingExtra
        Its library is not installed.
    """
    if layout.flavor == "sklearn" and layout.file is not None:
        return of_estimator(layout, load_skops(files[layout.file]))
    offered = {one.name: one for one in entry_points(group=GROUP)}
    if layout.flavor not in offered:
        raise Invalid(
            f"the model is of flavor {layout.flavor!r}; served are sklearn, {', '.join(sorted(offered))}, and pyfunc once somebody "
            "trusts it. Log the model in one of these forms."
        )
    found: Loaded = offered[layout.flavor].load()(layout, files)
    return found


def load_skops(content: bytes) -> Any:
    """The estimator of a skops file, all of whose types are audited. Raises GateFailed, Invalid."""
    import skops.io  # brings scikit-learn, which takes seconds

    needed = untrusted_types(content)
    try:
        return skops.io.loads(content, trusted=needed)
    except _UNREADABLE as error:
        raise Invalid(
            f"the model cannot be loaded: {error}. It may be from another version of scikit-learn; train it again in this "
            "environment."
        ) from error


def untrusted_types(content: bytes) -> list[str]:
    """The types in a skops file that need an entry in `trusted_types` of the manifest; all must be audited.

    Raises GateFailed when one is not audited, Invalid when the content is no skops file.
    """
    import skops.io  # brings scikit-learn, which takes seconds

    try:
        _check_size(content)
        found = sorted(skops.io.get_untrusted_types(data=content))
    except _UNREADABLE as error:
        raise Invalid(f"the model is no skops file: {error}. Save it with skops.io.dump.") from error
    unknown = [name for name in found if name not in AUDITED_TYPES]
    if unknown:
        raise GateFailed(
            f"the model holds {', '.join(unknown)}, which may run code while it loads; only audited types are served. "
            "Use scikit-learn's own estimators, or functions of numpy."
        )
    return found


# what zipfile, json and skops raise for a file that is not theirs
_UNREADABLE = (
    BadZipFile, ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, ImportError, RecursionError,
    NotImplementedError,
)  # fmt: skip


def _check_size(content: bytes) -> None:
    """Refuse an archive that unpacks to far more than it is, before any of it is unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {one.filename: one.file_size for one in archive.infolist()}
    total = sum(sizes.values())
    if total > min(_MOST_UNPACKED_BYTES, max(64 << 20, _MOST_TIMES * len(content))):
        raise ValueError(f"{len(content):,} bytes unpack to {total:,}, as no model's do")
    if sizes.get("schema.json", 0) > _MOST_SCHEMA_BYTES:
        raise ValueError(f"its description alone has {sizes['schema.json']:,} bytes")


def of_estimator(layout: Layout, model: Any) -> Loaded:
    """A scikit-learn estimator, asked as it was trained: by everloop on objects by position, elsewhere on a table."""
    if not callable(getattr(model, "predict", None)):
        raise Invalid(
            f"the model is a {type(model).__name__}, which predicts nothing; a served model has predict. "
            "Log the whole pipeline, with the estimator at its end."
        )
    if layout.ours is None and layout.inputs:
        _forget_names(model)
    predict, probabilities = model.predict, getattr(model, "predict_proba", None)
    takes_numbers = layout.ours is None and is_numeric(layout.inputs)
    if takes_numbers:
        predict, probabilities = _on_numbers(predict), probabilities and _on_numbers(probabilities)
    classes = getattr(model, "classes_", None)
    return Loaded(
        predict,
        probabilities,
        classes=None if classes is None else class_names(classes),
        columns=getattr(model, "n_features_in_", None),
        takes_most_probable=predicts_the_most_probable(model),
        is_class=classes is not None,
        estimator=model,
        takes_numbers=takes_numbers,
    )


def of_scores(
    answer: Callable[[Rows], Rows],
    *,
    columns: int | None,
    classes: tuple[str, ...] | None = None,
    contributions: Callable[[Rows], Rows] | None = None,
) -> Loaded:
    """A model of another library that gives a number a row, or a probability for each class.

    One that gives several numbers a row tells apart as many classes; unless they are named, they are 0, 1 and so on.
    `columns` is how many it takes; None: it was asked already and gives what `classes` says.
    """
    if classes is None and columns is not None:
        shape = answer(np.zeros((1, columns), dtype=object)).shape
        classes = class_names(range(shape[1])) if len(shape) == 2 and shape[1] > 1 else None
    if classes is None:
        return Loaded(
            lambda rows: answer(rows).reshape(len(rows)), columns=columns, contributions=contributions
        )
    names = np.array(classes)
    return Loaded(
        lambda rows: names[answer(rows).argmax(axis=1)],
        answer,
        classes=classes,
        columns=columns,
        takes_most_probable=True,
        is_class=True,
        contributions=contributions,
    )


def class_names(classes: Any) -> tuple[str, ...]:
    return tuple(str(value) for value in np.asarray(classes).tolist())


def is_numeric(inputs: tuple[Field, ...]) -> bool:
    return bool(inputs) and all(one.type in ("number", "integer", "boolean") for one in inputs)


def numbers(rows: Rows) -> NDArray[np.float64]:
    """Rows of numbers as the libraries take them; null is not a number."""
    return rows.astype(np.float64)


def _on_numbers(ask: Callable[[Any], Any]) -> Callable[[Rows], Rows]:
    return lambda rows: np.asarray(ask(numbers(rows)))


def _forget_names(model: Any) -> None:
    """Let estimators that learnt a table's column names take arrays: the signature keeps the names and their order.

    A ColumnTransformer goes by the positions that it noted while it was fitted.
    """
    for one in inner_steps(model):
        positions = getattr(one, "_transformer_to_input_indices", None)
        if isinstance(positions, dict):
            one.transformers_ = [
                (name, step, _by_position(columns, positions.get(name, [])))
                for name, step, columns in one.transformers_
            ]
        vars(one).pop("feature_names_in_", None)


def inner_steps(model: Any) -> Iterator[Any]:
    """A fitted estimator and all that it is made of, each once."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        one = waiting.pop()
        if id(one) in seen or not hasattr(one, "__dict__"):
            continue
        seen.add(id(one))
        yield one
        waiting += [inner for value in vars(one).values() for inner in _inner(value)]


def _inner(value: Any) -> list[Any]:
    """The estimators in an attribute: itself, or in the lists and tuples of a pipeline or an ensemble."""
    if isinstance(value, list | tuple):
        return [inner for item in value for inner in _inner(item)]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [inner for item in value.ravel().tolist() for inner in _inner(item)]
    return [value] if hasattr(value, "get_params") else []


def _by_position(columns: Any, positions: list[int]) -> Any:
    """Columns by position; a single one, by name or number, stays single: its transformer takes one dimension."""
    if isinstance(columns, int | np.integer):
        return columns
    return positions[0] if isinstance(columns, str) else list(positions)


def predicts_the_most_probable(model: Any) -> bool:
    """Whether the model answers with the class of highest probability, so that one call does for both."""
    return type(_last_step(model)).__name__ in PREDICTS_THE_MOST_PROBABLE


def _last_step(model: Any) -> Any:
    steps = getattr(model, "steps", None)  # a scikit-learn Pipeline
    return _last_step(steps[-1][1]) if steps else model
