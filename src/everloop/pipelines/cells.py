"""The code of steps that are written in a notebook's cells: found from the functions in memory, as they are now.

The rule is that of `fingerprint`: a step's function counts, and all it reaches by name. Functions and classes of cells count
with their source, those of the project's files as there, simple values with what they are. A value whose changes cannot be
seen, such as a table in a variable, is refused, unless the step is never cached.
"""

from __future__ import annotations

import ast
import dis
import enum
import inspect
import linecache
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from everloop.errors import Invalid
from everloop.pipelines.canonical import digest_of, literal
from everloop.pipelines.fingerprint import DIGITS, StepSource, parts_in_files, source_from
from everloop.pipelines.parsing import OURS, normal_text
from everloop.pipelines.project import Project, is_installed, project_of
from everloop.pipelines.steps import Step

_SHOWN = 500  # characters of a value that is told as it is


def source_in_cells(step: Step[..., Any]) -> StepSource:
    """The code of a step that is written in a cell.

    Raises
    ------
    Invalid
        Its source cannot be read, or it uses a value whose changes cannot be seen.
    """
    found = _Found(step)
    found.add_function(inspect.unwrap(step.function))
    return source_from(found.parts)


def text_of_cells(functions: Iterable[Callable[..., Any]]) -> str:
    """The cells that hold functions and what they reach, in the order in which they ran."""
    found = _Found(None)
    for function in functions:
        found.add_function(inspect.unwrap(function))
    ran = [name for name in linecache.cache if name in found.cells]
    return "\n\n".join(f"# %%\n{''.join(linecache.getlines(name)).rstrip()}" for name in ran) + "\n"


def module_of_cells(thing: FunctionType | type) -> tuple[str, set[str]]:
    """What a function or class of a notebook and all that it reaches there is as a module of its own, and which modules it imports.

    Raises Invalid when its source cannot be read, or it uses a value that no text stands for, such as a table.
    """
    parts: dict[str, str] = {}
    modules: set[str] = set()

    def add(name: str, value: Any) -> None:
        if name in parts:
            return
        home = getattr(value, "__module__", None)
        if isinstance(value, ModuleType):
            parts[name] = f"import {value.__name__} as {name}"
            modules.add(value.__name__)
        elif isinstance(value, FunctionType | type) and home == "__main__":
            text = _text_of(value) if isinstance(value, FunctionType) else _class_text(value)[1]
            parts[name] = ""  # it may name itself; what it names stands before it
            names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
            reached = vars(sys.modules["__main__"])
            for one in sorted(names & reached.keys()):
                add(one, reached[one])
            parts[name] = parts.pop(name) or text
        elif callable(value) and isinstance(home, str) and hasattr(value, "__qualname__"):
            parts[name] = f"from {home} import {value.__qualname__} as {name}"
            modules.add(home)
        elif (literal_text := _spelled(value)) is not None and _is_literal(literal_text):
            parts[name] = f"{name} = {literal_text}"
        else:
            raise Invalid(
                f"the model uses the notebook's variable {name}, a {type(value).__name__}, which cannot be kept as text. Give it as one of "
                "arguments=, or write it into a file and give its Path."
            )

    add(thing.__name__, thing)
    return "\n\n\n".join(one.rstrip() for one in parts.values()) + "\n", modules


def _is_literal(text: str) -> bool:
    try:
        ast.literal_eval(text)
    except ValueError:
        return False
    return True


