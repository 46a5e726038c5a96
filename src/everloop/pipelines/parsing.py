"""A source file taken apart: what it binds at its top level, and what each statement refers to."""

from __future__ import annotations

import ast
import functools
import symtable
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from everloop.errors import Invalid

OURS = "everloop"  # part of the environment, also where it is installed from a checkout

Chain = tuple[str, ...]
"""A name and the attributes taken of it: `lib.text.clean` is ("lib", "text", "clean")."""


@dataclass(frozen=True)
class Imported:
    """What an import binds: a module, or `symbol` of it (which may be a submodule)."""

    module: str
    symbol: str | None = None


@dataclass(frozen=True)
class Statement:
    """A top-level statement: its normal text, and what it refers to by global names and by imports inside it."""

    text: str
    chains: frozenset[Chain]
    inner_imports: Mapping[str, Imported]
    is_assignment: bool


@dataclass(frozen=True)
class Module:
    """A module of the project, parsed."""

    name: str
    place: str
    imports: Mapping[str, Imported]
    bindings: Mapping[str, tuple[Statement, ...]]
    statements: tuple[Statement, ...]
    stars: tuple[str, ...]

    def binds(self, name: str) -> bool:
        return name in self.bindings or name in self.imports

    def imported_modules(self, *, eagerly: bool) -> Iterator[Imported]:
        """What it imports: only at its top level, or also inside functions."""
        yield from self.imports.values()
        for star in self.stars:
            yield Imported(star)
        if not eagerly:
            for statement in self.statements:
                yield from statement.inner_imports.values()


@functools.lru_cache(maxsize=512)
def parsed(name: str, place: str, content: bytes) -> Module:
    """A module from its file. Raises Invalid when it is not valid Python."""
    try:
        tree = ast.parse(content, place)
        table = symtable.symtable(content, place, "exec")  # type: ignore[arg-type]  # bytes carry their encoding
    except SyntaxError as error:
        raise Invalid(f"{place}, line {error.lineno}, is not valid Python: {error.msg}. Mend it.") from error
    return _Reader(name, place, table).read(tree)


def normal_text(source: str) -> str:
    """The syntax tree of source text as one line, without what does not change what the code does."""
    tree = ast.parse(source)
    return ast.dump(_Normal(_step_names(tree)).visit(tree))


class _Reader:
    """Takes one parsed file apart."""

    def __init__(self, name: str, place: str, table: symtable.SymbolTable) -> None:
        self.name = name
        self.place = place
        self.package = name if place.endswith("__init__.py") else name.rpartition(".")[0]
        self.globals = _globals_by_scope(table)
        self.imports: dict[str, Imported] = {}
        self.bindings: dict[str, list[Statement]] = {}
        self.statements: list[Statement] = []
        self.stars: list[str] = []

    def read(self, tree: ast.Module) -> Module:
        is_step = _step_names(tree)
        _Normal(is_step).visit(tree)
        for node in tree.body:
            self._take(node)
        bindings = {key: tuple(found) for key, found in self.bindings.items()}
        return Module(
            self.name, self.place, self.imports, bindings, tuple(self.statements), tuple(self.stars)
        )

    def _take(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            self.imports.update(self._imports(node))
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                self.stars.append(self._absolute(node))
            return
        if isinstance(node, ast.If) and _is_skipped(node.test):
            return
        inner: dict[str, Imported] = {}
        for child in ast.walk(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                inner.update(self._imports(child))
        statement = Statement(
            ast.dump(node),
            frozenset(_chains(node, self._names(node))),
            inner,
            not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef),
        )
        self.statements.append(statement)
        for bound in _bound(node, self.imports):
            self.bindings.setdefault(bound, []).append(statement)

    def _names(self, node: ast.stmt) -> set[str] | None:
        """The global names that a definition refers to; None: all names in it (it runs at the top level)."""
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return None
        header: list[ast.AST] = list(node.decorator_list)
        if isinstance(node, ast.ClassDef):
            header += [*node.bases, *node.keywords]
        else:
            header += [node.args, *([node.returns] if node.returns else [])]
        outside = {child.id for part in header for child in ast.walk(part) if isinstance(child, ast.Name)}
        return self.globals.get(node.name, set()) | outside

    def _imports(self, node: ast.Import | ast.ImportFrom) -> dict[str, Imported]:
        if isinstance(node, ast.Import):
            return {
                alias.asname or alias.name.partition(".")[0]: Imported(
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                for alias in node.names
            } | {f" {alias.name}": Imported(alias.name) for alias in node.names if "." in alias.name}
        module = self._absolute(node)
        return {
            alias.asname or alias.name: Imported(module, alias.name)
            for alias in node.names
            if alias.name != "*"
        }

    def _absolute(self, node: ast.ImportFrom) -> str:
        if node.level == 0:
            return node.module or ""
        parts = self.package.split(".")
        base = parts[: len(parts) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)


def _globals_by_scope(table: symtable.SymbolTable) -> dict[str, set[str]]:
    """By name of each function and class at the top level: the global names that it and what is in it refer to."""
    found: dict[str, set[str]] = {}
    for child in table.get_children():
        found.setdefault(child.get_name(), set()).update(_globals_in(child))
    return found


def _globals_in(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_global():
            yield symbol.get_name()
    for child in table.get_children():
        yield from _globals_in(child)


def _chains(node: ast.AST, names: set[str] | None) -> Iterator[Chain]:
    """All names in a statement with the attributes taken of them, the longest form of each."""
    waiting: list[ast.AST] = [node]
    while waiting:
        current = waiting.pop()
        chain = _chain(current)
        if chain is not None:
            if names is None or chain[0] in names:
                yield chain
            continue
        waiting.extend(ast.iter_child_nodes(current))


def _chain(node: ast.AST) -> Chain | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def _bound(node: ast.stmt, imports: Mapping[str, Imported]) -> set[str]:
    """The names that a top-level statement binds, or changes in place by assigning to a part or calling a method."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    found: set[str] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(child.name)
        elif isinstance(child, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in child.names}
        elif isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            found.add(child.id)
        elif isinstance(child, ast.Attribute | ast.Subscript) and isinstance(child.ctx, ast.Store):
            found |= _base(child)
        elif isinstance(child, ast.Expr) and isinstance(child.value, ast.Call):
            found |= _base(child.value.func) if isinstance(child.value.func, ast.Attribute) else set()
    return found - imports.keys()


def _base(node: ast.expr) -> set[str]:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _is_skipped(test: ast.expr) -> bool:
    """`if TYPE_CHECKING:` and `if __name__ == "__main__":` do not run when a step does."""
    names = {child.id for child in ast.walk(test) if isinstance(child, ast.Name)}
    attributes = {child.attr for child in ast.walk(test) if isinstance(child, ast.Attribute)}
    return "TYPE_CHECKING" in names | attributes or "__name__" in names


def _step_names(tree: ast.Module) -> set[str]:
    """Under which names this file knows the decorator `step`."""
    return {"step"} | {
        alias.asname
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OURS)
        for alias in node.names
        if alias.name == "step" and alias.asname
    }


class _Normal(ast.NodeTransformer):
    """Takes out what does not change what code does: docstrings, and the step decorator with its options."""

    def __init__(self, step_names: set[str]) -> None:
        self._step_names = step_names

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [one for one in node.decorator_list if not self._is_step(one)]
        return self._undocumented(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._undocumented(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        return self._undocumented(node)

    def _is_step(self, decorator: ast.expr) -> bool:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        chain = _chain(target)
        return chain is not None and chain[-1] in self._step_names

    def _undocumented(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node
