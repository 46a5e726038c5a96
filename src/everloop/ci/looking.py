"""Looking at a checkout: what its loop file declares and which code its steps reach; nothing is run."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from everloop import loop, pipelines, tracking
from everloop.ci.records import DeclaredPipeline, Look, Step
from everloop.errors import EverloopError
from everloop.loop import DeclaredDataset, DeclaredLabels, DeclaredModel, Loop
from everloop.pipelines import Pipeline


def look(file: Path, params: Mapping[str, Mapping[str, Any]]) -> Look:
    """Load a loop file and fingerprint its pipelines. This runs the file, so it happens in a process of its own.

    Raises
    ------
    NotFound, Invalid
        There is no such file, or it cannot be loaded.
    """
    found = loop.load(file)
    models = {one.pipeline.name: one.name for one in found.declared.of(DeclaredModel)}
    kinds = {
        **{one.name: "dataset" for one in found.declared.of(DeclaredDataset)},
        **{one.name: "labels" for one in found.declared.of(DeclaredLabels)},
    }
    seen = [
        _pipeline(found, one, models.get(name), kinds, params.get(name, {}))
        for name, one in found.pipelines.items()
    ]
    return Look(
        declared=loop.stored(found.declared),
        pipelines=tuple(seen),
        files=tuple(sorted(_files(found))),
        lines=dict(_lines(found.file)),
        taxonomies={
            one.name: blake3((found.root / one.classes).read_bytes()).hexdigest()
            for one in found.declared.of(DeclaredLabels)
            if isinstance(one.classes, str) and (found.root / one.classes).is_file()
        },
        packages=_packages(),
    )


def _pipeline(
    found: Loop,
    pipeline: Pipeline[..., object],
    model: str | None,
    kinds: dict[str, str],
    params: Mapping[str, Any],
) -> DeclaredPipeline:
    file, line = _place(
        found, pipeline.function.__code__.co_filename, pipeline.function.__code__.co_firstlineno
    )
    try:
        planned = pipelines.planned(pipeline, params, root=found.root)
    except EverloopError as error:
        return DeclaredPipeline(pipeline.name, model, (), "", file, line, str(error))
    functions = {node.name: node.step.function for node in planned.graph.nodes}
    declared = {name: source.name for name, source in planned.graph.sources.items()}
    steps = []
    for step in planned.plan.steps:
        code = functions[step.name].__code__
        at, number = _place(found, code.co_filename, code.co_firstlineno)
        steps.append(
            Step(
                name=step.name,
                label=step.label,
                source=planned.sources[step.source],
                call=json.dumps([step.bindings, step.guards, step.cache], sort_keys=True, default=str),
                needs=step.waits_for,
                inputs=tuple(
                    f"{kinds.get(declared[one], 'dataset')} {declared[one]}" for one in step.sources
                ),
                file=at,
                line=number,
            )
        )
    output = json.dumps(planned.plan.output, sort_keys=True)
    return DeclaredPipeline(pipeline.name, model, tuple(steps), output, file, line)


def _place(found: Loop, file: str, line: int) -> tuple[str, int]:
    """A place by its file's path in the project; the loop file for code that is not of the project."""
    path = Path(file).resolve()
    if path.is_relative_to(found.root):
        return path.relative_to(found.root).as_posix(), line
    return found.file.name, 1


def _files(found: Loop) -> Iterator[str]:
    """The project's files that the loop file imports, and the files with classes."""
    yield from pipelines.files_reached(found.file, root=found.root)
    for labels in found.declared.of(DeclaredLabels):
        if isinstance(labels.classes, str):
            yield labels.classes


def _lines(file: Path) -> Iterator[tuple[str, int]]:
    """Where in a loop file models are declared and their gates stand."""
    for call in ast.walk(ast.parse(file.read_bytes())):
        if (model := _named(call, "model")) is None or not isinstance(call, ast.Call):
            continue
        yield f"model:{model}", call.lineno
        for inner in ast.walk(call):
            about = _named(inner, "gate")
            if about is None or not isinstance(inner, ast.Call):
                continue
            yield f"gate:{model}:{about}", inner.lineno
            for bound in inner.keywords:  # a metric's gates are told apart by their bounds
                name = str(bound.arg).replace("below_live_by_at_most", "against_live")
                yield f"gate:{model}:{about}:{name}", inner.lineno


def _named(node: ast.AST, function: str) -> str | None:
    """What a call of a function of this name is first given, as a text or a name."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    first = node.args[0]
    if called != function:
        return None
    if isinstance(first, ast.Constant):
        return str(first.value)
    return first.id if isinstance(first, ast.Name) else None


def _packages() -> dict[str, str]:
    found = tracking.installed()
    return {
        **dict(found.packages),
        "Python": f"{found.implementation} {found.python}",
        "platform": found.platform,
    }