class _Found:
    """Collects what is reached from functions in cells: `parts` of the source, and the names of the cells."""

    def __init__(self, step: Step[..., Any] | None) -> None:
        self.parts: dict[str, str] = {}
        self.cells: set[str] = set()
        self._step = step
        self._seen: set[int] = set()

    def add_function(self, function: FunctionType | Callable[..., Any]) -> None:
        if id(function) in self._seen or not isinstance(function, FunctionType):
            return
        self._seen.add(id(function))
        name = f"{function.__module__}:{function.__qualname__}"
        self.cells.add(function.__code__.co_filename)
        self.parts[name] = digest_of(normal_text(_text_of(function)))[:DIGITS]
        for key, default in inspect.signature(function).parameters.items():
            if default.default is not default.empty:
                self._add(f"{name}({key})", default.default)
        self._add_names(function)

    def _add_names(self, function: FunctionType) -> None:
        """What a function's code names, in the notebook and in functions around it."""
        for name in sorted(set(_globals_in(function.__code__)) & function.__globals__.keys()):
            self._add(f"{function.__module__}:{name}", function.__globals__[name])
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self._add(f"{function.__module__}:{function.__qualname__}.{name}", cell.cell_contents)

    def _add_class(self, kind: type) -> None:
        if id(kind) in self._seen:
            return
        self._seen.add(id(kind))
        cell, text = _class_text(kind)
        self.cells.add(cell)
        self.parts[f"{kind.__module__}:{kind.__qualname__}"] = digest_of(normal_text(text))[:DIGITS]
        for base in kind.__bases__:
            self._add(base.__qualname__, base)
        for member in vars(kind).values():
            inner = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
            if isinstance(inner, FunctionType) and inner.__module__ == kind.__module__:
                self._add_names(inner)

    def _add(self, name: str, value: Any) -> None:
        value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(value, ModuleType):
            self._add_imported(value.__name__, None)
        elif isinstance(value, FunctionType | type):
            if value.__module__ != "__main__":
                self._add_imported(value.__module__, value.__qualname__.partition(".")[0])
            elif isinstance(value, type):
                self._add_class(value)
            else:
                self.add_function(value)
        elif (text := _spelled(value)) is not None:
            self.parts[f"{name} ="] = (
                text if len(text) <= _SHOWN else f"{text[:40]}... {digest_of(text)[:DIGITS]}"
            )
        elif isinstance(value, BuiltinFunctionType | logging.Logger) or _is_of_library(value):
            self.parts[f"import {name.partition(':')[2]}"] = ""
        elif self._step is not None and self._step.cache and not self._step.always:
            raise Invalid(
                f"step {self._step.name} uses the notebook's variable {name.partition(':')[2]}, a {type(value).__name__}, whose "
                "changes cannot be seen, so that a result could not be trusted later. Make it in a step and pass its result, or "
                "declare the step with cache=False."
            )

    def _add_imported(self, module: str, symbol: str | None) -> None:
        """Code of the project's files counts, that of packages is in the environment."""
        project = _project_with(module)
        if project is None:
            self.parts[f"import {module}"] = ""
        else:
            self.parts.update(parts_in_files(project, module, symbol))


def _project_with(module: str) -> Project | None:
    file = getattr(sys.modules.get(module), "__file__", None)
    if (
        file is None
        or module.partition(".")[0] == OURS
        or not file.endswith(".py")
        or is_installed(Path(file))
    ):
        return None
    return project_of(module, file)


def _text_of(function: FunctionType) -> str:
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError) as error:
        raise _unreadable(function.__qualname__, error) from error


def _class_text(kind: type) -> tuple[str, str]:
    """The last cell that defines a class, and the definition: Python knows of no file for it."""
    for cell in reversed(linecache.cache):
        if Path(cell).is_file() and "ipykernel" not in cell:
            continue
        text = "".join(linecache.getlines(cell))
        for node in _statements(text):
            if isinstance(node, ast.ClassDef) and node.name == kind.__name__:
                return cell, ast.get_source_segment(text, node) or ""
    raise _unreadable(kind.__qualname__, "no cell defines it")


def _statements(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except SyntaxError:  # of another language
        return []


def _unreadable(name: str, reason: object) -> Invalid:
    return Invalid(f"the source of {name} cannot be read: {reason}. Write it in a file or a notebook's cell.")


def _globals_in(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _globals_in(const)


def _spelled(value: Any) -> str | None:
    """A simple value as text; None: it is not simple."""
    if isinstance(value, Path | re.Pattern | enum.Enum | range | slice | complex):
        return repr(value)
    if type(value) in (set, frozenset):
        spelled = [_spelled(item) for item in value]
        return None if None in spelled else f"{type(value).__name__} {sorted(map(str, spelled))}"
    try:
        return literal(value)
    except Invalid:
        return None


def _is_of_library(value: Any) -> bool:
    """Whether a value is what an installed package has under its name, such as numpy.exp."""
    home = sys.modules.get(type(value).__module__.partition(".")[0])
    name = getattr(value, "__name__", None)
    return isinstance(name, str) and callable(value) and getattr(home, name, None) is value
