"""The user's project as files: which modules it has and what they import.

Everything is read from source and nothing is imported, so that the answer is the same in every process.
"""

from __future__ import annotations

import functools
import site
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from everloop.errors import Invalid
from everloop.pipelines.parsing import OURS, Module, parsed

_MARKS = ("pyproject.toml", "setup.py", ".git", "loop.py")


@dataclass(frozen=True)
class Project:
    """The folder `root` and the folders in it (relative, in order) from which modules are imported.

    Reads each file once, so that what was fingerprinted is what is captured.
    """

    root: Path
    folders: tuple[str, ...]
    _bytes: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    _modules: dict[str, Module | None] = field(default_factory=dict, compare=False, repr=False)

    def place_of(self, module: str) -> str | None:
        """The module's file relative to the root, or None when it is not of this project."""
        parts = module.split(".")
        if parts[0] == OURS:
            return None
        for folder in self.folders:
            stem = PurePosixPath(folder, *parts)
            for place in (stem / "__init__.py", stem.with_name(stem.name + ".py")):
                if (self.root / place).is_file():
                    return str(place)
        return None

    def has(self, module: str) -> bool:
        """Whether the project has such a module, or a folder of modules of this name."""
        if self.place_of(module) is not None:
            return True
        parts = module.split(".")
        return parts[0] != OURS and any(
            self.root.joinpath(folder, *parts).is_dir() for folder in self.folders
        )

    def content(self, place: str) -> bytes:
        if place not in self._bytes:
            self._bytes[place] = (self.root / place).read_bytes()
        return self._bytes[place]

    def module(self, name: str) -> Module | None:
        if name not in self._modules:
            place = self.place_of(name)
            self._modules[name] = None if place is None else parsed(name, place, self.content(place))
        return self._modules[name]

    def reached_from(self, name: str, *, eagerly: bool = False) -> list[Module]:
        """The module and all that it imports, directly and through others, with the packages around them."""
        found: dict[str, Module] = {}
        waiting = [name]
        while waiting:
            current = waiting.pop()
            waiting += [package for package in _packages(current) if package not in found]
            module = self.module(current)
            if current in found or module is None:
                continue
            found[current] = module
            for imported in module.imported_modules(eagerly=eagerly):
                waiting.append(imported.module)
                if imported.symbol is not None:
                    waiting.append(f"{imported.module}.{imported.symbol}")
        return [found[key] for key in sorted(found)]


def project_of(module: str, file: str | Path, *, root: Path | None = None) -> Project:
    """The project that a module belongs to.

    Without a `root` it is the nearest folder at or above the module's import folder that holds pyproject.toml,
    setup.py, .git or loop.py, or else that import folder.

    Raises
    ------
    Invalid
        The module is not below `root`.
    """
    path = Path(file).resolve()
    folder = path.parent
    depth = module.count(".") + (path.name == "__init__.py")
    for _ in range(depth if module != "__main__" else 0):
        folder = folder.parent
    if root is not None and not folder.is_relative_to(root.resolve()):
        raise Invalid(
            f"{path} is not below {root}; a pipeline is part of its project. Name the project's folder."
        )
    root = (
        root.resolve()
        if root is not None
        else next(
            (above for above in (folder, *folder.parents) if any((above / mark).exists() for mark in _MARKS)),
            folder,
        )
    )
    folders = [folder, *(entry for entry in _not_installed(*sys.path) if entry.is_relative_to(root))]
    return Project(root, tuple(dict.fromkeys(entry.relative_to(root).as_posix() for entry in folders)))


def files_reached(file: Path, *, root: Path) -> tuple[str, ...]:
    """The project's files that a module imports, itself first of all, by their paths below `root`."""
    project = project_of(file.stem, file, root=root)
    return tuple(one.place for one in project.reached_from(file.stem))


def module_name(function: Any) -> str:
    """The name under which another process imports the function's module: a script's is its file's name."""
    name: str = function.__module__
    if name != "__main__":
        return name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    return Path(getattr(main, "__file__", "__main__")).stem


def file_of(function: Any) -> Path | None:
    """The source file that a function was defined in; None in a notebook or an interactive shell."""
    path = Path(function.__code__.co_filename)
    return path if path.is_file() and not (function.__module__ == "__main__" and in_notebook()) else None


def in_notebook() -> bool:
    """Whether the main module is no file but cells. A debugger writes them into files, which are no part of a project."""
    return getattr(sys.modules["__main__"], "__file__", None) is None


def _not_installed(*entries: str) -> list[Path]:
    """The folders among those of `sys.path` that hold a user's own modules."""
    here = Path.cwd()
    found = (_resolved(entry, here) for entry in entries)
    return [entry for entry in found if not is_installed(entry)]


@functools.lru_cache(maxsize=512)
def _resolved(entry: str, here: Path) -> Path:
    return (here / entry).resolve()


@functools.cache
def installed_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    found = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return tuple(
        Path(entry).resolve() for entry in [*found, *site.getsitepackages(), site.getusersitepackages()]
    )


@functools.lru_cache(maxsize=512)
def is_installed(entry: Path) -> bool:
    """Whether a file or folder belongs to Python or to an installed package."""
    named = {"site-packages", "dist-packages", "lib-dynload"}.intersection(entry.parts)
    return bool(named) or any(entry.is_relative_to(folder) for folder in installed_folders())


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
