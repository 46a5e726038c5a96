"""What a step's code is, as digests: its own source and, through any number of calls, the project's code it uses.

The rule. A step's source is the syntax tree of its function and of everything of the project that it reaches by name:
functions, classes, assignments, through imports also of other modules, to any depth. Comments, layout, quotes and
docstrings do not count, nor do the options of `@step`, nor code that the step does not reach. Of the globals that it
reaches in modules imported at start, those with simple constant values count with the value they have, so that a
value computed at import (from the environment, say) counts too. Not seen: names made by `getattr`, `globals()` and
`importlib`, data files, and installed packages, of which the environment's digest knows the versions.
"""

from __future__ import annotations

import functools
import inspect
import sys
import textwrap
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from everloop.errors import Conflict, Invalid
from everloop.pipelines.canonical import digest_of, is_constant
from everloop.pipelines.parsing import Chain, Imported, Module, Statement, normal_text
from everloop.pipelines.project import Project, module_name
from everloop.pipelines.steps import Step

_ALL = "*"  # a module as a whole
DIGITS = 16  # of a part's digest: enough to tell two forms of one function apart


@dataclass(frozen=True)
class StepSource:
    """The code of a step: the digest of all its parts, and by part (`lib.text:clean`) its digest or its value."""

    digest: str
    parts: Mapping[str, str]


def source_of(step: Step[..., Any], project: Project | None) -> StepSource:
    """The code of a step as it is in the project's files now; see `source_of_function`."""
    return source_of_function(step.function, project)


def together(sources: Iterable[StepSource]) -> StepSource:
    """The code of several functions as one."""
    parts: dict[str, str] = {}
    for one in sources:
        parts |= one.parts
    return source_from(parts)


def source_of_function(function: Callable[..., Any], project: Project | None) -> StepSource:
    """The code of a function, and what it reaches, as it is in the project's files now.

    Raises
    ------
    Invalid
        Its source cannot be read, or it was made inside a function around a value whose changes cannot be seen.
    Conflict
        A file was changed after this process imported it, so that what would run is not what is written.
    """
    function = inspect.unwrap(function)
    module = None if project is None else project.module(module_name(function))
    if module is None or project is None or function.__qualname__ not in module.bindings:
        return source_from(dict(_parts_of_object(function, seen=set())))  # type: ignore[arg-type]  # steps and features are functions
    reach = _Reach(project, {module.name: function.__module__})
    reach.add(module, function.__qualname__)
    reach.check_fresh()
    return source_from({**reach.parts(), **reach.values(module.name)})


def parts_in_files(project: Project, module_name: str, symbol: str | None) -> dict[str, str]:
    """The parts of what a symbol of a project's module reaches, itself included; None: all of the module.

    Raises
    ------
    Conflict
        As `source_of`.
    """
    module = project.module(module_name)
    if module is None:
        return {f"import {module_name}": ""}
    reach = _Reach(project, {})
    reach.add(module, symbol or _ALL)
    reach.check_fresh()
    return {**reach.parts(), **reach.values(module.name)}


def source_from(parts: dict[str, str]) -> StepSource:
    """The source that has these parts."""
    return StepSource(digest_of(*(text for item in sorted(parts.items()) for text in item)), parts)


class _Reach:
    """Collects what is reached from one function, symbol by symbol."""

    def __init__(self, project: Project, loaded_as: Mapping[str, str]) -> None:
        self._project = project
        self._loaded_as = loaded_as  # a script is in memory as __main__
        self._found: dict[tuple[str, str], Module] = {}
        self._external: dict[str, str] = {}

    def add(self, module: Module, symbol: str) -> None:
        waiting = deque([(module, symbol)])
        while waiting:
            current, name = waiting.popleft()
            if (current.name, name) in self._found:
                continue
            self._found[current.name, name] = current
            for statement in _statements(current, name):
                for chain in statement.chains:
                    waiting.extend(self._in_module(current, chain))
                for inner in statement.inner_imports.values():
                    waiting.extend(self._follow(inner, ()))

    def parts(self) -> dict[str, str]:
        found = {
            f"{module.name}:{name}": digest_of(*(one.text for one in _statements(module, name)))[:DIGITS]
            for (_, name), module in self._found.items()
        }
        return {**found, **self._external}

    def values(self, home: str) -> dict[str, str]:
        """Constants among the reached globals of modules that are certainly imported when the module `home` is."""
        eager = {module.name for module in self._project.reached_from(home, eagerly=True)}
        found: dict[str, str] = {}
        for (at, name), module in self._found.items():
            loaded = self._loaded(module)
            if at not in eager or loaded is None:
                continue
            for one in module.bindings if name == _ALL else [name]:
                value = vars(loaded).get(one, self)  # self: no constant, so not there
                if is_constant(value) and _is_assigned(module, one):
                    found[f"{module.name}:{one} ="] = repr(value)
        return found

    def check_fresh(self) -> None:
        """Refuse when a reached function in memory is not the one in its file."""
        for (_, name), module in self._found.items():
            loaded = self._loaded(module)
            if loaded is None or type(loaded.__loader__) is not SourceFileLoader:
                continue  # another loader rewrites code, as pytest does for assertions
            written = _codes_in(self._project.content(module.place), module.place)
            for function in _functions(vars(loaded).get(name), loaded.__name__):
                _check_is_written(function, written, module.place)

    def _loaded(self, module: Module) -> ModuleType | None:
        return sys.modules.get(self._loaded_as.get(module.name, module.name))

    def _in_module(self, module: Module, chain: Chain) -> Iterator[tuple[Module, str]]:
        head = chain[0]
        if head in module.bindings:
            yield module, head
        if head in module.imports:
            yield from self._follow(module.imports[head], chain[1:])
        elif head not in module.bindings:
            for star in module.stars:
                yield from self._follow(Imported(star), chain)

    def _follow(self, imported: Imported, rest: Chain) -> Iterator[tuple[Module, str]]:
        module = self._project.module(imported.module)
        chain = rest if imported.symbol is None else (imported.symbol, *rest)
        is_bound = module is not None and bool(chain) and module.binds(chain[0])
        if chain and not is_bound and self._project.has(f"{imported.module}.{chain[0]}"):
            yield from self._follow(Imported(f"{imported.module}.{chain[0]}"), chain[1:])
        elif module is None:
            self._external[f"import {'.'.join([imported.module, *chain[:1]])}"] = ""
        elif chain:
            yield from self._in_module(module, chain)
        else:
            yield module, _ALL


