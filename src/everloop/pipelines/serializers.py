"""How values of a project's own types are kept as results: by functions that the project declares."""

from __future__ import annotations

import pickle as pickling
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from everloop.errors import Invalid
from everloop.pipelines.project import module_name

T = TypeVar("T")

_FILE = "value.pickle"


@dataclass(frozen=True)
class Serializer:
    """How values of one type are written into a folder and read from it. `name` is the type's: `module:Type`."""

    name: str
    write: Callable[[Any, Path], object]
    read: Callable[[Path], Any]
    is_pickle: bool


_by_type: dict[type, Serializer] = {}
_by_name: dict[str, Serializer] = {}


def serializer(
    kind: type[T],
    /,
    *,
    write: Callable[[T, Path], object] | None = None,
    read: Callable[[Path], T] | None = None,
    pickle: bool = False,
) -> None:
    """Say how values of a type are kept when a step returns them; in the file of the pipeline, or one that it imports.

    It holds for this very type, not for those derived from it. Equal values should give equal files, or what follows from
    them runs again.

    Parameters
    ----------
    write
        Writes a value into an empty folder.
    read
        Reads it back from such a folder, whole: the folder is removed.
    pickle
        Keep it by pickle instead. The result is marked as such, and is read only where this was declared, because
        reading it may run code.

    Raises
    ------
    Invalid
        Neither both functions are given nor pickle, or the type has a form of its own.
    """
    given: object = kind  # who calls it may have no type checker
    if (
        not isinstance(given, type)
        or kind.__module__ == "builtins"
        or kind.__module__.startswith("everloop.")
    ):
        raise Invalid(
            f"a serializer was declared for {kind!r}; it is for a class of a project or a library that has no form yet. Pass a "
            "class, or wrap the value in one."
        )
    if pickle == (write is not None) or pickle == (read is not None):
        raise Invalid(
            f"the serializer of {kind.__qualname__} has write={write!r}, read={read!r} and pickle={pickle}; it has both "
            "functions, or pickle=True alone. Give one of these."
        )
    name = f"{module_name(kind)}:{kind.__qualname__}"
    if write is not None and read is not None:
        made = Serializer(name, write, read, is_pickle=False)
    else:
        made = Serializer(name, _write_pickle, _read_pickle, is_pickle=True)
    _by_type[kind] = _by_name[name] = made


def serializer_of(value: object) -> Serializer | None:
    """What was declared for a value's type."""
    return _by_type.get(type(value))


def write_with(found: Serializer, value: Any, folder: Path) -> None:
    """Write a value into an empty folder. Raises Invalid when the project's function cannot."""
    try:
        found.write(value, folder)
    except Exception as error:  # (a project's function may raise anything)
        raise Invalid(
            f"the serializer of {found.name} could not write: {type(error).__name__}: {error}. Mend its function, or what the "
            "value holds."
        ) from error
    if not any(one.is_file() for one in folder.rglob("*")):
        raise Invalid(
            f"the serializer of {found.name} wrote no file; a result is kept as files. Let it write into the folder it is "
            "given."
        )


def read_with(name: str, folder: Path) -> Any:
    """Read a value of the type `name` back.

    Raises
    ------
    Invalid
        No serializer is declared for it in this process, or it cannot read.
    """
    found = _by_name.get(name)
    if found is None:
        raise Invalid(
            f"the result is a {name}, which is read by a serializer of the project, and none is declared in this process. "
            f"Import {name.partition(':')[0]}, or the file that declares it, first."
        )
    try:
        return found.read(folder)
    except Exception as error:  # (as above)
        raise Invalid(
            f"the serializer of {found.name} could not read: {type(error).__name__}: {error}. Another version of it may have "
            "written this; run the step that made it again with cache=False."
        ) from error


def _write_pickle(value: Any, folder: Path) -> None:
    (folder / _FILE).write_bytes(pickling.dumps(value, protocol=5))


def _read_pickle(folder: Path) -> Any:
    return pickling.loads((folder / _FILE).read_bytes())  # noqa: S301  (asked for by the project that runs here)
