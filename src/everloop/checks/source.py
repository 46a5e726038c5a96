"""What a user's check is, as a digest: its code and the user's code that it reaches by name.

Comments and layout do not count. What is reached are functions, classes and plain values, in the check's own module
and in others of the project, as they stand when a gate first names the check: helpers are written above the model.
Installed packages do not count, the environment's digest knows them; data files are not seen.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from blake3 import blake3

from everloop.errors import Invalid

_PLAIN = (bool, int, float, complex, str, bytes, type(None), re.Pattern, Path)


def source_digest(function: Callable[..., Any]) -> str:
    """BLAKE3 of all that a function is made of, as hexadecimal. Raises Invalid when its source cannot be read."""
    parts: dict[int | str, str] = {}
    _reach(inspect.unwrap(function), parts)
    hasher = blake3()
    for part in sorted(set(parts.values())):
        hasher.update(f"{len(part.encode())}:{part}".encode())
    return hasher.hexdigest()


def tree_of(thing: Any) -> ast.Module:
    """The syntax tree of a function or class. Raises Invalid when its source cannot be read."""
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError) as error:
        raise Invalid(
            f"the source of {thing.__qualname__} cannot be read: {error}. A gate is bound to its check's source: write "
            "the check with def in a file or a notebook's cell."
        ) from error


def _reach(thing: Any, parts: dict[int | str, str]) -> None:
    if id(thing) in parts:
        return
    parts[id(thing)] = f"{thing.__qualname__}\x1d{ast.unparse(tree_of(thing))}"
    for function in _functions(thing):
        names = _names(function.__code__)
        folder = str(Path(function.__code__.co_filename).parent)
        for name in sorted(names & function.__globals__.keys()):
            _take(name, function.__globals__[name], names, parts, folder)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            _take(name, cell.cell_contents, names, parts, folder)


def _take(name: str, value: Any, names: set[str], parts: dict[int | str, str], folder: str) -> None:
    """What a name stands for; paths are told from the project's folder, which is another one in each process."""
    value = inspect.unwrap(value) if callable(value) else value
    if isinstance(value, ModuleType):
        if _is_users(value):
            for inner in sorted(names & vars(value).keys()):
                if not isinstance(found := vars(value)[inner], ModuleType):
                    _take(inner, found, names, parts, folder)
    elif isinstance(value, FunctionType | type):
        if _is_users(value):
            _reach(value, parts)
    elif (told := _told(value)) is not None:
        part = f"{name} = {told.replace(folder, '.')}"
        parts[part] = part


def _told(value: Any) -> str | None:
    """A plain value as text that is the same in every process; None for anything else."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, dict):
        inner = [_told(one) for item in value.items() for one in item]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = [_told(one) for one in value]
    else:
        return None
    known = [one for one in inner if one is not None]
    if len(known) < len(inner):
        return None
    return (
        f"{type(value).__name__}({', '.join(sorted(known) if isinstance(value, set | frozenset) else known)})"
    )


def _functions(thing: Any) -> Iterator[FunctionType]:
    for one in vars(thing).values() if isinstance(thing, type) else [thing]:
        inner = getattr(one, "__func__", None) or getattr(one, "fget", None) or one
        if isinstance(inner, FunctionType) and inner.__module__ == thing.__module__:
            yield inner


def _names(code: CodeType) -> set[str]:
    inner = [_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*inner)


def _is_users(thing: FunctionType | type | ModuleType) -> bool:
    if isinstance(thing, FunctionType):
        file: str | None = thing.__code__.co_filename
    else:
        name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is None:  # built in, or a notebook's
            return name == "__main__"
    path = Path(file or "")
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return not is_installed and not any(path.is_relative_to(folder) for folder in _not_users())


@functools.cache
def _not_users() -> tuple[Path, ...]:
    return Path(sysconfig.get_path("stdlib")), Path(__file__).parents[1]