def _statements(module: Module, name: str) -> Iterable[Statement]:
    return module.statements if name == _ALL else module.bindings[name]


def _is_assigned(module: Module, name: str) -> bool:
    return any(statement.is_assignment for statement in module.bindings.get(name, ()))


def _check_is_written(function: FunctionType, written: Mapping[str, list[CodeType]], place: str) -> None:
    if not any(_is_same(function.__code__, form) for form in written.get(function.__qualname__, [])):
        raise Conflict(
            f"{place} was changed after this process imported it: {function.__qualname__} in memory is not the one in "
            "the file. Start a new process (in a notebook: restart the kernel), then run again."
        )


@functools.lru_cache(maxsize=256)
def _codes_in(content: bytes, place: str) -> dict[str, list[CodeType]]:
    """The code objects that a file's content is compiled to, by qualified name."""
    found: dict[str, list[CodeType]] = {}
    waiting = [compile(content, place, "exec", dont_inherit=True)]
    while waiting:
        current = waiting.pop()
        found.setdefault(current.co_qualname, []).append(current)
        waiting.extend(const for const in current.co_consts if isinstance(const, CodeType))
    return found


def _functions(thing: Any, module: str) -> list[FunctionType]:
    thing = inspect.unwrap(thing) if callable(thing) else thing
    members = vars(thing).values() if isinstance(thing, type) else [thing]
    return [one for one in members if isinstance(one, FunctionType) and one.__module__ == module]


def _is_same(one: CodeType, other: CodeType) -> bool:
    """Whether two code objects do the same, wherever in their files they stand."""
    if (one.co_code, one.co_names, one.co_varnames) != (other.co_code, other.co_names, other.co_varnames):
        return False
    return len(one.co_consts) == len(other.co_consts) and all(
        _is_same(a, b)
        if isinstance(a, CodeType) and isinstance(b, CodeType)
        else type(a) is type(b) and repr(a) == repr(b)
        for a, b in zip(one.co_consts, other.co_consts, strict=True)
    )


def _parts_of_object(function: FunctionType, seen: set[int]) -> Iterator[tuple[str, str]]:
    """The same for a function that no file's top level holds: made inside another function, or in a notebook."""
    seen.add(id(function))
    yield f"{function.__module__}:{function.__qualname__}", _source_digest(function)
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield from _parts_of_value(function, name, function.__globals__[name], seen, is_global=True)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield from _parts_of_value(function, name, cell.cell_contents, seen, is_global=False)


def _names(code: CodeType) -> set[str]:
    inner = [_names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*inner)


def _parts_of_value(
    function: FunctionType, name: str, value: Any, seen: set[int], *, is_global: bool
) -> Iterator[tuple[str, str]]:
    value = inspect.unwrap(value) if callable(value) else value
    if is_constant(value) or isinstance(value, Path):
        yield f"{function.__module__}:{function.__qualname__}.{name} =", repr(value)
    elif isinstance(value, ModuleType):
        yield f"import {value.__name__}", ""
    elif isinstance(value, FunctionType | type):
        if id(value) in seen or value.__module__ != function.__module__:
            return
        if isinstance(value, FunctionType):
            yield from _parts_of_object(value, seen)
        else:
            seen.add(id(value))
            yield f"{value.__module__}:{value.__qualname__}", _source_digest(value)
    elif not is_global:
        raise Invalid(
            f"step {function.__name__} was made inside a function and uses {name} from there, a "
            f"{type(value).__name__}, whose changes cannot be seen. Pass it as an argument, or write the step at the top "
            "level of a file."
        )


def _source_digest(thing: FunctionType | type) -> str:
    try:
        text = normal_text(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, SyntaxError) as error:
        raise Invalid(
            f"the source of {thing.__qualname__} cannot be read: {error}. Write it in a file or a notebook's cell."
        ) from error
    return digest_of(text)[:DIGITS]
