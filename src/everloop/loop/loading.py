"""Loading a loop file: running it once to learn what it declares.

This runs the user's code, so it happens in commands and in job processes, never in the process that answers the API.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from everloop.errors import Conflict, EverloopError, Invalid, NotFound
from everloop.loop.declare import Collection, collecting
from everloop.pipelines import Pipeline

_roots: set[Path] = set()  # of the loop files that this process has loaded


@dataclass(frozen=True)
class Loop:
    """A loaded loop file: what it declares, its module, and its project's folder."""

    file: Path
    declared: Collection
    module: ModuleType

    @property
    def root(self) -> Path:
        return self.file.parent

    @property
    def pipelines(self) -> dict[str, Pipeline[..., Any]]:
        """The pipelines that the file names, by name."""
        return {one.name: one for one in vars(self.module).values() if isinstance(one, Pipeline)}

    def pipeline(self, name: str) -> Pipeline[..., Any]:
        """Raises NotFound."""
        if name not in self.pipelines:
            raise NotFound(
                f"{self.file.name} has no pipeline {name!r}; it has {', '.join(self.pipelines) or 'none'}."
            )
        return self.pipelines[name]


def load(file: Path) -> Loop:
    """Run a loop file and gather its declarations.

    Raises
    ------
    NotFound
        There is no such file.
    Invalid
        It is not Python, or it raised: the message names the line.
    """
    if not file.is_file():
        raise NotFound(f"there is no loop file {file}. Name one, or let 'everloop init FILE.csv' write it.")
    file = file.resolve()
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise Invalid(f"{file} is not a Python file; a loop file ends with .py.")
    module = importlib.util.module_from_spec(spec)
    with _importable(file, module), collecting() as declared:
        try:
            spec.loader.exec_module(module)
        except Conflict:
            raise
        except EverloopError as error:
            raise Invalid(f"{_place(error, file)}: {error}") from error
        except SyntaxError as error:
            raise Invalid(
                f"{error.filename}, line {error.lineno}: {error.msg}. Mend the loop file."
            ) from error
        except ModuleNotFoundError as error:
            raise Invalid(
                f"{_place(error, file)}: there is no module {error.name!r}. Install it (pip install {error.name}), or mend the loop file."
            ) from error
        except Exception as error:  # a user's file may raise anything; it is told where
            raise Invalid(
                f"{_place(error, file)}: {type(error).__name__}: {error}. Mend the loop file."
            ) from error
    return Loop(file, declared, module)


@contextmanager
def _importable(file: Path, module: ModuleType) -> Iterator[None]:
    """The file's folder is searched first, and its module is known under its name, as `python FILE` would have it."""
    _forget_other_versions(file.parent)
    sys.path.insert(0, str(file.parent))
    sys.modules[file.stem] = module
    try:
        yield
    except BaseException:
        sys.modules.pop(file.stem, None)
        raise
    finally:
        sys.path.remove(str(file.parent))


def _forget_other_versions(root: Path) -> None:
    """Let modules beside the file be imported anew where another loop file's folder has lent them: a worker that
    stays for several jobs loads one code snapshot after the other.
    """
    others = _roots - {root}
    for name, module in list(sys.modules.items()):
        file, top = getattr(module, "__file__", None), root / name.partition(".")[0]
        if file is None or not (top.with_suffix(".py").is_file() or top.is_dir()):
            continue
        if not Path(file).is_relative_to(root) and any(Path(file).is_relative_to(one) for one in others):
            del sys.modules[name]
    _roots.add(root)


def _place(error: BaseException, file: Path) -> str:
    """The last line of the user's project that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(file.parent)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else str(file)
