"""The code that a run uses, frozen: captured by content, checked out into a folder, imported from there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everloop.errors import Conflict, EverloopError, Invalid, NotFound
from everloop.pipelines.parsing import OURS
from everloop.pipelines.tracing import Pipeline

_BESIDE = ("*.sql", "*.golden.json")

if TYPE_CHECKING:
    from everloop.pipelines.plan import Plan
    from everloop.pipelines.project import Project
    from everloop.pipelines.records import PipelineRun
    from everloop.tracking import Code
    from everloop.workspace import Workspace


def capture(ws: Workspace, project: Project, module: str, *, known: Code | None = None) -> Code:
    """Record the module and all of the project that it imports, with the queries and golden rows beside them.

    With `known` code nothing is recorded: it is checked to be what will run, and returned.

    Raises
    ------
    Conflict
        A file was changed while it was read, or is another one in the known code.
    """
    from everloop import tracking  # noqa: PLC0415  (SQLAlchemy: a process that only runs a step does without)

    places = {one.place for one in project.reached_from(module)}
    code = known or tracking.capture_code(ws, project.root, _with_what_they_read(project, places))
    for place in sorted(places):
        if place not in code.files or ws.blobs.get(code.files[place]) != project.content(place):
            raise Conflict(
                f"{place} is not as it was captured: it was changed meanwhile. Run again; after 'everloop apply' if the loop "
                "file was applied."
            )
    return code


def _with_what_they_read(project: Project, places: set[str]) -> list[Path]:
    """The files with the queries and golden rows beside them, which declarations read: they are code too."""
    folders = {(project.root / place).parent for place in places}
    found = (path for folder in folders for kind in _BESIDE for path in folder.glob(kind))
    return sorted({*map(Path, places), *(path.relative_to(project.root) for path in found)})


def check_out(ws: Workspace, code: str) -> Path:
    """The folder in the home that holds captured code, written at its first use."""
    from everloop import tracking  # noqa: PLC0415  (as above)

    return tracking.check_out(ws, code, ws.home.absolute() / "code" / code)


def entry_file(ws: Workspace, run: PipelineRun) -> Path:
    """The file of a run's pipeline, in the snapshot of the code that it runs from. Raises NotFound."""
    module = run.entry.partition(":")[0].replace(".", "/")
    for name in () if run.code is None else run.plan["folders"]:
        folder = check_out(ws, run.code or "") / str(name)
        for place in (folder / f"{module}.py", folder / module / "__init__.py"):
            if place.is_file():
                return place
    raise NotFound(f"run {run.id} began without the file of {run.entry}. Run the pipeline from a file.")


def use(code: Path, *, root: Path, folders: Sequence[str]) -> None:
    """Let this process import the project from its snapshot instead of from the folder it was captured in."""
    live = {(root / folder).resolve() for folder in folders}
    others = [entry for entry in sys.path if Path(entry or ".").resolve() not in live]
    sys.path[:] = [*(str(code / folder) for folder in folders), *others]


def import_pipeline(entry: str) -> Pipeline[..., Any]:
    """The pipeline named `module:function`.

    Raises
    ------
    NotFound
        The module or the function is not there.
    Invalid
        The module cannot be imported, or what is there is no pipeline.
    """
    module_name, _, name = entry.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise NotFound(
            f"module {error.name!r}, which {entry} needs, is neither installed nor among the captured files. A file is "
            "captured when it is imported by a plain import statement, directly or through others."
        ) from error
    except EverloopError:
        raise
    except Exception as error:
        raise Invalid(
            f"{module_name} cannot be imported: {type(error).__name__}: {error}. Importing a loop file only declares; mend it "
            "so that it imports without the rest."
        ) from error
    found = getattr(module, name, None)
    if not isinstance(found, Pipeline):
        raise NotFound(
            f"{module_name} has no pipeline {name!r}. One is a function with @pipeline at the file's top level."
        )
    return found


def imported_from(code: Path, plan: Plan) -> Pipeline[..., Any]:
    """A plan's pipeline, from the snapshot in `code`, in this process.

    Raises
    ------
    Conflict
        Another form of its module was imported here before.
    """
    module = plan.entry.partition(":")[0]
    if module.partition(".")[0] == OURS:  # installed, and no part of the snapshot
        return import_pipeline(plan.entry)
    if module not in sys.modules:
        use(code, root=Path(plan.root), folders=plan.folders)
    elif not _is_imported_from(code, plan.folders, module):
        raise Conflict(
            f"this process has another {module} imported than the run's. Use executor=Processes(), or another process."
        )
    return import_pipeline(plan.entry)


def _is_imported_from(code: Path, folders: Sequence[str], module: str) -> bool:
    """Whether the module in this process was made from the snapshot's files, wherever it was imported from."""
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if file is None:
        return False
    for folder in folders:
        for place in (
            code / folder / f"{module.replace('.', '/')}.py",
            code / folder / module.replace(".", "/") / "__init__.py",
        ):
            if place.is_file():
                return place.read_bytes() == Path(file).read_bytes()
    return False
