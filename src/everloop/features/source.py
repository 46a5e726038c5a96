"""A feature's function: what its source is, and loading it from a code snapshot."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import blake3

from everloop.errors import GateFailed, Invalid, NotFound
from everloop.features.records import ColumnType, FeatureFunction, FeatureView

_DTYPES: dict[str, Literal["integer", "number", "string"]] = {
    "int": "integer",
    "float": "number",
    "str": "string",
}
_importing = threading.Lock()


def describe(
    function: Callable[..., Any],
    *,
    dataset: str,
    entity: str,
    time: str,
    window: timedelta,
    columns: Mapping[str, ColumnType],
    key: str | None = None,
    name: str | None = None,
) -> FeatureView:
    """The view of a function as it is written now: where it lives, the digest of its source, what it returns.

    Raises Invalid when its return annotation is not int, float or str (each may be `| None`).
    """
    function = inspect.unwrap(function)
    answer = inspect.get_annotations(function).get("return")
    word = answer if isinstance(answer, str) else getattr(answer, "__name__", str(answer))
    dtype = _DTYPES.get(word.removesuffix("| None").strip())
    if dtype is None:
        raise Invalid(
            f"feature function {function.__name__} is annotated to return {word}; a feature is an int, a float or a str. "
            "Annotate its return type."
        )
    return FeatureView(
        name=name or function.__name__,
        dataset=dataset,
        entity=entity,
        time=time,
        window_s=window.total_seconds(),
        columns=dict(columns),
        module=function.__module__,
        function=function.__name__,
        source_digest=source_digest(function),
        dtype=dtype,
        key=key,
    )


def source_digest(function: Callable[..., Any]) -> str:
    """BLAKE3 of a function's source, decorators included; indentation of the whole and line ends do not count."""
    function = inspect.unwrap(function)
    try:
        text = inspect.getsource(function)
    except OSError as error:
        raise Invalid(
            f"the source of {function.__name__} cannot be read: {error}. Define it in a file or a notebook cell."
        ) from error
    return _digest(textwrap.dedent(text), function.__name__)


def load_function(view: FeatureView, folder: Path) -> FeatureFunction:
    """The view's function from the code snapshot in `folder`, once its source is what the view recorded.

    The source is compared before anything of the module runs. Modules of a snapshot stay out of `sys.modules`,
    so that two releases with different code of one name can be served side by side; a module that imports
    another of the snapshot inside a function, at call time, is the price: it will not find it.

    Raises
    ------
    NotFound
        The snapshot has no such module or function.
    GateFailed
        The source is not the recorded one.
    """
    path = _module_path(view, folder)
    found = _digest(path.read_text(encoding="utf-8"), view.function)
    if found != view.source_digest:
        raise GateFailed(
            f"{view.module}:{view.function} in {folder} has source {found[:12]}, feature {view.name!r} was trained with "
            f"{view.source_digest[:12]}; a feature is served from the code it was trained with. Release the model again."
        )
    with _snapshot_imports(folder):
        module: ModuleType = importlib.import_module(view.module)
        function: FeatureFunction = inspect.unwrap(getattr(module, view.function))
    return function


def _module_path(view: FeatureView, folder: Path) -> Path:
    place = folder.joinpath(*view.module.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    raise NotFound(
        f"the code snapshot {folder} has no module {view.module!r}, which feature {view.name!r} is defined in. "
        "Release the model again, so that its code is written there."
    )


def _digest(module_text: str, function: str) -> str:
    lines = module_text.splitlines()
    for node in ast.parse(module_text).body:
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            own = "\n".join(line.rstrip() for line in lines[first - 1 : node.end_lineno])
            return blake3.blake3(own.encode()).hexdigest()
    raise NotFound(
        f"no function {function!r} is defined at the top level of its module; features are plain top-level functions. "
        "Move it there."
    )


@contextmanager
def _snapshot_imports(folder: Path) -> Iterator[None]:
    """Imports find the snapshot's modules first, and leave no trace of them in sys.modules."""
    own = {path.stem for path in folder.iterdir()}
    with _importing:
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] in own}
        sys.path.insert(0, str(folder))
        wrote_bytecode, sys.dont_write_bytecode = (
            sys.dont_write_bytecode,
            True,
        )  # a snapshot is not written to
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.dont_write_bytecode = wrote_bytecode
            sys.path.remove(str(folder))
            for name in [name for name in sys.modules if name.partition(".")[0] in own]:
                del sys.modules[name]
            sys.modules.update(hidden)
